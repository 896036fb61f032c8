// Package zip reads the only entry of a zip archive as the archive goes by, from its first byte to its last: what K3s
// and RKE2 make of a snapshot when they compress it. The entry's name is not looked at. Archives that are anything more
// than one file, stored or in Deflate, are refused.
package zip

import (
	"bufio"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
)

// The parts of an archive begin with these.
const (
	localHeader      = 0x04034b50
	centralHeader    = 0x02014b50
	endOfCentral64   = 0x06064b50
	locator64        = 0x07064b50
	endOfCentral     = 0x06054b50
	localHeaderSize  = 30
	centralSize      = 46
	endOfCentralSize = 22
)

const (
	methodStore   = 0
	methodDeflate = 8

	flagEncrypted  = 1 << 0
	flagDescriptor = 1 << 3
)

// maxRest bounds the bytes after the entry: its descriptor, one header with its name and extras, and the end.
const maxRest = 512 << 10

// ErrFormat: it is no archive of one file that can be read as it goes by, or it is damaged.
var ErrFormat = errors.New("it is not a whole zip archive of one file")

func wrong(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

// reader reads the entry and then makes sure that nothing else is in the archive.
type reader struct {
	in    *bufio.Reader
	data  io.Reader // of the entry, decompressed
	crc   hash.Hash32
	n     uint64
	taken *counter // of the entry, compressed
	err   error
}

// NewReader returns a reader of the only entry of the archive. Its Read returns io.EOF after the end of the archive,
// when the checksum was right and there was one entry.
func NewReader(r io.Reader) io.Reader {
	return &reader{in: bufio.NewReaderSize(r, 64<<10), crc: crc32.NewIEEE()}
}

func (z *reader) Read(p []byte) (int, error) {
	if z.err == nil && z.data == nil {
		z.err = z.open()
	}
	if z.err != nil {
		return 0, z.err
	}
	n, err := z.data.Read(p)
	z.crc.Write(p[:n])
	z.n += uint64(n)
	switch {
	case err == io.EOF: // a wrapped one is not the end
		z.err = z.end()
	case err != nil:
		z.err = explain(err)
	}
	return n, z.err
}

// explain tells a damaged archive from a reader that broke off.
func explain(err error) error {
	_, corrupt := errors.AsType[flate.CorruptInputError](err)
	if corrupt || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return wrong("%v", err)
	}
	return err
}

// open reads the header of the entry.
func (z *reader) open() error {
	head := make([]byte, localHeaderSize)
	if _, err := io.ReadFull(z.in, head); err != nil {
		return explain(err)
	}
	if binary.LittleEndian.Uint32(head) != localHeader {
		return wrong("it does not begin with a file")
	}
	flags, method := binary.LittleEndian.Uint16(head[6:]), binary.LittleEndian.Uint16(head[8:])
	size := binary.LittleEndian.Uint32(head[18:])
	skip := int(binary.LittleEndian.Uint16(head[26:])) + int(binary.LittleEndian.Uint16(head[28:]))
	if _, err := z.in.Discard(skip); err != nil {
		return explain(err)
	}
	switch {
	case flags&flagEncrypted != 0:
		return wrong("it is encrypted")
	case method == methodDeflate:
		z.taken = &counter{in: z.in}
		z.data = flate.NewReader(z.taken)
	case method == methodStore && flags&flagDescriptor == 0 && size != 1<<32-1:
		z.taken = &counter{in: z.in}
		z.data = &exactly{r: z.taken, left: int64(size)}
	default:
		return wrong("its file is neither in Deflate nor stored with its size before it (method %d)", method)
	}
	return nil
}

// end makes sure that what follows the entry is its descriptor, if there is one, and the directory of an archive with
// this entry alone.
func (z *reader) end() error {
	rest, err := io.ReadAll(io.LimitReader(z.in, maxRest+1))
	if err != nil {
		return explain(err)
	}
	if len(rest) > maxRest {
		return wrong("there is more in it than one file")
	}
	for _, size := range []int{0, 12, 16, 20, 24} { // of the descriptor
		if len(rest) >= size+4 && binary.LittleEndian.Uint32(rest[size:]) == centralHeader {
			return z.directory(rest[size:])
		}
	}
	return wrong("there is no directory behind its file, or there is another file")
}

// directory compares the entry's header with the bytes read, and makes sure that it is the only one.
func (z *reader) directory(b []byte) error {
	if len(b) < centralSize {
		return wrong("its directory is cut off")
	}
	le := binary.LittleEndian
	names := int(le.Uint16(b[28:])) + int(le.Uint16(b[30:])) + int(le.Uint16(b[32:]))
	small := func(n uint64) uint32 { return uint32(min(n, 1<<32-1)) }
	switch {
	case le.Uint32(b[16:]) != z.crc.Sum32():
		return wrong("the checksum of its file is %08x instead of %08x", z.crc.Sum32(), le.Uint32(b[16:]))
	case le.Uint32(b[20:]) != small(z.taken.n) && le.Uint32(b[20:]) != 1<<32-1,
		le.Uint32(b[24:]) != small(z.n) && le.Uint32(b[24:]) != 1<<32-1:
		return wrong("the sizes of its file are not those of its directory")
	case len(b) < centralSize+names:
		return wrong("its directory is cut off")
	}
	return atEnd(b[centralSize+names:])
}

// atEnd makes sure that the directory ends here, and returns io.EOF when it does.
func atEnd(b []byte) error {
	le := binary.LittleEndian
	if len(b) >= 12 && le.Uint32(b) == endOfCentral64 {
		size := le.Uint64(b[4:])
		if size > uint64(len(b)-12) {
			return wrong("its end is cut off")
		}
		b = b[12+size:]
	}
	if len(b) >= 20 && le.Uint32(b) == locator64 {
		b = b[20:]
	}
	switch {
	case len(b) < endOfCentralSize || le.Uint32(b) != endOfCentral:
		return wrong("there is more in its directory than one file, or its end is cut off")
	case le.Uint16(b[10:]) != 1 && le.Uint16(b[10:]) != 1<<16-1:
		return wrong("it says that there are %d files in it", le.Uint16(b[10:]))
	case len(b) != endOfCentralSize+int(le.Uint16(b[20:])):
		return wrong("something follows its end, or its end is cut off")
	}
	return io.EOF
}

// TailSize is how many bytes the end of an archive has, at most.
const TailSize = endOfCentralSize + 1<<16 - 1

// HasEnd reports whether the last bytes of a file, [TailSize] of them or all, are those of an archive. One that was cut
// off has no end.
func HasEnd(tail []byte) bool {
	le := binary.LittleEndian
	for at := len(tail) - endOfCentralSize; at >= 0; at-- {
		if b := tail[at:]; le.Uint32(b) == endOfCentral && len(b) == endOfCentralSize+int(le.Uint16(b[20:])) {
			return true
		}
	}
	return false
}

// counter counts the bytes taken. flate takes no more than it needs of an io.ByteReader.
type counter struct {
	in *bufio.Reader
	n  uint64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	c.n += uint64(n)
	return n, err
}

func (c *counter) ReadByte() (byte, error) {
	b, err := c.in.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}

// exactly reads so many bytes, and fails when there are fewer.
type exactly struct {
	r    io.Reader
	left int64
}

func (e *exactly) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
