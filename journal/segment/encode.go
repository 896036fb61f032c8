package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// AppendEntry appends the encoding of an entry: its kind and its fields. An entry that no reader would take is an
// error.
func AppendEntry(dst []byte, e Entry) ([]byte, error) {
	dst = append(dst, byte(e.kind()))
	var err error
	switch e := e.(type) {
	case Revision:
		dst, err = e.append(dst)
	case Lease:
		dst = binary.BigEndian.AppendUint64(dst, uint64(e.ID))
		dst = appendNumbers(dst, e.GrantedTTL, e.Revision, toInt(e.Gone))
		err = e.check()
	case Leases:
		dst = appendNumbers(dst, e.Revision, int64(len(e.IDs)))
		for _, id := range e.IDs {
			dst = binary.BigEndian.AppendUint64(dst, uint64(id))
		}
		err = e.check()
	case Compaction:
		dst = appendNumbers(dst, e.Revision, e.After, e.Before)
		err = e.check()
	case Watermark:
		// Rounded down, as an arrival is rounded up (Entry).
		dst = appendNumbers(dst, e.Revision, e.Time.UnixMilli())
		err = e.check()
	case Auth:
		dst = binary.AppendUvarint(dst, e.AuthRevision)
		dst = appendNumbers(dst, e.Revision)
		if e.Enabled { // older versions do not have the field
			dst = appendNumbers(dst, 1)
		}
		err = checkRevision(e.Revision)
	}
	if err != nil {
		return dst, fmt.Errorf("encode an entry of the journal: %w", err)
	}
	return dst, nil
}

// append appends the fields of a revision.
func (r Revision) append(dst []byte) ([]byte, error) {
	dst = appendNumbers(dst, r.Main, millisUp(r.Time), int64(len(r.Records)))
	for _, rec := range r.Records {
		dst = appendNumbers(dst, rec.Sub<<1|toInt(rec.Tombstone), int64(len(rec.Value)))
		dst = append(dst, rec.Value...)
	}
	return dst, r.check()
}

// appendNumbers appends numbers that are not negative; the checks of the entries see to that. They come after the
// encoding, so that the caller throws the bytes away.
func appendNumbers(dst []byte, numbers ...int64) []byte {
	for _, n := range numbers {
		dst = binary.AppendUvarint(dst, uint64(n))
	}
	return dst
}

func toInt(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// millisUp is the next whole millisecond at or after a time: an arrival is never said to be earlier than it was.
func millisUp(t time.Time) int64 { return t.Add(time.Millisecond - 1).UnixMilli() }

// maxMillis is the end of the year 9999.
const maxMillis = 253402300799999

// MaxTime is the latest time that an entry may have.
var MaxTime = time.UnixMilli(maxMillis).UTC()

// checkMillis refuses 0 and less, as a time that was not set is, and times that no text of RFC 3339 can have.
func checkMillis(ms int64) error {
	if ms <= 0 || ms > maxMillis {
		return fmt.Errorf("%d is no time in milliseconds", ms)
	}
	return nil
}

func checkRevision(r int64) error {
	if r < 0 || r > MaxRevision {
		return fmt.Errorf("%d is not a revision", r)
	}
	return nil
}

// maxSub bounds the place of a record within its revision, so that it can be shifted.
const maxSub = 1 << 40

// check refuses a revision that etcd cannot have written: without records, or with records out of their order.
func (r Revision) check() error {
	if r.Main <= 0 || r.Main > MaxRevision {
		return fmt.Errorf("%d is not a revision", r.Main)
	}
	if err := checkMillis(millisUp(r.Time)); err != nil {
		return fmt.Errorf("revision %d: %w", r.Main, err)
	}
	if len(r.Records) == 0 {
		return fmt.Errorf("revision %d has no records", r.Main)
	}
	last := int64(-1)
	for _, rec := range r.Records {
		switch {
		case rec.Sub <= last || rec.Sub > maxSub:
			return fmt.Errorf("revision %d: record %d comes after record %d", r.Main, rec.Sub, last)
		case len(rec.Value) == 0:
			return fmt.Errorf("revision %d: record %d is empty", r.Main, rec.Sub)
		}
		last = rec.Sub
	}
	return nil
}

// check refuses a time to live of a lease that is gone, and none of one that is there: readers go by either.
func (l Lease) check() error {
	if l.GrantedTTL < 0 || l.Gone != (l.GrantedTTL == 0) {
		return fmt.Errorf("lease %016x has a time to live of %d seconds, and gone is %t", uint64(l.ID), l.GrantedTTL, l.Gone)
	}
	return checkRevision(l.Revision)
}

// check refuses a list out of order: one set of leases has one encoding.
func (l Leases) check() error {
	for i := 1; i < len(l.IDs); i++ {
		if uint64(l.IDs[i-1]) >= uint64(l.IDs[i]) {
			return errors.New("the ids of leases are not in ascending order")
		}
	}
	return checkRevision(l.Revision)
}

// check refuses a compaction of revisions that the store did not have, and a moment of it that ends before it begins.
func (c Compaction) check() error {
	switch {
	case c.Revision <= 0 || c.Revision > c.Before:
		return fmt.Errorf("a compaction up to %d was seen at revision %d", c.Revision, c.Before)
	case c.After < 0 || c.After > c.Before:
		return fmt.Errorf("a compaction happened after revision %d and before %d", c.After, c.Before)
	}
	return checkRevision(c.Before)
}

func (w Watermark) check() error {
	if err := checkMillis(w.Time.UnixMilli()); err != nil {
		return err
	}
	return checkRevision(w.Revision)
}
