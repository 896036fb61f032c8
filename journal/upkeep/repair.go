package upkeep

import (
	"cmp"
	"context"
	"errors"
	"maps"
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
	bytes, limit := cmp.Or(c.Budget, DefaultBudget), cmp.Or(c.Time, DefaultTime)
	r := &repair{
		copies: c, places: c.Pruner.Places, now: now, silent: seen.errs,
		left: share{bytes, time.Now().Add(limit)}, looks: share{DefaultBudget, time.Now().Add(limit / 3)},
	}
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
				r.all[k].LeadsTo = leadsTo(seen.bases[k][t], union(r.sides[k].held))
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

// share is how much of something a repair does.
type share struct {
	bytes int64
	until time.Time
}

func (s *share) spent() bool { return s.bytes <= 0 || !time.Now().Before(s.until) }

// repair is one Repair.
type repair struct {
	copies *Copies
	places []Place
	now    time.Time
	left   share // of what is copied
	looks  share // of what is looked at again
	all    []Copied
	silent []error // by place: why it does not count
	row    []int   // by place: how many segments in a row it has not given
	filled []int64 // by place: revisions that it lacked, and has now

	sides []*side // by place, of one timeline
}

// side is the segments of a timeline on one place.
type side struct {
	held, bad refs  // bad ones are damaged as far as it is known
	last      int64 // revision

	begins, ends map[int64]segments.Ref // one of those that are held, by its first and its last revision
}

// add adds a good segment.
func (s *side) add(r segments.Ref) {
	s.held[r], s.begins[r.First], s.ends[r.Last] = true, r, r
	delete(s.bad, r)
}

// list lists the segments of a timeline.
func (r *repair) list(ctx context.Context, t segment.Timeline) {
	r.sides = make([]*side, len(r.places))
	for k, p := range r.places {
		s := &side{held: refs{}, bad: refs{}, begins: map[int64]segments.Ref{}, ends: map[int64]segments.Ref{}}
		if r.sides[k] = s; r.silent[k] != nil {
			continue
		}
		items, err := p.Segments.Of(ctx, t)
		if err != nil {
			r.silent[k], r.all[k].Err = err, errors.Join(r.all[k].Err, err)
			continue
		}
		there := refs{}
		var suspects []segments.Item
		for _, item := range items {
			there[item.Ref] = true
			s.last = max(s.last, item.Last)
			if r.copies.findings.last(at{p.Segments.Name(), item.Ref}).err != nil {
				suspects = append(suspects, item)
				continue
			}
			s.add(item.Ref)
		}
		r.again(ctx, k, suspects)
		r.copies.findings.forget(p.Segments.Name(), func(ref segments.Ref) bool { return ref.Timeline != t || there[ref] })
	}
}

// again looks once more at segments of a place that were not good. Another replica, or a person, may have put them right.
// Those that were looked at the longest ago are the first, and as many as there is time for.
func (r *repair) again(ctx context.Context, k int, suspects []segments.Item) {
	f, s, name := &r.copies.findings, r.sides[k], r.all[k].Backend
	slices.SortStableFunc(suspects, func(a, b segments.Item) int {
		return f.last(at{name, a.Ref}).looked.Compare(f.last(at{name, b.Ref}).looked)
	})
	for _, item := range suspects {
		last := f.last(at{name, item.Ref})
		got := unreadable
		if last.bad {
			got = damaged
		}
		if r.row[k] < inRow && !r.looks.spent() && !last.isSpare(r.now) && ctx.Err() == nil {
			var err error
			got, err = f.look(ctx, r.places[k].Segments, item.Ref, r.now)
			r.looks.bytes -= item.Size
			if r.row[k]++; got != unreadable {
				r.row[k] = 0
			}
			if r.row[k] == inRow {
				r.all[k].Err = errors.Join(r.all[k].Err, err)
			}
			if got == damaged && !last.bad {
				r.all[k].Damaged = append(r.all[k].Damaged, Damage{name, item.Ref, err})
			}
		}
		switch got {
		case damaged:
			s.bad[item.Ref] = true
		case good, unreadable:
			s.add(item.Ref)
		case absent:
		}
	}
}

// fill copies what a place lacks from a revision on.
func (r *repair) fill(ctx context.Context, k int, before int64) error {
	offered, others := r.offers(k)
	kept := []span{{before, segment.MaxRevision}}
	wanted := without(kept, without(kept, union(others))) // the others have it, and it is kept
	lacking := func() []span { return without(wanted, union(r.sides[k].held)) }
	holes, late := lacking(), refs{}
	errs := r.copyInto(ctx, k, holes, offered, late)
	left := lacking()
	r.filled[k] += size(holes) - size(left)
	r.all[k].Lacking += size(without(left, union(late)))
	r.all[k].More = r.left.spent() && r.all[k].Lacking > 0
	if ctx.Err() == nil && !slices.ContainsFunc(errs, func(err error) bool { return snapshot.IsOfBackend(err, r.all[k].Backend) }) {
		errs = append(errs, r.settle(ctx, k))
	}
	return errors.Join(errs...)
}

// copyInto copies what is offered into the holes of a place. late are the segments that are left to the leader's upload.
func (r *repair) copyInto(ctx context.Context, k int, holes []span, offered *offers, late refs) (errs []error) {
	pos := int64(0) // what is before it is copied, or nobody has it: one copy may fill several holes
	for _, hole := range holes {
		for pos = max(pos, hole.first); pos <= hole.last && ctx.Err() == nil && !r.left.spent(); {
			o, ok := offered.best(pos, hole.last)
			if !ok {
				pos = offered.next(hole.last)
				continue
			}
			err := r.copy(ctx, k, o, span{pos, hole.last})
			switch {
			case err == nil:
				pos = o.Last + 1
				continue
			case errors.Is(err, errYoung):
				late[o.Ref] = true
			case snapshot.IsOfBackend(err, r.all[k].Backend):
				return append(errs, err)
			case !snapshot.IsNotFound(err): // else it was merged meanwhile
				errs = append(errs, err)
			}
			away := r.row[o.place] >= inRow
			offered.drop(func(other offer) bool { return other == o || away && other.place == o.place })
		}
	}
	return errs
}

// offers returns the segments that other places have, and those of them that may be given.
func (r *repair) offers(k int) (offered *offers, all refs) {
	var given []offer
	all = refs{}
	for other, s := range r.sides {
		if other == k {
			continue
		}
		for ref := range s.held {
			if all[ref] = true; r.row[other] < inRow {
				given = append(given, offer{ref, other})
			}
		}
	}
	return newOffers(given), all
}

// errYoung: the leader uploads it itself.
var errYoung = errors.New("it is young")

// copy copies one segment into a hole of a place.
func (r *repair) copy(ctx context.Context, k int, o offer, hole span) error {
	from, to := r.places[o.place].Segments, r.places[k].Segments
	m, err := from.Manifest(ctx, o.Ref)
	if err != nil {
		return r.failed(ctx, o, err)
	}
	r.copies.findings.gave(from.Name())
	if age := r.now.Sub(m.LastTime); o.Last > r.sides[k].last && age >= 0 && age < young {
		return errYoung
	}
	if err := r.links(ctx, k, o, m, hole); err != nil {
		return r.failed(ctx, o, err)
	}
	replaces := r.sides[k].bad[o.Ref]
	err = to.CopyFrom(ctx, from, m, replaces)
	if snapshot.IsDamage(err) && snapshot.BackendOf(err) == to.Name() {
		// A manifest that is not usable, without data: no listing shows it as a segment.
		err = to.CopyFrom(ctx, from, m, true)
	}
	if err != nil {
		return r.failed(ctx, o, err)
	}
	r.row[o.place] = 0
	r.left.bytes -= m.StoredSize
	c := &r.all[k]
	c.Segments, c.Bytes = c.Segments+1, c.Bytes+m.StoredSize
	if replaces {
		r.replaced(k, o.Ref)
	}
	r.sides[k].add(o.Ref)
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
	delete(r.sides[o.place].held, o.Ref)
	r.sides[o.place].bad[o.Ref] = true
}

// settle removes the damaged segments of a place whose revisions good ones hold there. Those that the backend does not
// let go are left alone.
func (r *repair) settle(ctx context.Context, k int) error {
	to, s := r.places[k].Segments, r.sides[k]
	var errs []error
	held := union(s.held)
	for bad := range maps.Clone(s.bad) {
		it := at{to.Name(), bad}
		switch {
		case !within(bad, held):
			r.copies.findings.spare(it, time.Time{})
			continue
		case r.copies.findings.last(it).isSpare(r.now):
			continue
		case !r.holds(ctx, k, bad):
			held = union(s.held) // one may be damaged, too
			continue
		}
		switch err := to.Remove(ctx, bad); {
		case err == nil:
			r.replaced(k, bad)
		case segments.IsRefused(err):
			r.copies.findings.spare(it, r.now)
		default:
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// holds reports whether a place has all revisions of a damaged segment in others, and reads these back.
func (r *repair) holds(ctx context.Context, k int, bad segments.Ref) bool {
	var own []offer
	for ref := range r.sides[k].held {
		if ref.First <= bad.Last && bad.First <= ref.Last {
			own = append(own, offer{ref, k})
		}
	}
	offered := newOffers(own)
	for pos := bad.First; pos <= bad.Last; {
		o, ok := offered.best(pos, bad.Last)
		if !ok {
			return false
		}
		switch got, err := r.copies.findings.look(ctx, r.places[k].Segments, o.Ref, r.now); got {
		case good:
			pos = o.Last + 1
			continue
		case damaged:
			r.spoiled(o, err) // the next repair replaces it
		default:
			return false
		}
		offered.drop(func(other offer) bool { return other == o })
	}
	return true
}

// replaced notes that a damaged segment is one no more.
func (r *repair) replaced(k int, ref segments.Ref) {
	delete(r.sides[k].bad, ref)
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
