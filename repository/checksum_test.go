package repository_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// page divides the size of every database.
const page = 512

func TestTrailerAcceptsTheStreamHoweverItIsCut(t *testing.T) {
	whole := stream(8 * page)
	for _, cut := range []int{1, 7, 31, 32, 33, 100, 4096, len(whole)} {
		trailer := repository.NewTrailer()
		for rest := whole; len(rest) > 0; rest = rest[min(cut, len(rest)):] {
			if n, err := trailer.Write(rest[:min(cut, len(rest))]); err != nil || n != min(cut, len(rest)) {
				t.Fatalf("cut %d: Write = %d, %v", cut, n, err)
			}
		}
		size, sum, err := trailer.Verify()
		if err != nil || size != 8*page {
			t.Fatalf("cut %d: Verify = %d, %v", cut, size, err)
		}
		if want := sha256.Sum256(whole[:size]); sum != hex.EncodeToString(want[:]) {
			t.Errorf("cut %d: sum %s", cut, sum)
		}
	}
}

func TestTrailerRefusesAStreamThatIsNotWhole(t *testing.T) {
	whole := stream(4 * page)
	flipped := bytes.Clone(whole)
	flipped[1000] ^= 1
	wrongSum := bytes.Clone(whole)
	wrongSum[len(wrongSum)-1] ^= 1
	for what, b := range map[string][]byte{
		"empty":            {},
		"no checksum":      whole[:len(whole)-sha256.Size],
		"one byte short":   whole[:len(whole)-1],
		"one page short":   whole[page:],
		"a bit flipped":    flipped,
		"another checksum": wrongSum,
	} {
		trailer := repository.NewTrailer()
		_, _ = trailer.Write(b)
		_, _, err := trailer.Verify()
		if snapshot.ReasonOf(err) != snapshot.ReasonChecksumMismatch {
			t.Errorf("%s: Verify = %v, want %s", what, err, snapshot.ReasonChecksumMismatch)
		}
	}
}
