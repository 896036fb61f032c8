package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/journal/local"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/snapshot"
)

// A Store is the journal on one backend, to which parts are uploaded. [segments.Segments] is one. Its methods may be
// called at once from several goroutines. The caller tries again: an upload for ever, as long as the part is on the
// disk, and a question with the session that asks it. A [snapshot.Error] for damage, or for a manifest that is not
// trusted, is one that another attempt does not change.
type Store interface {
	Name() string
	// OpenStore returns an error when the backend is not the store that it was, such as an unmounted directory.
	OpenStore(ctx context.Context) error
	// Timelines returns those of which there is a journal.
	Timelines(ctx context.Context) ([]segment.Timeline, error)
	// List yields the segments of a level of a timeline. An error is the last element.
	List(ctx context.Context, t segment.Timeline, l segment.Level) iter.Seq2[segments.Item, error]
	// Open opens a segment. The caller closes the reader.
	Open(ctx context.Context, m *segments.Manifest) (*segments.Reader, error)
	// Put stores a segment, unless one with its name and history is there. Another history is an error that wraps
	// [segments.ErrOtherHistory].
	Put(ctx context.Context, s *segment.Segment) error
	// Newest returns the segment of a timeline with the highest last revision; nil when there is none.
	Newest(ctx context.Context, t segment.Timeline) (*segments.Manifest, error)
}

var _ Store = (*segments.Segments)(nil)

// upload brings sealed parts to one backend, in their order.
//
// A part without an outcome is tried. One that is stored here is done. One that was refused, because the backend has
// another history under its name, is done as well: no later attempt could change that. One that is passed over, because
// it or the object of its name is bad, is tried again now and then, and the parts behind it go first. The disk keeps a
// part until each backend is done with it, and one of them has it; when the disk is full, the latter is enough
// (shrink).
//
// Revisions that the backend can never get, because the disk was full, are lost to it: lost, gap and before say which.
// A snapshot behind them ends the loss (based), and so does a repair from another backend (filled).
type upload struct {
	journal *Journal
	store   Store

	mu       sync.Mutex
	outcomes map[int64]ending // by the number of a part that needs no further attempt for now
	lost     time.Time        // of the first revision of this timeline that it can never get; zero when there is none
	gap      local.Position   // the last one of these
	before   local.Position   // the last one before them
	asked    bool             // for a snapshot behind the lost revisions
	bare     bare             // it has no snapshot that the live timeline begins with
	bytes    int64            // of segments that it has taken
	count    int64            // of these
	err      error            // of the last attempt
	end      segment.Header   // of the newest segment, when another replica or process has made it
	auth     *segment.Auth    // the last state of users and roles in it; nil when it has none
	// known is where this replica has gone on while the backend did not answer; nil once the backend was compared with it.
	known *local.Position
	// first is the first part that the backend has stored since it was asked where its journal ends. Segments from there
	// on are of this process, and do not show where the journal ended before.
	first *segment.Header
}

// ending is how the upload of a part has ended. One that the backend does not have, without an error, was refused for
// good.
type ending struct {
	stored bool  // the backend has it
	err    error // it is passed over: the part, or the object of its name, cannot be used
}

// run uploads until ctx ends.
func (u *upload) run(ctx context.Context) {
	failed := 0
	again := time.NewTicker(u.journal.badRetry)
	defer again.Stop()
	for ctx.Err() == nil {
		// Anew each time, the oldest first: others come, and a full disk takes some away meanwhile.
		parts, changed := u.journal.log.Sealed()
		i := slices.IndexFunc(parts, func(p local.Part) bool {
			_, ended := u.ending(p.Number)
			return !ended
		})
		if i < 0 {
			select {
			case <-changed:
			case <-again.C:
				u.tryBadAgain()
			case <-ctx.Done():
			}
			continue
		}
		err := u.put(ctx, parts[i])
		if ctx.Err() != nil {
			return
		}
		if u.note(err); err == nil {
			failed = 0
			continue
		}
		failed++
		pause := backoff.Spread(backoff.Delay(firstUploadRetry, uploadRetry, failed), 0.1)
		u.journal.cfg.Logger.ErrorContext(ctx, "upload of the journal", "backend", u.store.Name(), "retry_after", pause,
			"error", err)
		_ = backoff.Wait(ctx, pause)
	}
}

