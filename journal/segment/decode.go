package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// maxEntry bounds the encoding of an entry. A revision has at most the changes of one request to etcd: a deletion can
// be of millions of keys, each with its tombstone.
const maxEntry = 1 << 30

// ErrDamaged: bytes are no entry, or no segment.
var ErrDamaged = errors.New("it is damaged")

// damaged returns an error that wraps ErrDamaged and, if the format has one, its cause.
func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrDamaged, fmt.Errorf(format, args...))
}

// DecodeEntry returns the entry that has exactly this encoding. The values of its records are parts of body. An error
// wraps [ErrDamaged].
func DecodeEntry(body []byte) (Entry, error) {
	if len(body) == 0 {
		return nil, damaged("an entry is empty")
	}
	d := decoder{rest: body[1:]}
	e := d.entry(kind(body[0]))
	switch {
	case d.err != nil:
		return nil, d.err
	case len(d.rest) > 0:
		return nil, damaged("%d bytes follow the end of an entry", len(d.rest))
	}
	return e, nil
}

// decoder takes fields from the front of an encoding. After the first error it gives zeros.
type decoder struct {
	rest []byte
	err  error
}

// entry takes the fields of an entry, and checks them as the encoder does.
func (d *decoder) entry(k kind) Entry {
	switch k {
	case kindRevision:
		return checked(d, d.revision())
	case kindLease:
		return checked(d, Lease{ID: d.id(), GrantedTTL: d.number(), Revision: d.number(), Gone: d.bool()})
	case kindLeases:
		return checked(d, d.leases())
	case kindCompaction:
		return checked(d, Compaction{Revision: d.number(), After: d.number(), Before: d.number()})
	case kindWatermark:
		return checked(d, Watermark{Revision: d.number(), Time: d.time()})
	case kindAuth:
		return checked(d, Auth{AuthRevision: d.uvarint(), Revision: d.number(), Enabled: d.last()})
	}
	d.fail("%d is no kind of entry", k)
	return nil
}

// checked returns an entry that was decoded, after its check.
func checked[E interface {
	Entry
	check() error
}](d *decoder, e E) Entry {
	if d.err == nil {
		if err := e.check(); err != nil {
			d.fail("%w", err)
		}
	}
	return e
}

func (a Auth) check() error { return checkRevision(a.Revision) }

// revision takes a revision. The lowest bit of a record's place is that it is a tombstone: most places are below 64,
// and both fit into one byte.
func (d *decoder) revision() Revision {
	r := Revision{Main: d.number(), Time: d.time()}
	n := d.count(3) // a record has at least its place, its length and one byte
	if n > 0 {
		r.Records = make([]Record, 0, n)
	}
	for range n {
		place := d.number()
		r.Records = append(r.Records, Record{Sub: place >> 1, Tombstone: place&1 == 1, Value: d.bytes()})
	}
	return r
}

func (d *decoder) leases() Leases {
	l := Leases{Revision: d.number()}
	n := d.count(8)
	if n > 0 {
		l.IDs = make([]int64, 0, n)
	}
	for range n {
		l.IDs = append(l.IDs, d.id())
	}
	return l
}

// fail keeps the first error. Without a rest, the fields behind it are zeros, and loops over them end.
func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = damaged(format, args...)
	}
	d.rest = nil
}

// uvarint takes a number in the only form that the encoder writes: the shortest. If an entry had several encodings,
// a segment would not have the same bytes after it was read and written again, and two copies could differ for nothing.
func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 || n > 1 && d.rest[n-1] == 0 {
		d.fail("a number is cut off, too large, or not written in its shortest form")
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// number takes one of those that are signed in etcd and never negative.
func (d *decoder) number() int64 {
	v := d.uvarint()
	if v > 1<<63-1 {
		d.fail("the number %d is too large", v)
		return 0
	}
	return int64(v)
}

// count takes a number of things that have at least size bytes each. They must fit into the rest: memory is allocated
// by this number, and anybody can have written it.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.rest)/size) {
		d.fail("%d things do not fit into %d bytes", n, len(d.rest))
		return 0
	}
	return int(n)
}

// bytes takes a field with its length before it. Its capacity ends with it, so that appending to it writes over no
// other.
func (d *decoder) bytes() []byte {
	n := d.count(1)
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

// id takes the id of a lease. It is not a varint: ids are random, and most varints of them would be longer.
func (d *decoder) id() int64 {
	if len(d.rest) < 8 {
		d.fail("the id of a lease is cut off")
		return 0
	}
	id := binary.BigEndian.Uint64(d.rest)
	d.rest = d.rest[8:]
	return int64(id)
}

// bool takes 0 or 1 alone, for the same reason as uvarint takes one form.
func (d *decoder) bool() bool {
	v := d.uvarint()
	if v > 1 {
		d.fail("%d is neither yes nor no", v)
	}
	return v == 1
}

// last takes a field that is 1, or is not there.
func (d *decoder) last() bool {
	if len(d.rest) == 0 {
		return false
	}
	on := d.bool()
	if !on {
		d.fail("a field that is off is written")
	}
	return on
}

// time takes one that an encoder has written, in UTC: two readers on machines of two zones have equal entries.
func (d *decoder) time() time.Time {
	ms := d.number()
	if err := checkMillis(ms); err != nil {
		d.fail("%w", err)
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
