package repository

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"

	"github.com/snapshotd/snapshotd/snapshot"
)

// StoredCopy reads a copy as it is stored, without any key, and remembers why it ended: io.EOF comes only when size and
// checksum were right, so a backend that is given a StoredCopy commits nothing else.
type StoredCopy struct {
	r   *copyReader
	err error // with which the reading has ended; io.EOF when the copy is good
}

// OpenStored opens the copy of a snapshot as it is stored, compressed and encrypted as it may be. Size and checksum are
// compared with the snapshot's as [Repository.OpenCopy] does it, so an encrypted copy can be checked and copied without
// any identity; the database in it is not looked at. The caller closes it.
func (r *Repository) OpenStored(ctx context.Context, rec *snapshot.Record) (*StoredCopy, error) {
	c, err := r.openStored(ctx, r.dataKey(rec), &rec.Snapshot)
	if err != nil {
		return nil, err
	}
	return &StoredCopy{r: c}, nil
}

func (r *Repository) openStored(ctx context.Context, key string, want *snapshot.Snapshot) (*copyReader, error) {
	c, err := r.openObject(ctx, key, Range{}, want)
	if err != nil {
		return nil, err
	}
	c.decoded = io.NopCloser(c.stored)
	return c, nil
}

// Read implements [io.Reader].
func (s *StoredCopy) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.err = err
	return n, err
}

// Close ends the reading at any place.
func (s *StoredCopy) Close() error { return s.r.Close() }

// Failed returns why this copy, or reading it, has failed; nil when it has not. A writer that failed with another error
// has failed by itself.
func (s *StoredCopy) Failed() error {
	if errors.Is(s.err, io.EOF) {
		return nil
	}
	return s.err
}

// StoredReader hashes and counts an object as it is stored. It keeps its error, so that a decoder's complaint about a
// cut stream is not taken for damage when the backend broke off. Use [NewStoredReader].
type StoredReader struct {
	r     io.Reader
	sum   hash.Hash
	n     int64
	limit int64 // a longer object is not read to its end; 0 is no limit
	err   error
}

// NewStoredReader returns a reader of an object. One that is longer than the limit is not read to its end; 0 is no
// limit.
func NewStoredReader(r io.Reader, limit int64) *StoredReader {
	return &StoredReader{r: r, sum: sha256.New(), limit: limit}
}

// SHA256 returns the checksum of the bytes that were read, in hex.
func (s *StoredReader) SHA256() string { return hex.EncodeToString(s.sum.Sum(nil)) }

// Size returns how many bytes were read.
func (s *StoredReader) Size() int64 { return s.n }

// Failed returns the error of the object; nil when it has ended, or goes on.
func (s *StoredReader) Failed() error {
	if s.err == nil || errors.Is(s.err, io.EOF) {
		return nil
	}
	return s.err
}

// Read implements [io.Reader].
func (s *StoredReader) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.r.Read(p)
	s.n += int64(n)
	s.sum.Write(p[:n])
	if s.limit > 0 && s.n > s.limit && err == nil {
		err = io.EOF // it is too long, and the count says so
	}
	s.err = err
	return n, err
}