// last uploads the parts that are left, and ends at the first error.
func (u *upload) last(ctx context.Context) {
	parts, _ := u.journal.log.Sealed()
	for i := range parts {
		if _, ended := u.ending(parts[i].Number); ended {
			continue
		}
		if err := u.put(ctx, parts[i]); err != nil {
			u.journal.cfg.Logger.WarnContext(ctx, "journal stays on the disk until it is followed again",
				"backend", u.store.Name(), "error", err)
			return
		}
	}
}

// put uploads one part.
func (u *upload) put(ctx context.Context, p local.Part) error {
	if err := u.compareLater(ctx); err != nil {
		return err
	}
	seg, err := u.journal.build(ctx, &p)
	if errors.Is(err, errGone) {
		u.finish(&p, ending{})
		return nil
	}
	if err != nil {
		u.passOver(ctx, &p, err)
		return nil
	}
	err = u.store.Put(ctx, seg)
	if errors.Is(err, segments.ErrOtherHistory) {
		u.journal.differs(ctx, u.store.Name(), &p, err)
		u.finish(&p, ending{}) // it cannot be stored under this name, now or later
		return nil
	}
	// The object of this name is bad there. A person, or a repair, has to act, and the parts behind it do not wait for
	// that.
	if e, ok := errors.AsType[*snapshot.Error](err); ok && e.Retry == 0 && snapshot.IsDamage(err) {
		u.passOver(ctx, &p, err)
		return nil
	}
	if err != nil {
		return err
	}
	u.stored(&p.Header, len(seg.Data))
	u.finish(&p, ending{stored: true})
	return nil
}

// finish notes that a part needs no further attempt, and removes it when no backend needs it any more.
func (u *upload) finish(p *local.Part, e ending) {
	u.mu.Lock()
	if u.outcomes == nil {
		u.outcomes = map[int64]ending{}
	}
	u.outcomes[p.Number] = e
	u.mu.Unlock()
	// Without the lock: removing asks all backends for their outcomes, this one among them.
	u.journal.removeStored(p)
}

// passOver lets the parts behind one that cannot be stored go first. It stays on the disk, and is tried again later.
func (u *upload) passOver(ctx context.Context, p *local.Part, err error) {
	u.journal.cfg.Logger.ErrorContext(ctx, "part of the journal cannot be stored and stays on the disk",
		"backend", u.store.Name(), "timeline", p.Header.Timeline, "first", p.Header.First, "last", p.Header.Last,
		"retry_after", u.journal.badRetry, "error", err)
	u.finish(p, ending{err: err})
}

// tryBadAgain lets the parts that were passed over be tried again.
func (u *upload) tryBadAgain() {
	u.mu.Lock()
	defer u.mu.Unlock()
	maps.DeleteFunc(u.outcomes, func(_ int64, e ending) bool { return e.err != nil })
}

// ending returns how the upload of a part has ended, and whether it has.
func (u *upload) ending(number int64) (e ending, ended bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	e, ended = u.outcomes[number]
	return e, ended
}

// forget notes that a part was removed from the disk, and reports whether the backend lacks it. That counts only on the
// timeline that is written: another one begins with a snapshot.
func (u *upload) forget(p *local.Part, current segment.Timeline) (lost bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if lost = !u.outcomes[p.Number].stored && p.Header.Timeline == current; lost {
		u.lose(p.Header.FirstTime, local.Position{Timeline: current, Revision: p.Header.Last})
	}
	delete(u.outcomes, p.Number)
	return lost
}

// lose notes revisions that the backend can never get. The caller holds the lock.
func (u *upload) lose(since time.Time, last local.Position) {
	// The earliest loss is how far back the backend can be relied on; a snapshot must be behind the last one.
	u.lost = earlier(u.lost, past(since))
	if last.Newer(u.gap) {
		u.gap, u.asked = last, false
	}
}

// whole reports whether the backend has lost nothing.
func (u *upload) whole() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.lost.IsZero()
}

// missing returns the first revision on the disk that the backend does not have, and when it came; zero when it has all
// that is sealed. Of revisions that are lost for good, only the time is known. A part of an earlier timeline that it
// refuses is a gap, as that between two timelines.
func (u *upload) missing(parts []local.Part, current segment.Timeline) (first int64, came time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.lost.IsZero() {
		return 0, u.lost
	}
	for i := range parts {
		h := &parts[i].Header
		if e, ended := u.outcomes[parts[i].Number]; !ended || !e.stored && h.Timeline == current {
			return h.First, h.FirstTime
		}
	}
	return 0, time.Time{}
}

