package repository

import (
	"fmt"
	"io"

	"github.com/snapshotd/snapshotd/internal/etcd/database"
	"github.com/snapshotd/snapshotd/snapshot"
)

// bounded returns a writer that takes no more than the database in the copy should have: some megabytes can decompress
// to terabytes, and must not fill the disk. A copy that is not compressed has the size of its object, and without
// checksums nothing is known of the database.
func (c *Check) bounded(w io.Writer) io.Writer {
	b := &boundedWriter{w: w, damaged: func(err error) error { return c.Repository.damaged(c.key(), err) }}
	switch s := c.Record; {
	case c.SkipHashes || s.Compression == snapshot.CompressionNone:
		return w
	case s.Trigger == snapshot.TriggerAdopted:
		b.head = make([]byte, 0, database.HeadSize) // no manifest says how large it is; the database itself does
	case s.DBSize == 0:
		return w
	default:
		b.left = decodedSize(&s.Snapshot)
	}
	return b
}

type boundedWriter struct {
	w       io.Writer
	head    []byte // the first bytes, until they have said the size; nil when it is known
	left    int64  // how many bytes may still come
	damaged func(error) error
}

// Write implements [io.Writer].
func (b *boundedWriter) Write(p []byte) (int, error) {
	if b.head != nil {
		had := len(b.head)
		b.head = append(b.head, p[:min(len(p), cap(b.head)-had)]...)
		// Until the size is known, bytes pass: there are only a few of them.
		if len(b.head) < cap(b.head) {
			return b.w.Write(p)
		}
		size, ok := database.DeclaredSize(b.head)
		if !ok {
			return 0, b.damaged(ErrNoSnapshot)
		}
		b.left, b.head = size+ChecksumSize-int64(had), nil
	}
	// The write is refused as a whole: no part of it is of any use.
	if int64(len(p)) > b.left {
		return 0, b.damaged(fmt.Errorf("%w: more bytes come out of it", errTooLong))
	}
	n, err := b.w.Write(p)
	b.left -= int64(n)
	return n, err
}
