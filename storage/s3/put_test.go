package s3

import (
	"slices"
	"testing"
)

func TestPartsAreLargeEnough(t *testing.T) {
	for hint, want := range map[int64]int64{0: partSize, 1 << 30: partSize, 9000 * partSize: partSize, 9000*partSize + 1: 9 << 20, 1 << 40: 117 << 20} {
		got := partSizeFor(hint)
		if got != want || hint > 10_000*got {
			t.Errorf("%d bytes: got parts of %d, want %d", hint, got, want)
		}
	}
	if !slices.IsSorted([]int64{partSizeFor(1), partSizeFor(1 << 37), partSizeFor(1 << 42)}) {
		t.Error("parts of larger objects are smaller")
	}
}
