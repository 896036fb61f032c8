package upkeep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/snapshot"
)

// young is how old the newest changes of a segment must be before it is copied to a backend whose journal ends before
// it: the leader uploads it there itself.
const young = 10 * time.Minute

// Copied is the work of a repair for one backend.
type Copied struct {
	Backend  string
	Segments int // that were copied there
	Bytes    int64
	Replaced []segments.Ref // damaged ones that were written over, or removed because good ones hold their revisions
	Lacking  int64          // revisions that another backend has, and this one lacks still
	Damaged  []Damage       // that were found there
	LeadsTo  int64          // revision of the live timeline to which it leads from a snapshot on this backend; 0 without one
	More     bool           // the rest is left for the next repair: this one has done its share
	Err      error          // why something is left that the next repair may not bring either
}

// Repair brings to each backend the revisions that it lacks, or has in a damaged segment, and another one has. The
// segments are copied as they are stored there. Their cuts may be others than here: segments of a timeline may overlap,
// and a merge removes those that others hold. A damaged one is written over by a good copy of its own name; one whose
// revisions other segments hold, which were read back, is removed; the last one is never.
//
// Nothing is copied that the Pruner would remove. A backend that cannot be listed, or is not the store that it was,
// counts neither as a source nor as one that lacks something. What is too much for one repair is left for the next one.
func (c *Copies) Repair(ctx context.Context, live segment.Timeline, now time.Time) []Copied {
	seen := c.Pruner.look(ctx)
	r := &repair{copies: c, places: c.Pruner.Places, now: now, left: cmp.Or(c.Budget, DefaultBudget), silent: seen.errs}
	r.all, r.row, r.filled = make([]Copied, len(r.places)), make([]int, len(r.places)), make([]int64, len(r.places))
	for k, p := range r.places {
		r.all[k] = Copied{Backend: p.Segments.Name(), Err: seen.errs[k]}
	}
	incomplete := errors.Join(seen.errs...) != nil
	for i, t := range slices.Backward(seen.timelines) { // the newest are of most use
		r.list(ctx, t)
		for k := range r.places {
			before, _ := c.Pruner.before(seen, i, k, live, now)
			if seen.unsure[t] != nil {
				before = 0 // nothing is pruned meanwhile either, and the snapshot may lead on from before
			}
			// A backend that cannot be listed may have the snapshot before which nothing is needed.
			if r.silent[k] != nil || before == 0 && incomplete || ctx.Err() != nil {
				continue
			}
			if err := r.fill(ctx, k, before); err != nil {
				r.all[k].Err = errors.Join(r.all[k].Err, err)
			}
			if t == live {
				r.all[k].LeadsTo = leadsTo(seen.bases[k][t], union(r.held[k]))
			}
		}
	}
	if ctx.Err() == nil {
		r.note()
	}
	return r.all
}

// leadsTo returns the revision to which the segments of a place lead from one of its snapshots; 0 when they do not.
func leadsTo(bases []base, held []span) (to int64) {
	for _, b := range bases {
		for _, s := range held {
			if s.first <= b.revision+1 && b.revision <= s.last {
				to = max(to, s.last)
			}
		}
	}
	return to
}

// repair is one Repair.
type repair struct {
	copies *Copies
	places []Place
	now    time.Time
	left   int64 // bytes that may be copied
	all    []Copied
	silent []error // by place: why it does not count
	row    []int   // by place: how many segments in a row it has not given
	filled []int64 // by place: revisions that it lacked, and has now

	// Of one timeline.
	held [][]segments.Ref // by place: the segments that are not known to be damaged
	bad  [][]segments.Ref // by place: the others
	ends []int64          // by place: the last revision
}

// offer is a segment that another place has.
type offer struct {
	segments.Ref
	place int
}

// list lists the segments of a timeline.
func (r *repair) list(ctx context.Context, t segment.Timeline) {
	n := len(r.places)
	r.held, r.bad, r.ends = make([][]segments.Ref, n), make([][]segments.Ref, n), make([]int64, n)
	for k, p := range r.places {
		if r.silent[k] != nil {
			continue
		}
		items, err := p.Segments.Of(ctx, t)
		if err != nil {
			r.silent[k], r.all[k].Err = err, errors.Join(r.all[k].Err, err)
			continue
		}
		there := map[segments.Ref]bool{}
		for _, item := range items {
			there[item.Ref] = true
			r.ends[k] = max(r.ends[k], item.Last)
			switch r.again(ctx, k, item.Ref) {
			case absent:
			case damaged:
				r.bad[k] = append(r.bad[k], item.Ref)
			default:
				r.held[k] = append(r.held[k], item.Ref)
			}
		}
		r.copies.findings.forget(p.Segments.Name(), func(ref segments.Ref) bool { return ref.Timeline != t || there[ref] })
	}
}

