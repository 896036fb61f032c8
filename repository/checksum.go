package repository

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"sync"

	"github.com/snapshotd/snapshotd/snapshot"
)

// ChecksumSize is how many bytes etcd sends after the database: the sha256 of the database.
const ChecksumSize = sha256.Size

// pageUnit divides the size of every etcd database: 512 bytes divide every page size.
const pageUnit = 512

// writeSize is how much is written to a file at a time, at most. Writes of 4 MiB were measured to take a restore 2.5 s
// more of system time for 1.2 GB, on Linux 6.18 and ext4; docs/performance.md has the figures.
const writeSize = 128 << 10

// Trailer verifies the checksum at the end of a snapshot stream as the stream goes by: its last 32 bytes are the sha256
// of all bytes before them.
type Trailer struct {
	sum  hash.Hash
	size int64  // bytes seen
	tail []byte // the last bytes seen, at most 32, not in sum yet
}

// NewTrailer returns a Trailer at the beginning of a stream.
func NewTrailer() *Trailer { return &Trailer{sum: sha256.New()} }

// Write takes the next bytes of the stream. It never fails.
func (t *Trailer) Write(p []byte) (int, error) {
	t.size += int64(len(p))
	// A long write holds the last 32 bytes itself, and no byte is copied twice.
	if len(p) >= sha256.Size {
		t.sum.Write(t.tail)
		t.sum.Write(p[:len(p)-sha256.Size])
		t.tail = append(t.tail[:0], p[len(p)-sha256.Size:]...)
		return len(p), nil
	}
	t.tail = append(t.tail, p...)
	if n := len(t.tail) - sha256.Size; n > 0 {
		t.sum.Write(t.tail[:n])
		t.tail = append(t.tail[:0], t.tail[n:]...)
	}
	return len(p), nil
}

// Verify returns the size of the database and its checksum in hex, or why the stream is not whole.
func (t *Trailer) Verify() (size int64, sum string, err error) {
	// The length is looked at first: a stream that was cut off needs other advice than one that was changed.
	if t.size%pageUnit != sha256.Size {
		return 0, "", snapshot.ReasonChecksumMismatch.
			New("verify the snapshot stream: it ended after %d bytes, without the checksum that follows the database", t.size).
			Advise("the stream was cut off or the member's database is damaged; save again, and check the member's log")
	}
	size = t.size - sha256.Size
	sum = hex.EncodeToString(t.sum.Sum(nil))
	if want, _ := hex.DecodeString(sum); !bytes.Equal(t.tail, want) {
		return 0, "", snapshot.ReasonChecksumMismatch.
			New("verify the snapshot stream: etcd sent sha256 %x for %d bytes whose sha256 is %s", t.tail, size, sum).
			Advise("bytes were changed on the way; save again, and check the network and the member's memory and disk")
	}
	return size, sum, nil
}

// hashingWriter writes, and has the same bytes hashed by a goroutine at the same time: a restore would otherwise take
// as long as both together.
type hashingWriter struct {
	w    io.Writer
	err  error // of w
	todo chan []byte
	done chan struct{}
	wg   sync.WaitGroup
}

// newHashingWriter returns a writer to w that gives a trailer, unless it is nil, the same bytes. The caller stops it.
func newHashingWriter(t *Trailer, w io.Writer) *hashingWriter {
	h := &hashingWriter{w: w, todo: make(chan []byte), done: make(chan struct{})}
	h.wg.Go(func() {
		for p := range h.todo {
			if t != nil {
				_, _ = t.Write(p)
			}
			h.done <- struct{}{}
		}
	})
	return h
}

// Write returns when both have taken the bytes: the caller uses its buffer again.
func (h *hashingWriter) Write(p []byte) (n int, err error) {
	h.todo <- p
	for n < len(p) && err == nil {
		piece := p[n:min(len(p), n+writeSize)]
		var m int
		if m, err = h.w.Write(piece); err == nil && m < len(piece) {
			err = io.ErrShortWrite
		}
		n += m
	}
	<-h.done
	h.err = err
	return n, err
}

// stop ends the goroutine.
func (h *hashingWriter) stop() {
	close(h.todo)
	h.wg.Wait()
}
