package seekable

import (
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// windowSize is how far back an encoder looks for repetitions: all of a chunk. A smaller window would save its size in
// memory for each encoder, but moving the window takes a tenth of the speed, and text with repetitions far apart comes
// out up to a sixth larger.
const windowSize = ChunkSize

// newEncoders returns n encoders, each for use by one goroutine.
func newEncoders(n int) ([]*zstd.Encoder, error) {
	encoders := make([]*zstd.Encoder, n)
	for i := range encoders {
		var err error
		if encoders[i], err = newEncoder(); err != nil {
			return nil, err
		}
	}
	return encoders, nil
}

func newEncoder() (*zstd.Encoder, error) {
	enc, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithWindowSize(windowSize),
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
