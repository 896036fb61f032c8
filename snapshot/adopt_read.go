package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/snapshotd/snapshotd/internal/etcd/database"
)

// errNoSnapshot: an object has the name of a snapshot and is none.
var errNoSnapshot = errors.New("it does not begin like a database of etcd")

// readForeign reads the copy of a record's file on a backend through the spool, and returns what it holds. The error has
// ReasonChecksumMismatch or ReasonSnapshotUnreadable when it is damaged, and is errNoSnapshot when it is none.
func (c *Cluster) readForeign(ctx context.Context, b Backend, rec *Record) (*Snapshot, error) {
	dir, err := os.MkdirTemp(c.cfg.SpoolDir, "adopt-")
	if err != nil {
		return nil, spoolError("create", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "snapshot"+dataSuffix)
	s, err := c.spoolForeign(ctx, b, rec, path)
	if err != nil {
		return nil, err
	}
	res, err := database.File(ctx, path, database.Options{TempDir: dir})
	switch {
	case errors.Is(err, database.ErrUnreadable):
		return nil, &Error{Reason: ReasonSnapshotUnreadable, Backend: b.Name(), Message: "inspect " + b.URI(c.key(rec.File)), Err: err}
	case err != nil:
		return nil, err
	}
	s.Revision, s.TotalKeys, s.Hash, s.StorageVersion = res.Revision, res.TotalKeys, res.Hash, res.StorageVersion
	return s, nil
}

// spoolForeign writes what etcd sent to path, as far as the database itself says that there is: an archive may pretend to
// hold anything.
func (c *Cluster) spoolForeign(ctx context.Context, b Backend, rec *Record, path string) (*Snapshot, error) {
	in, err := OpenCopy(ctx, b, c.key(rec.File), &Snapshot{Compression: rec.Compression})
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }()
	head, size, err := readHead(in)
	if err != nil {
		return nil, err
	}
	if err := checkSpace(filepath.Dir(path), size); err != nil {
		return nil, err
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, spoolError("create", err)
	}
	defer func() { _ = out.Close() }()
	limit := &limitedWriter{w: out, left: size + checksumSize}
	if _, err = limit.Write(head); err == nil {
		_, err = io.CopyBuffer(struct{ io.Writer }{limit}, struct{ io.Reader }{in}, make([]byte, fetchBuffer))
	}
	cr := in.(*copyReader)
	switch {
	case limit.err != nil:
		return nil, spoolError("write", limit.err)
	case errors.Is(err, errTooLong):
		return nil, cr.damaged(fmt.Errorf("%w: it says that it has %d bytes", errTooLong, size))
	case err != nil:
		return nil, err
	}
	return &Snapshot{DBSize: cr.dbSize, SHA256: cr.dbSum, StoredSize: cr.stored.n, StoredSHA256: cr.stored.hex()}, nil
}

// readHead reads the first bytes of a copy, and returns how large the database says that it is.
func readHead(in io.Reader) (head []byte, size int64, err error) {
	head = make([]byte, database.HeadSize)
	n, err := io.ReadFull(in, head)
	size, ok := database.DeclaredSize(head[:n])
	switch {
	case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && ReasonOf(err) != ReasonChecksumMismatch:
		return nil, 0, err
	case !ok:
		return nil, 0, errNoSnapshot
	}
	return head, size, nil
}

var errTooLong = errors.New("the database in it is longer than it says")

// limitedWriter takes so many bytes and no more.
type limitedWriter struct {
	w    io.Writer
	left int64
	err  error // of w
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > l.left {
		return 0, errTooLong
	}
	n, err := l.w.Write(p)
	l.left -= int64(n)
	l.err = err
	return n, err
}