// again tells of a segment as far as it is known. One that was not good is looked at once more: another replica, or a
// person, may have put it right.
func (r *repair) again(ctx context.Context, k int, ref segments.Ref) answer {
	last := r.copies.findings.last(at{r.all[k].Backend, ref})
	switch {
	case last.err == nil:
		return good
	case r.row[k] == inRow && last.bad:
		return damaged
	case r.row[k] == inRow:
		return unreadable
	}
	got, err := r.copies.findings.look(ctx, r.places[k].Segments, ref, r.now)
	if got == unreadable {
		r.row[k]++
		return unreadable
	}
	if r.row[k] = 0; got == damaged && !last.bad {
		r.all[k].Damaged = append(r.all[k].Damaged, Damage{r.all[k].Backend, ref, err})
	}
	return got
}

// fill copies what a place lacks from a revision on.
func (r *repair) fill(ctx context.Context, k int, before int64) error {
	offers := r.offers(k)
	var others []segments.Ref
	for _, o := range offers {
		others = append(others, o.Ref)
	}
	kept := []span{{before, segment.MaxRevision}}
	wanted := without(kept, without(kept, union(others))) // the others have it, and it is kept
	var errs []error
	late := &late{}
	holes := without(wanted, union(r.held[k]))
	defer func() { r.filled[k] += size(holes) - size(without(wanted, union(r.held[k]))) }()
	pos := int64(0) // what is before it is copied, or nobody has it: one copy may fill several holes
	for _, hole := range holes {
		for pos = max(pos, hole.first); pos <= hole.last && ctx.Err() == nil && r.left > 0; {
			o, ok := best(offers, pos, hole.last)
			if !ok {
				pos = next(offers, pos, hole.last)
				continue
			}
			err := r.copy(ctx, k, o, late)
			if err == nil {
				pos = o.Last + 1
				continue
			}
			if snapshot.IsOfBackend(err, r.all[k].Backend) {
				r.all[k].Lacking += size(without(wanted, union(r.held[k])))
				return errors.Join(append(errs, err)...)
			}
			if !errors.Is(err, errYoung) && !snapshot.IsNotFound(err) { // else it is uploaded, or was merged meanwhile
				errs = append(errs, err)
			}
			away := r.row[o.place] >= inRow
			offers = slices.DeleteFunc(offers, func(other offer) bool { return other == o || away && other.place == o.place })
		}
	}
	r.all[k].Lacking += size(without(without(wanted, union(r.held[k])), union(late.segments)))
	r.all[k].More = r.left <= 0 && r.all[k].Lacking > 0
	if ctx.Err() == nil {
		errs = append(errs, r.settle(ctx, k))
	}
	return errors.Join(errs...)
}

// offers returns the segments that other places have.
func (r *repair) offers(k int) (all []offer) {
	for other := range r.places {
		if other == k {
			continue
		}
		for _, ref := range r.held[other] {
			all = append(all, offer{ref, other})
		}
	}
	return all
}

// best returns the offer that holds a revision and reaches the furthest within a hole, and of these the one with the
// fewest revisions.
func best(offers []offer, pos, last int64) (found offer, ok bool) {
	for _, o := range offers {
		if o.First > pos || o.Last < pos {
			continue
		}
		further := cmp.Compare(min(o.Last, last), min(found.Last, last))
		if !ok || further > 0 || further == 0 && o.Last-o.First < found.Last-found.First {
			found, ok = o, true
		}
	}
	return found, ok
}

// next returns the next revision behind one that is offered; one behind the hole when none is.
func next(offers []offer, pos, last int64) int64 {
	found := last + 1
	for _, o := range offers {
		if o.First > pos {
			found = min(found, o.First)
		}
	}
	return found
}

// errYoung: the leader uploads it itself.
var errYoung = errors.New("it is young")

// late is the segments that are left to the leader's upload.
type late struct{ segments []segments.Ref }

// copy copies one segment to a place.
func (r *repair) copy(ctx context.Context, k int, o offer, left *late) error {
	from, to := r.places[o.place].Segments, r.places[k].Segments
	m, err := from.Manifest(ctx, o.Ref)
	if err != nil {
		return r.failed(ctx, o, err)
	}
	r.copies.findings.gave(from.Name())
	if age := r.now.Sub(m.LastTime); o.Last > r.ends[k] && age >= 0 && age < young {
		left.segments = append(left.segments, o.Ref)
		return errYoung
	}
	if err := r.links(ctx, k, m); err != nil {
		return err
	}
	replaces := slices.Contains(r.bad[k], o.Ref)
	err = to.CopyFrom(ctx, from, m, replaces)
	if snapshot.IsDamage(err) && snapshot.BackendOf(err) == to.Name() {
		// A manifest that is not usable, without data: no listing shows it as a segment.
		err = to.CopyFrom(ctx, from, m, true)
	}
	if err != nil {
		return r.failed(ctx, o, err)
	}
	r.row[o.place] = 0
	r.left -= m.StoredSize
	c := &r.all[k]
	c.Segments, c.Bytes = c.Segments+1, c.Bytes+m.StoredSize
	if replaces {
		r.replaced(k, o.Ref)
	}
	r.held[k] = append(r.held[k], o.Ref)
	return nil
}

