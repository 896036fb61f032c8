package upkeep

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math"
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
	LeadsTo  int64          // revision of the live timeline to which it leads from a snapshot here; 0 without one
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
func (c *Copies) Repair(ctx context.Context, live segment.Timeline, now time.Time) (all []Copied) {
	return c.repair(ctx, Task{Live: live, Repair: true}, now)
}

// Task is what is asked of a reconcile.
type Task struct {
	Live         segment.Timeline // to which the leader adds; when it is empty, the newest one is taken for it
	Into         []string         // names of the backends that are compared with the others; all when empty
	Repair       bool             // copy what they lack
	ValidateOnly bool             // with Repair: copy nothing, and count what would be copied
}

// Reconcile does one share of a task, on the chosen backends. Copied.More says that the rest is left for the next one.
func (c *Copies) Reconcile(ctx context.Context, task Task, now time.Time) []Copied {
	return slices.DeleteFunc(c.repair(ctx, task, now), func(done Copied) bool { return !task.chooses(done.Backend) })
}

// chooses reports whether a backend is compared with the others.
func (t *Task) chooses(backend string) bool { return snapshot.IsChosen(backend, t.Into) }

// changes reports whether anything is written.
func (t *Task) changes() bool { return t.Repair && !t.ValidateOnly }

// Then returns the work of a repair and of the one after it.
func (c *Copied) Then(next Copied) Copied {
	next.Segments, next.Bytes = c.Segments+next.Segments, c.Bytes+next.Bytes
	next.Replaced, next.Damaged = slices.Concat(c.Replaced, next.Replaced), slices.Concat(c.Damaged, next.Damaged)
	return next
}

