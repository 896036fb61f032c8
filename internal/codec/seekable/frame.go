package seekable

import (
	"bufio"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
)

// The parts of a zstd frame after its header.
const (
	blockHeaderSize = 3
	frameCRCSize    = 4
	rleBlock        = 1
	reservedBlock   = 3
)

// readFrame appends the next frame to buf, whose capacity it does not exceed; skippable ones before it are left out.
// The end of the source is io.EOF only between frames. A frame that this package does not write is errPlain, and what
// was read of it is returned.
func readFrame(src *bufio.Reader, buf []byte) ([]byte, error) {
	h, err := nextHeader(src)
	if err != nil {
		return nil, err
	}
	if !h.HasFCS || h.FrameContentSize > ChunkSize || h.DictionaryID != 0 {
		return nil, errPlain
	}
	if buf, err = appendFrom(src, buf, h.HeaderSize); err != nil {
		return buf, err
	}
	for last := false; !last; {
		b, err := src.Peek(blockHeaderSize)
		if err != nil {
			return buf, unexpected(err)
		}
		block := int(b[0]) | int(b[1])<<8 | int(b[2])<<16
		size := block >> 3
		last = block&1 == 1
		switch block >> 1 & 3 {
		case rleBlock:
			size = 1
		case reservedBlock:
			return buf, zstd.ErrReservedBlockType
		}
		if buf, err = appendFrom(src, buf, blockHeaderSize+size); err != nil {
			return buf, err
		}
	}
	if h.HasCheckSum {
		return appendFrom(src, buf, frameCRCSize)
	}
	return buf, nil
}

// nextHeader returns the header of the next frame that is not skippable, without taking it.
func nextHeader(src *bufio.Reader) (h zstd.Header, err error) {
	for {
		start, err := src.Peek(zstd.HeaderMaxSize)
		if len(start) == 0 || err != nil && !errors.Is(err, io.EOF) {
			return h, err
		}
		if err := h.Decode(start); err != nil {
			return h, unexpected(err)
		}
		if !h.Skippable {
			return h, nil
		}
		if _, err := io.CopyN(io.Discard, src, int64(h.HeaderSize)+int64(h.SkippableSize)); err != nil {
			return h, unexpected(err)
		}
	}
}

// appendFrom appends n bytes of the source to buf.
func appendFrom(src *bufio.Reader, buf []byte, n int) ([]byte, error) {
	have := len(buf)
	if have+n > cap(buf) {
		return buf, errPlain
	}
	buf = buf[:have+n]
	m, err := io.ReadFull(src, buf[have:])
	return buf[:have+m], unexpected(err)
}

// unexpected makes of the end of the source the error that it is within a frame.
func unexpected(err error) error {
	if err == io.EOF { //nolint:errorlint // a wrapped one is not the end
		return io.ErrUnexpectedEOF
	}
	return err
}