// failed notes an error of an offer, if it is one of the place that offers it, and returns it. One that is damaged is
// offered to nobody any more.
func (r *repair) failed(ctx context.Context, o offer, err error) error {
	name := r.places[o.place].Segments.Name()
	if ctx.Err() != nil || snapshot.BackendOf(err) != name {
		return err
	}
	switch r.copies.findings.note(at{name, o.Ref}, err, r.now) {
	case unreadable:
		r.row[o.place]++
	case damaged:
		r.spoiled(o, err)
		fallthrough
	default:
		r.row[o.place] = 0
	}
	return err
}

// spoiled notes that a segment that was held to be good is damaged.
func (r *repair) spoiled(o offer, err error) {
	at := &r.all[o.place]
	at.Damaged = append(at.Damaged, Damage{at.Backend, o.Ref, err})
	r.held[o.place] = slices.DeleteFunc(r.held[o.place], func(h segments.Ref) bool { return h == o.Ref })
	r.bad[o.place] = append(r.bad[o.place], o.Ref)
}

// links returns an error when a segment cannot be beside those of a place, because they are of another history. Without
// signatures, this is all that tells a forged one whose checksums are right.
func (r *repair) links(ctx context.Context, k int, m *segments.Manifest) error {
	to := r.places[k].Segments
	for _, ref := range r.held[k] {
		if ref.Last != m.First-1 && ref.First != m.Last+1 {
			continue
		}
		beside, err := to.Manifest(ctx, ref)
		if err != nil {
			continue // a scrub names it
		}
		err = m.Follows(beside)
		if ref.First == m.Last+1 {
			err = beside.Follows(m)
		}
		if err != nil {
			return fmt.Errorf("copy the segment %s to backend %s: %w", m.Name(), to.Name(), err)
		}
	}
	return nil
}

// settle removes the damaged segments of a place whose revisions good ones hold there.
func (r *repair) settle(ctx context.Context, k int) error {
	to := r.places[k].Segments
	var errs []error
	for _, bad := range slices.Clone(r.bad[k]) {
		if !r.holds(ctx, k, bad) {
			continue
		}
		if err := to.Remove(ctx, bad); err != nil {
			errs = append(errs, err)
			continue
		}
		r.replaced(k, bad)
	}
	return errors.Join(errs...)
}

// holds reports whether a place has all revisions of a damaged segment in others, and reads these back.
func (r *repair) holds(ctx context.Context, k int, bad segments.Ref) bool {
	if len(without([]span{{bad.First, bad.Last}}, union(r.held[k]))) > 0 {
		return false
	}
	var own []offer
	for _, ref := range r.held[k] {
		own = append(own, offer{ref, k})
	}
	for pos := bad.First; pos <= bad.Last; {
		o, ok := best(own, pos, bad.Last)
		if !ok {
			return false
		}
		got, err := r.copies.findings.look(ctx, r.places[k].Segments, o.Ref, r.now)
		if got == good {
			pos = o.Last + 1
			continue
		}
		if got != damaged {
			return false
		}
		r.spoiled(o, err) // the next repair replaces it
		own = slices.DeleteFunc(own, func(other offer) bool { return other == o })
	}
	return true
}

// replaced notes that a damaged segment is one no more.
func (r *repair) replaced(k int, ref segments.Ref) {
	r.bad[k] = slices.DeleteFunc(r.bad[k], func(b segments.Ref) bool { return b == ref })
	r.all[k].Replaced = append(r.all[k].Replaced, ref)
	r.copies.findings.note(at{r.all[k].Backend, ref}, nil, r.now)
}

// note keeps how the copies are. That of a place that is silent stays as it was. While another one is, it may be the one
// that has what a place lacks: only what was copied is not lacking any more.
func (r *repair) note() {
	c := r.copies
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == nil {
		c.state = map[string]State{}
	}
	heard := len(slices.DeleteFunc(slices.Clone(r.silent), func(err error) bool { return err != nil }))
	for k, done := range r.all {
		s := c.state[done.Backend]
		s.Copied += int64(done.Segments)
		switch {
		case r.silent[k] != nil:
		case heard == len(r.places):
			s.Known, s.Lacking = true, done.Lacking
		case heard > 1:
			s.Known, s.Lacking = true, max(done.Lacking, s.Lacking-r.filled[k])
		}
		c.state[done.Backend] = s
	}
}
