package segment

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Chain is a checksum of a history: that of the revision before, and the records of a revision, make that of the
// revision. It depends on the records alone, and not on when they arrived or how they were cut into segments. So
// segments of two writers, or of two levels, can be compared, and a segment of another history is found. At the start
// of a timeline it is zero.
type Chain [sha256.Size]byte

// Next returns the chain after one more revision.
func (c Chain) Next(r Revision) Chain {
	h := sha256.New()
	_, _ = h.Write(c[:])
	var b []byte
	b = binary.BigEndian.AppendUint64(b, uint64(r.Main))
	for _, rec := range r.Records {
		b = binary.BigEndian.AppendUint64(b, uint64(rec.Sub<<1|toInt(rec.Tombstone)))
		// The length stands before each value, so that no other records give the same bytes.
		b = binary.BigEndian.AppendUint64(b, uint64(len(rec.Value)))
		_, _ = h.Write(b)
		_, _ = h.Write(rec.Value)
		b = b[:0]
	}
	return Chain(h.Sum(nil))
}

// MarshalText returns the chain in hex.
func (c Chain) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, c[:]), nil }

// UnmarshalText reads a chain in hex.
func (c *Chain) UnmarshalText(text []byte) error {
	if len(text) != 2*len(c) {
		return fmt.Errorf("a chain has %d digits, not %d", 2*len(c), len(text))
	}
	_, err := hex.Decode(c[:], text)
	return err
}

// Header describes a segment. The fields are those of its JSON, in the segment and in its manifest.
type Header struct {
	Timeline Timeline `json:"timeline"` // the id of the etcd cluster is in its name
	Level    Level    `json:"level"`
	Member   EtcdID   `json:"etcdMemberId"` // that was followed last
	Term     int64    `json:"term,string"`  // of the leader that wrote it; 0 in a merged segment

	First int64 `json:"firstRevision,string"`
	Last  int64 `json:"lastRevision,string"`
	Chain Chain `json:"chain"` // after Last

	// Previous is the newest revision of the timeline that was journaled before First, and the chain after it; both are
	// zero at the start of a timeline. Unless it is First-1, the revisions between are lost, and Reason says why.
	Previous      int64  `json:"previousRevision,string"`
	PreviousChain Chain  `json:"previousChain"`
	Reason        string `json:"reason,omitempty"` // of a gap before First, or why the timeline began

	FirstTime time.Time `json:"firstTime"` // arrival of First, in whole milliseconds
	LastTime  time.Time `json:"lastTime"`  // arrival of Last

	// Complete is the newest watermark in the segment; both are zero when there is none.
	CompleteRevision int64      `json:"completeRevision,string,omitempty"`
	CompleteTime     *time.Time `json:"completeTime,omitempty"`

	Records int64 `json:"records,string"`
	Entries int64 `json:"entries,string"` // revisions and others
}

// EtcdID is an id of etcd, 16 hex digits.
type EtcdID uint64

// MarshalText returns the id in hex.
func (i EtcdID) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%016x", uint64(i)), nil }

// UnmarshalText reads an id in hex.
func (i *EtcdID) UnmarshalText(text []byte) error {
	var b [8]byte
	if len(text) != 2*len(b) {
		return fmt.Errorf("an id of etcd has 16 digits, not %d", len(text))
	}
	_, err := hex.Decode(b[:], text)
	*i = EtcdID(binary.BigEndian.Uint64(b[:]))
	return err
}

// maxReason bounds the reason of a gap.
const maxReason = 1 << 10

// Name returns the name of the segment.
func (h *Header) Name() string { return Name(h.First, h.Last) }

// Lost returns the revisions that are lost before the segment; false when it follows the one before, or begins a
// timeline.
func (h *Header) Lost() (from, to int64, lost bool) {
	return h.Previous + 1, h.First - 1, h.Previous > 0 && h.Previous < h.First-1
}

// Check returns why no segment has such a header.
func (h *Header) Check() error {
	switch {
	case !h.Timeline.Valid():
		return fmt.Errorf("%.100q is not a timeline", h.Timeline)
	case !h.Level.Valid():
		return fmt.Errorf("%.100q is not a level", h.Level)
	case h.Term < 0:
		return fmt.Errorf("%d is not a term", h.Term)
	case len(h.Reason) > maxReason:
		return fmt.Errorf("its reason has %d bytes; up to %d are allowed", len(h.Reason), maxReason)
	}
	if err := h.checkRevisions(); err != nil {
		return err
	}
	return h.checkTimes()
}

// checkRevisions refuses revisions that do not go together, and missing ones without a reason.
func (h *Header) checkRevisions() error {
	switch {
	case h.First <= 0 || h.First > h.Last || h.Last > MaxRevision:
		return fmt.Errorf("%d to %d are no revisions of a segment", h.First, h.Last)
	case h.Previous < 0 || h.Previous >= h.First:
		return fmt.Errorf("revision %d is not before revision %d", h.Previous, h.First)
	case h.Previous == 0 && h.PreviousChain != Chain{}:
		return errors.New("it has a chain of a revision before, and no revision before")
	case h.Records < h.Last-h.First+1 || h.Entries < h.Last-h.First+1:
		return fmt.Errorf("%d records and %d entries are too few for the revisions %d to %d",
			h.Records, h.Entries, h.First, h.Last)
	case h.CompleteRevision < 0 || h.CompleteRevision > h.Last:
		return fmt.Errorf("it has revisions up to %d, and is complete up to %d", h.Last, h.CompleteRevision)
	}
	if _, _, lost := h.Lost(); lost && h.Reason == "" {
		return fmt.Errorf("the revisions between %d and %d are missing without a reason", h.Previous, h.First)
	}
	return nil
}

// checkTimes refuses times that a segment cannot have: those with parts of a millisecond, and those out of range.
func (h *Header) checkTimes() error {
	times := []time.Time{h.FirstTime, h.LastTime}
	if h.CompleteTime != nil {
		times = append(times, *h.CompleteTime)
	}
	for _, t := range times {
		if err := checkMillis(t.UnixMilli()); err != nil || !t.Equal(time.UnixMilli(t.UnixMilli())) {
			return fmt.Errorf("%s is not a time of a segment", t)
		}
	}
	return nil
}

// Equal reports whether two headers are the same, by their JSON: == compares the pointers of CompleteTime, and of the
// locations of times.
func (h *Header) Equal(other *Header) bool {
	a, aerr := json.Marshal(h)
	b, berr := json.Marshal(other)
	return aerr == nil && berr == nil && string(a) == string(b)
}

// encode returns the JSON of a header, in one line.
func (h *Header) encode() ([]byte, error) {
	if err := h.Check(); err != nil {
		return nil, err
	}
	return json.Marshal(h)
}

// decodeHeader reads a header in exactly the form in which it is written.
func decodeHeader(text []byte) (*Header, error) {
	h := new(Header)
	if err := json.Unmarshal(text, h); err != nil {
		return nil, damaged("its header: %w", err)
	}
	// Writing it again finds unknown and doubled fields, and other spellings of a value, which a signature or a
	// comparison of headers would pass over.
	again, err := h.encode()
	if err != nil {
		return nil, damaged("its header: %w", err)
	}
	if string(again) != string(text) {
		return nil, damaged("its header is not written as a header is")
	}
	return h, nil
}
