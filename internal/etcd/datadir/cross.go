package datadir

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// gap is revisions that are lost, both ends among them.
type gap struct{ from, to int64 }

// Crossed says what [Replay.Mend] found in a database to which revisions behind a gap were added.
type Crossed struct {
	Written int64 // keys that were written or deleted behind the gaps: what they are now is right
	Changed int64 // those of them that were changed in a gap, too, as far as their records show it
}

// Cross notes that the next revisions are lost. Those behind them may be added.
func (r *Replay) Cross(from, to int64) {
	r.gaps = append(r.gaps, gap{from, to})
	if r.behind == nil {
		r.behind = map[string]*trail{}
	}
}

// trail is the records of a key, as they follow in the order of revisions.
type trail struct {
	records                [][]byte // the keys of the bucket
	main, created, version int64    // of the last one; created and version are 0 for a tombstone
	changed                bool     // in a gap
}

// note remembers a key that was written behind a gap.
func (r *Replay) note(value []byte) error {
	if len(r.gaps) == 0 {
		return nil
	}
	f, ok := parseFields(value)
	if !ok {
		return errors.New("the record of a key is malformed")
	}
	if key := string(f.key); r.behind[key] == nil {
		r.behind[key] = &trail{}
	}
	return nil
}

// Mend makes the records of a database consistent again after gaps were crossed. etcd takes the records of a key for
// consecutive versions. When the key was changed in a gap, some versions are missing: etcd's count would differ from
// the version in the records until a compaction and a restart, and so between members that were restarted and others.
// So the records of such a key before the gap are removed.
//
// The error wraps [ErrDiffers] when a record behind a gap cannot follow those before it.
func (r *Replay) Mend() (c Crossed, err error) {
	if err := r.begin(); err != nil {
		return c, fmt.Errorf("mend the keys behind a gap: %w", err)
	}
	stale, err := r.follow()
	if err != nil {
		return c, fmt.Errorf("mend the keys behind a gap: %w", err)
	}
	for len(stale) > 0 {
		n := min(batch, len(stale))
		for _, k := range stale[:n] {
			if err := r.keys.Delete(k); err != nil {
				return c, fmt.Errorf("mend the keys behind a gap: %w", err)
			}
		}
		stale = stale[n:]
		if err := errors.Join(r.commit(), r.begin()); err != nil {
			return c, fmt.Errorf("mend the keys behind a gap: %w", err)
		}
	}
	for _, t := range r.behind {
		c.Written++
		if t.changed {
			c.Changed++
		}
	}
	return c, nil
}

// follow reads all records in their order, and returns those of the keys changed in a gap that are before it.
func (r *Replay) follow() (stale [][]byte, err error) {
	c := r.keys.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		f, ok := parseFields(v)
		if !ok || len(k) < 17 {
			return nil, errors.New("the record of a key is malformed")
		}
		t := r.behind[string(f.key)]
		if t == nil {
			continue
		}
		main := int64(binary.BigEndian.Uint64(k))
		same, err := t.continues(main, f, r.isLost, r.lost(t.main, main))
		if err != nil {
			return nil, fmt.Errorf("%w: the record of revision %d behind the gap: %w", ErrDiffers, main, err)
		}
		if !same {
			t.changed = true
			stale, t.records = append(stale, t.records...), nil
		}
		if main < r.gaps[len(r.gaps)-1].from { // only these may have to go
			t.records = append(t.records, bytes.Clone(k))
		}
		t.main, t.created, t.version = main, f.created, f.version
	}
	return stale, nil
}

// lost returns how many revisions between two are lost.
func (r *Replay) lost(after, before int64) (n int64) {
	for _, g := range r.gaps {
		if after < g.from && g.to < before {
			n += g.to - g.from + 1
		}
	}
	return n
}

// isLost reports whether a revision is lost.
func (r *Replay) isLost(revision int64) bool {
	return slices.ContainsFunc(r.gaps, func(g gap) bool { return g.from <= revision && revision <= g.to })
}

// continues reports whether the next record of a key is the next change of it, with so many lost revisions between the
// two. Otherwise the key was changed in a gap. The error says why it cannot have been.
func (t *trail) continues(main int64, f fields, lostAt func(int64) bool, lost int64) (bool, error) {
	known, alive := t.main > 0, t.version > 0
	switch {
	case lost == 0:
		return true, nil
	case f.version == 0: // a tombstone
		return !known || alive, nil
	case f.created == main && f.version == 1: // made anew: before, it was deleted
		return !alive, nil
	case alive && f.created == t.created:
		if skipped := f.version - t.version - 1; skipped < 0 || skipped > lost {
			return false, fmt.Errorf("it is version %d of a key that had version %d at revision %d",
				f.version, t.version, t.main)
		}
		return f.version == t.version+1, nil
	case f.created <= t.main || f.created >= main || !lostAt(f.created) || f.version > lost+1:
		return false, fmt.Errorf("it is version %d of a key that was made at revision %d, where it was not",
			f.version, f.created)
	}
	return false, nil
}

// fields are those of a stored mvccpb.KeyValue that say how it follows the one before; without version for a tombstone.
type fields struct {
	key              []byte
	created, version int64
}

// parseFields reads them without unmarshalling the value.
func parseFields(v []byte) (f fields, ok bool) {
	for len(v) > 0 {
		number, kind, n := protowire.ConsumeTag(v)
		if n < 0 {
			return f, false
		}
		v = v[n:]
		if n = protowire.ConsumeFieldValue(number, kind, v); n < 0 {
			return f, false
		}
		switch {
		case number == 1 && kind == protowire.BytesType:
			f.key, _ = protowire.ConsumeBytes(v)
		case number == 2 && kind == protowire.VarintType:
			u, _ := protowire.ConsumeVarint(v)
			f.created = int64(u)
		case number == 4 && kind == protowire.VarintType:
			u, _ := protowire.ConsumeVarint(v)
			f.version = int64(u)
		}
		v = v[n:]
	}
	return f, true
}
