package s3

import (
	"testing"
)

func TestPartsAreLargeEnough(t *testing.T) {
	for _, test := range []struct{ hint, most, want int64 }{
		{0, 10_000, partSize}, {1 << 30, 10_000, partSize}, {9000 * partSize, 10_000, partSize},
		{9000*partSize + 1, 10_000, 9 << 20}, {1 << 40, 10_000, 117 << 20},
		{1 << 30, 1000, partSize}, {100 << 30, 1000, 114 << 20}, {60 << 20, 3, 30 << 20}, {60 << 20, 1, 60 << 20}, {60 << 20, 10, partSize},
	} {
		got := partSizeFor(test.hint, test.most)
		if got != test.want || test.hint > test.most*got {
			t.Errorf("%d bytes in %d parts: got parts of %d, want %d", test.hint, test.most, got, test.want)
		}
	}
}
