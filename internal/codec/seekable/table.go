package seekable

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The numbers of the format.
const (
	skippableMagic = 0x184D2A5E
	tableMagic     = 0x8F92EAB1

	headerSize = 8 // magic and size of the skippable frame
	entrySize  = 8 // compressed and decompressed size
	footerSize = 9 // number of frames, descriptor, magic

	minFrameSize = 9 // zstd: magic, descriptor, content size and the header of one block
)

// ErrNoTable: the object does not end with a seek table that fits it.
var ErrNoTable = errors.New("no valid seek table")

// Frame is where one frame is.
type Frame struct {
	Offset           int64 // of its first byte in the compressed data
	Size             int64 // compressed
	DecodedOffset    int64 // of its first byte in the decompressed data
	DecompressedSize int64
}

// tableWriter gathers the seek table.
type tableWriter struct {
	entries []byte
	frames  uint32
}

func (t *tableWriter) add(compressed, decompressed int) {
	t.entries = binary.LittleEndian.AppendUint32(t.entries, uint32(compressed))
	t.entries = binary.LittleEndian.AppendUint32(t.entries, uint32(decompressed))
	t.frames++
}

// bytes returns the skippable frame with the table.
func (t *tableWriter) bytes() []byte {
	b := make([]byte, 0, headerSize+len(t.entries)+footerSize)
	b = binary.LittleEndian.AppendUint32(b, skippableMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(t.entries)+footerSize))
	b = append(b, t.entries...)
	b = binary.LittleEndian.AppendUint32(b, t.frames)
	b = append(b, 0)
	return binary.LittleEndian.AppendUint32(b, tableMagic)
}

// ReadTable reads the seek table at the end of size bytes and returns the frames in order. It accepts what [Copy]
// writes: a table without checksums, whose frames fill all that is before it. Anything else is ErrNoTable; an error of
// r is returned as it is. The memory that it takes is in proportion to size at most, whatever the table claims.
func ReadTable(r io.ReaderAt, size int64) ([]Frame, error) {
	if size < headerSize+footerSize {
		return nil, fmt.Errorf("%w: %d bytes are too few", ErrNoTable, size)
	}
	var footer [footerSize]byte
	if err := readAt(r, footer[:], size-footerSize); err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint32(footer[5:]) != tableMagic {
		return nil, fmt.Errorf("%w: the last bytes are not its magic number", ErrNoTable)
	}
	if footer[4] != 0 {
		return nil, fmt.Errorf("%w: unknown descriptor %#x", ErrNoTable, footer[4])
	}
	count := int64(binary.LittleEndian.Uint32(footer[:]))
	start := size - footerSize - count*entrySize - headerSize
	if start < count*minFrameSize {
		return nil, fmt.Errorf("%w: %d frames do not fit into %d bytes", ErrNoTable, count, size)
	}
	table := make([]byte, headerSize+count*entrySize)
	if err := readAt(r, table, start); err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint32(table) != skippableMagic ||
		int64(binary.LittleEndian.Uint32(table[4:])) != count*entrySize+footerSize {
		return nil, fmt.Errorf("%w: it is not in a skippable frame of its size", ErrNoTable)
	}
	return parseEntries(table[headerSize:], start)
}

// parseEntries returns the frames that fill the first dataSize bytes.
func parseEntries(entries []byte, dataSize int64) ([]Frame, error) {
	frames := make([]Frame, 0, len(entries)/entrySize)
	var offset, decoded int64
	for ; len(entries) > 0; entries = entries[entrySize:] {
		f := Frame{
			Offset:           offset,
			Size:             int64(binary.LittleEndian.Uint32(entries)),
			DecodedOffset:    decoded,
			DecompressedSize: int64(binary.LittleEndian.Uint32(entries[4:])),
		}
		if f.Size == 0 || f.DecompressedSize == 0 || f.DecompressedSize > ChunkSize {
			return nil, fmt.Errorf("%w: frame %d has impossible sizes: %d bytes of %d",
				ErrNoTable, len(frames), f.Size, f.DecompressedSize)
		}
		offset += f.Size
		decoded += f.DecompressedSize
		frames = append(frames, f)
	}
	if offset != dataSize {
		return nil, fmt.Errorf("%w: its frames take %d bytes of %d", ErrNoTable, offset, dataSize)
	}
	return frames, nil
}

// readAt fills b; r is known to be long enough.
func readAt(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read the seek table: %w", err)
}