// earlier returns the earlier one of two times that are not zero.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// needsBase reports whether the backend needs a snapshot behind the revisions that it has lost, so that it can be
// restored from again: its uploads are done and succeed, and none was asked for since the loss. last is the last
// revision that it has lost. It is true once for each loss.
func (u *upload) needsBase(parts []local.Part) (last local.Position, needs bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.lost.IsZero() || u.asked || u.err != nil {
		return u.gap, false
	}
	for i := range parts {
		if _, ended := u.outcomes[parts[i].Number]; !ended {
			return u.gap, false
		}
	}
	u.asked = true
	return u.gap, true
}

// based notes that there is a snapshot that was needed.
func (u *upload) based(need Base) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.bare.based(need.Since)
	// By its revision, or by its time when that is all that is known of the need: either leaves the lost revisions before
	// it.
	behind := need.Revision > u.gap.Revision && !need.Since.Before(u.gap.Timeline.Start())
	if behind || u.lost.Before(need.Since) {
		u.lost, u.gap, u.asked = time.Time{}, local.Position{}, false
	}
}

// note keeps the outcome of the last attempt, for Status, and for needsBase: a backend that takes nothing gets no base.
func (u *upload) note(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.err = err
}

// errGone: a part was removed meanwhile.
var errGone = errors.New("the part is not there any more")

// build makes the segment of a part. The last one is kept: all backends need it at about the same time.
func (j *Journal) build(ctx context.Context, p *local.Part) (*segment.Segment, error) {
	// One at a time: a segment takes memory, and the next backend finds the one that was made.
	j.building.Lock()
	defer j.building.Unlock()
	if j.built != nil && j.builtOf == p.Number {
		return j.built, nil
	}
	if !j.log.Has(p.Number) {
		return nil, errGone
	}
	b, err := segment.NewBuilder(p.Header)
	if err != nil {
		return nil, err
	}
	for e, err := range p.Entries() {
		if err == nil {
			err = b.Add(e)
		}
		if errors.Is(err, os.ErrNotExist) {
			return nil, j.gone(ctx, p, err)
		}
		if err != nil {
			return nil, fmt.Errorf("make the segment of revisions %d to %d: %w", p.Header.First, p.Header.Last, err)
		}
	}
	seg, err := b.Seal()
	if err != nil {
		return nil, err
	}
	j.built, j.builtOf = seg, p.Number
	return seg, nil
}

// gone gives a part up whose file is not there. It returns errGone, or why the part could not be given up.
func (j *Journal) gone(ctx context.Context, p *local.Part, err error) error {
	j.removing.Lock()
	defer j.removing.Unlock()
	if !j.log.Has(p.Number) {
		return errGone // it was removed since its reader began
	}
	// The number is given up, and with it the entries; their revisions may still be on a backend (resolveLoss).
	if err := j.log.GiveUp(p.Number); err != nil {
		return err
	}
	for _, u := range j.stores {
		u.forget(p, j.log.Position().Timeline)
	}
	j.cfg.Logger.ErrorContext(ctx, "a file of the journal is gone, and nothing of snapshotd has removed it; its "+
		"revisions are lost, unless a backend has them", "timeline", p.Header.Timeline,
		"first", p.Header.First, "last", p.Header.Last, "error", err)
	j.resolveLater(local.Loss{Timeline: p.Header.Timeline, First: p.Header.First, Last: p.Header.Last, Err: err})
	return errGone
}

// removeStored removes a part that no backend needs any more. One that no backend has stays.
func (j *Journal) removeStored(p *local.Part) {
	j.removing.Lock() // two backends may have ended it at once
	defer j.removing.Unlock()
	if !j.log.Has(p.Number) {
		return
	}
	for _, u := range j.stores {
		// Also one that was passed over is tried again, and needs the file.
		if e, ended := u.ending(p.Number); !ended || e.err != nil {
			return
		}
	}
	// All have refused it for good: another history has its place. The disk has the only copy of this one.
	if !j.stored(p.Number) {
		return
	}
	if err := j.log.Remove(p.Number); err != nil {
		j.cfg.Logger.Error("journal is not removed from the disk", "error", err)
		return
	}
	for _, u := range j.stores {
		u.forget(p, j.log.Position().Timeline)
	}
}

// stored reports whether a backend has a part.
func (j *Journal) stored(number int64) bool {
	return slices.ContainsFunc(j.stores, func(u *upload) bool {
		e, _ := u.ending(number)
		return e.stored
	})
}

