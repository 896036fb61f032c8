package segment

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// maxHeader bounds the line of the header.
const maxHeader = 16 << 10

// maxWindow bounds the memory that a zstd frame can ask for.
const maxWindow = 8 << 20

// Reader reads a segment, one entry at a time, and holds it to its header. Whoever has written the segment, it takes no
// more memory than its largest entry and a window of zstd (maxWindow) need.
type Reader struct {
	header Header // as it was written
	seen   Header // of the entries so far
	source *sourceError
	zstd   *zstd.Decoder
	in     *bufio.Reader
	size   int64 // of the content that was read
	end    error
}

// NewReader reads the header of a segment. The reader holds the segment to the header: at the end, chain, revisions,
// times and counts must be those of the entries. An error wraps [ErrDamaged] unless it is one of r, which is returned
// as it is. The caller closes the reader.
func NewReader(r io.Reader) (*Reader, error) {
	source := &sourceError{r: r}
	dec, err := zstd.NewReader(source, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow),
		zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("make a zstd decoder: %w", err)
	}
	s := &Reader{source: source, zstd: dec, in: bufio.NewReaderSize(dec, 64<<10)}
	if err := s.readHeader(); err != nil {
		dec.Close()
		return nil, s.cause(err)
	}
	return s, nil
}

// Header returns the header.
func (s *Reader) Header() Header { return s.header }

// Chain returns the chain after the last revision that was read.
func (s *Reader) Chain() Chain { return s.seen.Chain }

// Size returns how many bytes of content were read.
func (s *Reader) Size() int64 { return s.size }

// Close frees the decoder. The source stays open.
func (s *Reader) Close() { s.zstd.Close() }

// Next returns the next entry. After the last one it is io.EOF, when all entries were those that the header promises.
// Other errors are as those of [NewReader]: the entries before are not known to be whole.
func (s *Reader) Next() (Entry, error) {
	if s.end != nil {
		return nil, s.end
	}
	e, err := s.next()
	if err != nil {
		s.end = s.cause(err)
		return nil, s.end
	}
	return e, nil
}

// next reads an entry, and compares the sum so far with the header: one that goes beyond it ends the reading at
// once, and not after gigabytes.
func (s *Reader) next() (Entry, error) {
	n, err := s.length()
	if err != nil {
		return nil, err
	}
	body, err := readN(s.in, n)
	if err != nil {
		return nil, damaged("an entry is cut off: %w", err)
	}
	s.size += n
	e, err := DecodeEntry(body)
	if err != nil {
		return nil, err
	}
	if err := s.seen.Add(e); err != nil {
		return nil, err
	}
	if s.seen.Last > s.header.Last || s.seen.First > 0 && s.seen.First != s.header.First {
		return nil, damaged("it has revision %d, and its header says %d to %d", s.seen.Last, s.header.First, s.header.Last)
	}
	return e, nil
}

// length reads the length of the next entry. At the end of the segment it is io.EOF.
func (s *Reader) length() (int64, error) {
	if _, err := s.in.Peek(1); errors.Is(err, io.EOF) && s.source.ended() {
		return 0, s.whole()
	}
	d := decoder{}
	// An entry is far below 4 GiB, and a longer number is refused before it is read.
	var b [binary.MaxVarintLen32]byte
	for i := range b {
		c, err := s.in.ReadByte()
		if err != nil {
			return 0, damaged("an entry is cut off: %w", err)
		}
		b[i] = c
		if c < 0x80 {
			d.rest = b[:i+1]
			break
		}
	}
	s.size += int64(len(d.rest))
	n := d.number()
	if d.err == nil && (n == 0 || n > maxEntry) {
		d.fail("an entry has %d bytes", n)
	}
	return n, d.err
}

// whole returns io.EOF when the entries are those of the header.
func (s *Reader) whole() error {
	again, err := s.seen.encode()
	if err != nil {
		return damaged("%w", err)
	}
	written, err := s.header.encode()
	if err != nil {
		return damaged("%w", err)
	}
	if string(again) != string(written) {
		return damaged("its entries are not those of its header: %s, and %s", again, written)
	}
	return io.EOF
}

// readHeader reads the line byte by byte: ReadBytes would take memory for a line without an end.
func (s *Reader) readHeader() error {
	begin := make([]byte, len(magic))
	if _, err := io.ReadFull(s.in, begin); err != nil || string(begin) != magic {
		return damaged("it does not begin as a segment of this format does: %w", errOr(err, errNoMagic))
	}
	var line []byte
	for {
		c, err := s.in.ReadByte()
		switch {
		case err != nil:
			return damaged("its header is cut off: %w", err)
		case len(line) > maxHeader:
			return damaged("its header has more than %d bytes", maxHeader)
		}
		if c == '\n' {
			break
		}
		line = append(line, c)
	}
	h, err := decodeHeader(line)
	if err != nil {
		return err
	}
	s.size = int64(len(magic) + len(line) + 1)
	s.header, s.seen = *h, Header{
		Timeline: h.Timeline, Level: h.Level, Member: h.Member, Term: h.Term, Reason: h.Reason,
		Previous: h.Previous, PreviousChain: h.PreviousChain, Chain: h.PreviousChain,
	}
	return nil
}

var errNoMagic = errors.New("its first bytes are others")

func errOr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// cause returns the error of the source, if it has failed: the decoder's says less.
func (s *Reader) cause(err error) error {
	if failed := s.source.failed(); failed != nil {
		return failed
	}
	return err
}

// sourceError remembers how the source ended.
type sourceError struct {
	r   io.Reader
	err error
}

// Read implements [io.Reader].
func (s *sourceError) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil {
		s.err = err
	}
	return n, err
}

func (s *sourceError) ended() bool { return errors.Is(s.err, io.EOF) }

// failed returns the error of the source; nil when it has ended, or goes on.
func (s *sourceError) failed() error {
	if s.err == nil || s.ended() {
		return nil
	}
	return s.err
}