// takeTurn waits until no other repair is under way, or ctx is done.
func (c *Copies) takeTurn(ctx context.Context) (done func(), err error) {
	c.mu.Lock()
	if c.turn == nil {
		c.turn = make(chan struct{}, 1)
	}
	turn := c.turn
	c.mu.Unlock()
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// repair does one share of a task.
func (c *Copies) repair(ctx context.Context, task Task, now time.Time) (all []Copied) {
	// A comparison alone writes nothing, and need not wait for a repair, which takes minutes.
	if task.changes() {
		done, err := c.takeTurn(ctx)
		if err != nil {
			for _, p := range c.Pruner.Places {
				all = append(all, Copied{Backend: p.Segments.Name(), Err: err})
			}
			return all
		}
		defer done()
	}
	seen := c.Pruner.look(ctx)
	r := c.newRepair(task, seen, now)
	for i := range slices.Backward(seen.timelines) { // the newest are of most use
		r.fillAll(ctx, seen, i)
	}
	if ctx.Err() == nil && task.changes() {
		r.note()
	}
	for _, s := range r.sides {
		all = append(all, s.done)
	}
	return all
}

func (c *Copies) newRepair(task Task, seen *seen, now time.Time) *repair {
	bytes, limit := cmp.Or(c.Budget, DefaultBudget), cmp.Or(c.Time, DefaultTime)
	r := &repair{
		copies: c, task: task, now: now, left: share{bytes: bytes, time: limit},
		looks: share{bytes: DefaultBudget, time: limit / 3},
		sound: map[at]bool{},
	}
	if !task.changes() {
		r.left = share{bytes: math.MaxInt64, time: math.MaxInt64} // nothing is copied
	}
	for k, p := range c.Pruner.Places {
		r.sides = append(r.sides, &side{
			Segments: p.Segments, silent: seen.errs[k], done: Copied{Backend: p.Segments.Name(), Err: seen.errs[k]},
		})
	}
	return r
}

// fillAll compares all backends by one timeline, and copies to each of the chosen ones what it lacks.
func (r *repair) fillAll(ctx context.Context, seen *seen, i int) {
	t, live := seen.timelines[i], r.task.Live
	// All of them first: each may have revisions for any other.
	for _, s := range r.sides {
		r.list(ctx, s, t)
	}
	incomplete := errors.Join(seen.errs...) != nil
	for k, s := range r.sides {
		before, _ := r.copies.Pruner.before(seen, i, k, live, r.now)
		if seen.unsure[t] != nil {
			before = 0 // nothing is pruned meanwhile either, and the snapshot may lead on from before
		}
		// A backend that cannot be listed may have the snapshot before which nothing is needed.
		if s.silent != nil || before == 0 && incomplete || ctx.Err() != nil || !r.task.chooses(s.Name()) {
			continue
		}
		s.failed(r.fill(ctx, s, before))
		if t == live {
			s.done.LeadsTo = leadsTo(seen.bases[k][t], s.held.ranges())
		}
	}
}

// leadsTo returns the revision to which the segments of a place lead from one of its snapshots; 0 when they do not.
func leadsTo(bases []base, held []segment.Range) (to int64) {
	for _, b := range bases {
		for _, r := range held {
			if r.First <= b.revision+1 && b.revision <= r.Last {
				to = max(to, r.Last)
			}
		}
	}
	return to
}

// repair is one share of a task. It goes through the timelines one by one, and each side lists its segments of that
// one.
//
// It has two budgets. Copying is bounded in bytes and time, so that merges and prunes come between. Looking again at
// bad segments has its own bounds: a backend with many bad segments must not use up the time in which others are
// repaired.
type repair struct {
	copies *Copies
	task   Task
	now    time.Time
	left   share       // of what is copied
	looks  share       // of what is looked at again
	copied int         // segments
	sound  map[at]bool // those that were read back
	sides  []*side
}

// share is how much of something a repair does.
type share struct {
	bytes int64
	time  time.Duration
	until time.Time // zero before anything was done
}

// spent reports whether all was done. The time begins with the first call: listings can take long.
func (s *share) spent() bool {
	if s.until.IsZero() {
		s.until = time.Now().Add(s.time)
	}
	return s.bytes <= 0 || !time.Now().Before(s.until)
}

// extend leaves time out in which nothing was done.
func (s *share) extend(by time.Duration) {
	if !s.until.IsZero() {
		s.until = s.until.Add(by)
	}
}

// fill copies to a backend what it lacks from a revision on.
func (r *repair) fill(ctx context.Context, to *side, before int64) error {
	offered, others := r.offers(to)
	kept := []segment.Range{{First: before, Last: segment.MaxRevision}}
	wanted := segment.Without(kept, segment.Without(kept, others.ranges())) // the others have it, and it is kept
	lacking := func() []segment.Range { return segment.Without(wanted, to.held.ranges()) }
	holes, late := lacking(), refs{}
	errs := r.copyInto(ctx, to, holes, offered, late)
	left := lacking()
	to.filled += segment.Size(holes) - segment.Size(left)
	to.done.Lacking += segment.Size(segment.Without(left, late.ranges()))
	to.done.More = to.done.Lacking > 0 && r.copied > 0 && r.left.spent()
	fromHere := func(err error) bool { return snapshot.IsOfBackend(err, to.Name()) }
	// A backend that does not take or give its own is left alone until it does: it may be away.
	if r.task.changes() && ctx.Err() == nil && !slices.ContainsFunc(errs, fromHere) {
		errs = append(errs, r.removeDamaged(ctx, to))
	}
	return errors.Join(errs...)
}

// offers returns the segments that other backends have, and those of them that may be given.
func (r *repair) offers(to *side) (offered *offers, all refs) {
	var given []offer
	all = refs{}
	for _, s := range r.sides {
		if s == to {
			continue
		}
		for ref := range s.held {
			if all[ref] = true; s.row < inRow {
				given = append(given, offer{ref, s})
			}
		}
	}
	return newOffers(given), all
}

// copyInto copies what is offered into the holes of a backend. late are the segments that are left to the leader's
// upload.
func (r *repair) copyInto(
	ctx context.Context, to *side, holes []segment.Range, offered *offers, late refs,
) (errs []error) {
	pos := int64(0) // what is before it is copied, or nobody has it: one copy may fill several holes
	for _, hole := range holes {
		for pos = max(pos, hole.First); pos <= hole.Last && ctx.Err() == nil && !r.left.spent(); {
			o, ok := offered.best(pos, hole.Last)
			if !ok {
				pos = offered.next(hole.Last)
				continue
			}
			err := r.copy(ctx, to, o, segment.Range{First: pos, Last: hole.Last})
			switch {
			case err == nil:
				pos = o.Last + 1
				continue
			case errors.Is(err, errYoung):
				late[o.Ref] = true
			case snapshot.IsOfBackend(err, to.Name()):
				return append(errs, err)
			case !snapshot.IsNotFound(err): // else it was merged meanwhile
				errs = append(errs, err)
			}
			// One that did not give several in a row is not asked for the rest: each question may wait for a timeout.
			away := o.from.row >= inRow
			offered.drop(func(other offer) bool { return other == o || away && other.from == o.from })
		}
	}
	return errs
}

// errYoung: the leader uploads it itself.
var errYoung = errors.New("it is young")

// copy copies one segment into a hole of a backend.
func (r *repair) copy(ctx context.Context, to *side, o offer, hole segment.Range) error {
	if !r.task.Repair && (o.Last <= to.last || o.Level != segment.Level10s) {
		return nil // it lacks it, whether it can be copied or not; merged ones are seldom young
	}
	m, err := o.from.Manifest(ctx, o.Ref)
	if err != nil {
		return r.failed(ctx, o, err)
	}
	// Behind the end of the backend, its own upload brings it. Within it, nobody else will.
	if age := r.now.Sub(m.LastTime); o.Last > to.last && age >= 0 && age < young {
		return errYoung
	}
	read, err := to.links(ctx, o.from.Segments, m, hole)
	r.left.bytes -= read
	if err != nil {
		return r.failed(ctx, o, err)
	}
	if !r.task.changes() {
		if r.task.Repair {
			to.done.Segments, to.done.Bytes = to.done.Segments+1, to.done.Bytes+m.StoredSize
		}
		return nil
	}
	r.left.bytes -= m.StoredSize
	replaces := to.bad[o.Ref]
	err = to.CopyFrom(ctx, o.from.Segments, m, replaces)
	if snapshot.IsDamage(err) && snapshot.BackendOf(err) == to.Name() {
		// A manifest that is not usable, without data: no listing shows it as a segment.
		err = to.CopyFrom(ctx, o.from.Segments, m, true)
	}
	if err != nil {
		return r.failed(ctx, o, err)
	}
	o.from.row = 0
	r.copies.findings.gave(at{o.from.Name(), o.Ref})
	r.copied++
	to.done.Segments, to.done.Bytes = to.done.Segments+1, to.done.Bytes+m.StoredSize
	if replaces {
		r.replaced(to, o.Ref)
	}
	to.add(o.Ref)
	return nil
}

// failed notes an error of an offer, if it is one of the backend that offers it, and returns it. One that is damaged is
// offered to nobody any more.
func (r *repair) failed(ctx context.Context, o offer, err error) error {
	if ctx.Err() != nil || snapshot.BackendOf(err) != o.from.Name() {
		return err
	}
	switch r.copies.findings.note(at{o.from.Name(), o.Ref}, err, false, r.now) {
	case unreadable:
		o.from.row++
	case damaged:
		o.from.spoiled(o.Ref, err)
		fallthrough
	default:
		o.from.row = 0
	}
	return err
}

// removeDamaged removes the damaged segments of a backend whose revisions good ones hold there. Those that it does not
// let go are left alone.
func (r *repair) removeDamaged(ctx context.Context, s *side) error {
	var errs []error
	held := s.held.ranges()
	// A clone: those that are removed, or are good after all, leave the set meanwhile.
	for bad := range maps.Clone(s.bad) {
		it := at{s.Name(), bad}
		switch {
		case !segment.Within(rangeOf(bad), held):
			r.copies.findings.spare(it, time.Time{})
			continue
		case r.copies.findings.last(it).isSpare(r.now):
			continue
		case !r.holds(ctx, s, bad):
			held = s.held.ranges() // one may be damaged, too
			continue
		}
		// Read once more right before it goes: removing is for good.
		if got, _ := r.copies.findings.look(ctx, s.Segments, bad, r.now); got != damaged {
			r.spared(s, bad, got) // a person has put it right, or it was merged, meanwhile
			held = s.held.ranges()
			continue
		}
		switch err := s.Remove(ctx, bad); {
		case err == nil:
			r.replaced(s, bad)
		// An object lock, or a missing permission: asked again tomorrow, and not counted as damage, which no one could
		// mend.
		case segments.IsRefused(err):
			r.copies.findings.spare(it, r.now)
		default:
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// spared notes that a segment that was held to be damaged is not.
func (r *repair) spared(s *side, bad segments.Ref, got answer) {
	switch got {
	case good:
		s.add(bad)
	case absent:
		delete(s.bad, bad)
	case damaged, unreadable: // the next repair reads it again
	}
}

// holds reports whether a backend has all revisions of a damaged segment in others, and reads these back.
func (r *repair) holds(ctx context.Context, s *side, bad segments.Ref) bool {
	var own []offer
	for ref := range s.held {
		if ref.First <= bad.Last && bad.First <= ref.Last {
			own = append(own, offer{ref, s})
		}
	}
	offered := newOffers(own)
	for pos := bad.First; pos <= bad.Last; {
		o, ok := offered.best(pos, bad.Last)
		if !ok {
			return false
		}
		it := at{s.Name(), o.Ref}
		if r.sound[it] {
			pos = o.Last + 1
			continue
		}
		switch got, err := r.copies.findings.look(ctx, s.Segments, o.Ref, r.now); got {
		case good:
			pos, r.sound[it] = o.Last+1, true
			continue
		case damaged:
			s.spoiled(o.Ref, err) // the next repair replaces it
		default:
			return false
		}
		offered.drop(func(other offer) bool { return other == o })
	}
	return true
}

// replaced notes that a damaged segment is one no more.
func (r *repair) replaced(s *side, ref segments.Ref) {
	delete(s.bad, ref)
	s.done.Replaced = append(s.done.Replaced, ref)
	r.copies.findings.drop(at{s.Name(), ref})
}

// note keeps how the copies on each backend are. A backend that is silent keeps its state of before. While another one
// is silent, which may have what this one lacks, Lacking goes down only by the revisions that were copied.
func (r *repair) note() {
	c := r.copies
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == nil {
		c.state = map[string]State{}
	}
	silent := 0
	for _, s := range r.sides {
		if s.silent != nil {
			silent++
		}
	}
	for _, s := range r.sides {
		if !r.task.chooses(s.Name()) {
			continue
		}
		is := c.state[s.Name()]
		is.Copied += int64(s.done.Segments)
		switch {
		case s.silent != nil:
		case silent == 0:
			is.Known, is.Lacking = true, s.done.Lacking
		// One beside which all others are silent was compared with nothing.
		case silent < len(r.sides)-1:
			is.Known, is.Lacking = true, max(s.done.Lacking, is.Lacking-s.filled)
		}
		c.state[s.Name()] = is
	}
}