// differs notes that a backend has another history under the name of a part. If it is the history that is followed,
// that goes on in another timeline.
func (j *Journal) differs(ctx context.Context, backend string, p *local.Part, err error) {
	j.cfg.Logger.ErrorContext(ctx, "journal on a backend has another history of the same revisions",
		"backend", backend, "timeline", p.Header.Timeline,
		"first", p.Header.First, "last", p.Header.Last, "error", err)
	// A part of an earlier timeline changes nothing any more.
	if p.Header.Timeline == j.log.Position().Timeline {
		j.breakWith(broken(segment.CauseDifferent, "backend %s has another history of the revisions %d to %d", backend,
			p.Header.First, p.Header.Last))
	}
}

// errFull ends following until a backend takes something.
var errFull = errors.New("the journal on this disk is as large as it may be, and no backend takes it")

// lacks returns what the backend lacks without parts that were removed, of one timeline, and without those before them.
func (u *upload) lacks(removed []local.Part, whole bool) snapshot.JournalBreak {
	u.mu.Lock()
	defer u.mu.Unlock()
	first, last := &removed[0].Header, &removed[len(removed)-1].Header
	if whole || u.before.Timeline != first.Timeline {
		u.before = local.Position{Timeline: first.Timeline, Revision: first.First - 1}
	}
	return snapshot.JournalBreak{
		Timeline: string(first.Timeline), After: u.before.Revision, Before: last.Last + 1, BeforeTime: time.Now(),
		Backend: u.store.Name(),
		Reason:  segment.CauseFull.Reason("the journal on the disk had reached its limit (max_local_bytes)"),
	}
}

// shrink keeps the local part within its limit. Parts that some backend has go first; the others then lack them. Parts
// that none has stay, and nothing more is followed: the history up to here can be restored, and etcd has the next
// revisions until they are compacted.
func (j *Journal) shrink(ctx context.Context) error {
	// A part that one backend has is not lost: the others copy it from there (journal/upkeep).
	removed, within, err := j.log.Shrink(func(p local.Part) bool { return j.stored(p.Number) })
	current := j.log.Position().Timeline
	j.tellLost(ctx, removed, current)
	if err != nil {
		return err
	}
	parts, _ := j.log.Sealed()
	j.needBases(parts, current)
	if within {
		return nil
	}
	if j.fullSince.IsZero() {
		j.fullSince = time.Now()
	}
	return fmt.Errorf("%w (%d bytes; max_local_bytes)", errFull, j.cfg.MaxBytes)
}

// tellLost forgets parts that were removed from the full disk, and tells of each backend what it lacks without them.
func (j *Journal) tellLost(ctx context.Context, removed []local.Part, current segment.Timeline) {
	for _, u := range j.stores {
		whole := u.whole()
		lost := slices.DeleteFunc(slices.Clone(removed), func(p local.Part) bool { return !u.forget(&p, current) })
		if len(lost) == 0 {
			continue
		}
		j.cfg.Logger.ErrorContext(ctx,
			"backend lacks revisions that were removed from the full disk (max_local_bytes): a repair copies them from one "+
				"that has them",
			"backend", u.store.Name(), "timeline", current,
			"first", lost[0].Header.First, "last", lost[len(lost)-1].Header.Last)
		// The first loss makes a break, which is told once; further ones make that one longer.
		if b := u.lacks(lost, whole); whole {
			j.cfg.Broken(ctx, segment.CauseFull, b)
		} else {
			j.cfg.Grown(b)
		}
	}
}

// needBases asks for a snapshot for each backend that lacks revisions and takes new ones again. parts are on the disk.
func (j *Journal) needBases(parts []local.Part, current segment.Timeline) {
	for _, u := range j.stores {
		last, needs := u.needsBase(parts)
		if !needs {
			continue
		}
		// Before this term has gone on, the loss itself says of which timeline it is.
		t := cmp.Or(current, last.Timeline)
		need := Base{ // one that is there may do: of a schedule, or of a term before
			Since: t.Start(), Cluster: t.EtcdCluster(),
			Reason: "backend " + u.store.Name() + " lacks revisions, and takes new ones again",
		}
		if t == last.Timeline { // the revisions of another timeline may be higher than etcd ever gets again
			need.Revision = last.Revision + 1
		}
		j.needBase(need)
	}
}
