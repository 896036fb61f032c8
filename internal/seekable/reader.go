package seekable

import (
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds the memory that a frame can ask for: those that this package writes have at most [ChunkSize].
const maxWindow = 16 << 20

// NewReader returns what any zstd object holds, read from its start to its end. The caller closes it.
func NewReader(r io.Reader) (io.ReadCloser, error) {
	d, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("make a zstd decoder: %w", err)
	}
	return d.IOReadCloser(), nil
}
