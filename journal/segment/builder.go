package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

// magic begins the content of a segment, before its header. Its number is that of the format: readers refuse any other.
const magic = "snapshotd segment 1\n"

// frameSize is how many bytes of content a zstd frame has at most.
const frameSize = 4 << 20

// MaxContent is the size of the content, before it is compressed, at which a segment is sealed, however short its time
// is. The last revision may exceed it.
const MaxContent = 64 << 20

// Segment is a segment as it is stored, but for its encryption.
type Segment struct {
	Header Header
	Data   []byte // zstd frames, one for the header and others for the entries
	Size   int64  // of the content
}

// Builder makes a segment. It holds the compressed entries in memory, because the header, which stands before them, is
// known at the end alone. Use [NewBuilder].
type Builder struct {
	header Header
	chunk  []byte // of entries, not compressed yet
	frames []byte
	size   int64 // of all entries
}

// NewBuilder returns a builder of a segment. The header has the timeline, the level, the member, the term, and Previous
// with its chain and the reason; the rest is filled in.
func NewBuilder(h Header) (*Builder, error) {
	if !h.Timeline.Valid() || !h.Level.Valid() {
		return nil, fmt.Errorf("build a segment: timeline %.100q and level %.100q are not valid", h.Timeline, h.Level)
	}
	h.First, h.Last, h.Chain, h.FirstTime, h.LastTime = 0, 0, h.PreviousChain, time.Time{}, time.Time{}
	h.CompleteRevision, h.CompleteTime, h.Records, h.Entries = 0, nil, 0, 0
	return &Builder{header: h}, nil
}

// encoders are zstd encoders that are not in use. Making one takes longer than a small segment.
var encoders = sync.Pool{New: func() any {
	enc, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(frameSize), zstd.WithEncoderConcurrency(1),
		zstd.WithLowerEncoderMem(true), zstd.WithSingleSegment(true), zstd.WithEncoderCRC(true))
	if err != nil {
		panic(err) // the options are constants
	}
	return enc
}}

// appendFrame appends a zstd frame with some content. It has a checksum of its own and depends on no other one: the
// header, which is known last, stands before frames that were made already.
func appendFrame(dst, content []byte) []byte {
	enc, _ := encoders.Get().(*zstd.Encoder)
	defer encoders.Put(enc)
	return enc.EncodeAll(content, dst)
}

// Header returns the header of the segment so far; First is 0 before the first revision.
func (b *Builder) Header() Header { return b.header }

// Add adds an entry. Revisions follow one another without a hole; they may begin after a hole behind Previous. An entry
// that does not follow is an error, and is not added.
func (b *Builder) Add(e Entry) error {
	h := b.header
	if err := h.Add(e); err != nil {
		return err
	}
	body, err := AppendEntry(nil, e)
	if err != nil {
		return err
	}
	if len(body) > maxEntry {
		return fmt.Errorf("encode an entry of the journal: it has %d bytes; up to %d are possible", len(body), maxEntry)
	}
	b.header = h
	n := len(b.chunk)
	b.chunk = binary.AppendUvarint(b.chunk, uint64(len(body)))
	b.chunk = append(b.chunk, body...)
	b.size += int64(len(b.chunk) - n)
	for len(b.chunk) >= frameSize {
		b.frames = appendFrame(b.frames, b.chunk[:frameSize])
		b.chunk = append(b.chunk[:0], b.chunk[frameSize:]...)
	}
	return nil
}

// Add takes an entry into account. One that does not follow is an error that wraps [ErrDamaged].
func (h *Header) Add(e Entry) error {
	switch e := e.(type) {
	case Revision:
		switch {
		case h.First == 0 && e.Main <= h.Previous, h.First > 0 && e.Main != h.Last+1:
			return damaged("revision %d follows revision %d", e.Main, max(h.Last, h.Previous))
		case h.First == 0:
			h.First, h.FirstTime = e.Main, time.UnixMilli(millisUp(e.Time)).UTC()
		}
		h.Last, h.LastTime = e.Main, time.UnixMilli(millisUp(e.Time)).UTC()
		h.Chain = h.Chain.Next(e)
		h.Records += int64(len(e.Records))
	case Watermark:
		if e.Revision > max(h.Last, h.Previous) {
			return damaged("a watermark of revision %d follows revision %d", e.Revision, max(h.Last, h.Previous))
		}
		at := e.Time.Truncate(time.Millisecond).UTC()
		h.CompleteRevision, h.CompleteTime = e.Revision, &at
	}
	h.Entries++
	return nil
}

// Seal returns the segment. Its bytes are a function of the header and the entries. A segment has at least one
// revision: facts without one wait for the next. The builder is not used any more.
func (b *Builder) Seal() (*Segment, error) {
	if b.header.First == 0 {
		return nil, errors.New("seal a segment: it has no revision")
	}
	if len(b.chunk) > 0 {
		b.frames = appendFrame(b.frames, b.chunk)
	}
	head, err := b.header.encode()
	if err != nil {
		return nil, fmt.Errorf("seal a segment: %w", err)
	}
	text := append(append([]byte(magic), head...), '\n')
	data := appendFrame(make([]byte, 0, len(b.frames)+len(text)), text)
	return &Segment{Header: b.header, Data: append(data, b.frames...), Size: int64(len(text)) + b.size}, nil
}
