package snapshot

import (
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"testing"
)

// stream returns what etcd would send for a database of n bytes.
func stream(n int) []byte {
	db := make([]byte, n)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range db {
		db[i] = byte(r.Uint32())
	}
	sum := sha256.Sum256(db)
	return append(db, sum[:]...)
}

func TestTrailerAcceptsTheStreamHoweverItIsCut(t *testing.T) {
	whole := stream(8 * pageUnit)
	for _, cut := range []int{1, 7, 31, 32, 33, 100, 4096, len(whole)} {
		check := newTrailer()
		for rest := whole; len(rest) > 0; rest = rest[min(cut, len(rest)):] {
			if n, err := check.Write(rest[:min(cut, len(rest))]); err != nil || n != min(cut, len(rest)) {
				t.Fatalf("cut %d: Write = %d, %v", cut, n, err)
			}
		}
		size, sum, err := check.Verify()
		if err != nil || size != 8*pageUnit {
			t.Fatalf("cut %d: Verify = %d, %v", cut, size, err)
		}
		if want := sha256.Sum256(whole[:size]); sum != hex.EncodeToString(want[:]) {
			t.Errorf("cut %d: sum %s", cut, sum)
		}
	}
}

func TestTrailerRefusesWhatIsNotWhole(t *testing.T) {
	whole := stream(4 * pageUnit)
	flipped := append([]byte{}, whole...)
	flipped[1000] ^= 1
	wrongSum := append([]byte{}, whole...)
	wrongSum[len(wrongSum)-1] ^= 1
	for name, b := range map[string][]byte{
		"empty":            {},
		"no checksum":      whole[:len(whole)-sha256.Size],
		"one byte short":   whole[:len(whole)-1],
		"one page short":   whole[pageUnit:],
		"a bit flipped":    flipped,
		"another checksum": wrongSum,
	} {
		check := newTrailer()
		_, _ = check.Write(b)
		_, _, err := check.Verify()
		if ReasonOf(err) != ReasonChecksumMismatch {
			t.Errorf("%s: Verify = %v, want %s", name, err, ReasonChecksumMismatch)
		}
	}
}
