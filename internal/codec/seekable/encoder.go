package seekable

import (
	"fmt"
	"math/bits"

	"github.com/klauspost/compress/zstd"
)

// windowSize is how far back an encoder looks for repetitions: all of a chunk. A smaller window would save its size in
// memory for each encoder, but moving the window takes a tenth of the speed, and text with repetitions far apart comes
// out up to a sixth larger.
const windowSize = ChunkSize

// leastWindow is the least one that makes the same bytes: blocks are no longer than a window.
const leastWindow = 128 << 10

// newEncoder returns an encoder of chunks up to a size, for use by one goroutine. Its window is no larger than they
// need, because it takes as much memory.
func newEncoder(most int) (*zstd.Encoder, error) {
	window := min(windowSize, max(leastWindow, 1<<bits.Len(uint(most-1))))
	enc, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithWindowSize(window),
		zstd.WithEncoderConcurrency(1), // EncodeAll of one encoder is called by one goroutine at a time
		zstd.WithLowerEncoderMem(true),
		zstd.WithSingleSegment(true), // the frame says its content size, however short it is
		zstd.WithEncoderCRC(true),
	)
	if err != nil {
		return nil, fmt.Errorf("make a zstd encoder: %w", err)
	}
	return enc, nil
}
