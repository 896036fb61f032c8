package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
)

// pageUnit is what the size of an etcd database is a multiple of: 512 bytes divide every page size.
const pageUnit = 512

// checksumSize is how many bytes etcd sends after the database.
const checksumSize = sha256.Size

// trailer verifies the checksum at the end of a snapshot stream as the stream goes by: its last 32 bytes are the sha256 of
// all that came before.
type trailer struct {
	sum  hash.Hash
	size int64  // bytes seen
	tail []byte // the last bytes seen, at most 32, not in sum yet
}

func newTrailer() *trailer { return &trailer{sum: sha256.New()} }

// Write takes the next bytes of the stream. It never fails.
func (t *trailer) Write(p []byte) (int, error) {
	t.size += int64(len(p))
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
func (t *trailer) Verify() (size int64, sum string, err error) {
	if t.size%pageUnit != sha256.Size {
		return 0, "", &Error{
			Reason:  ReasonChecksumMismatch,
			Message: fmt.Sprintf("verify the snapshot stream: it ended after %d bytes, without the checksum that follows the database", t.size),
			Hint:    "the stream was cut off or the member's database is damaged; save again, and check the member's log",
			Retry:   retryAfter(ReasonChecksumMismatch),
		}
	}
	want, got := t.tail, t.sum.Sum(nil)
	if !bytes.Equal(want, got) {
		return 0, "", &Error{
			Reason:  ReasonChecksumMismatch,
			Message: fmt.Sprintf("verify the snapshot stream: etcd sent sha256 %s for %d bytes whose sha256 is %s", hex.EncodeToString(want), t.size-sha256.Size, hex.EncodeToString(got)),
			Hint:    "bytes were changed on the way; save again, and check the network and the member's memory and disk",
			Retry:   retryAfter(ReasonChecksumMismatch),
		}
	}
	return t.size - sha256.Size, hex.EncodeToString(got), nil
}
