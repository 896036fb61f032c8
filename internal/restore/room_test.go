package restore_test

import (
	"math"
	"testing"

	"github.com/snapshotd/snapshotd/internal/restore"
)

// A size that a store or a manifest makes up is never small enough for a disk.
func TestRoomDoesNotOverflow(t *testing.T) {
	for size, want := range map[int64]int64{0: 65_000_000, 1000: 65_001_000} {
		if got := restore.Room(size); got != want {
			t.Errorf("%d: %d, want %d", size, got, want)
		}
	}
	if got := restore.Room(math.MaxInt64); got < 1<<50 {
		t.Errorf("the largest size: %d", got)
	}
}
