package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/journal/local"
	"github.com/snapshotd/snapshotd/journal/segment"
)

const (
	noteTimeout = 2 * time.Second  // bounds how long following waits for a timeline to be noted
	noteEvery   = 10 * time.Minute // the note may be damaged or gone since
)

// goesOn notes the timeline to which this replica adds from now on.
func (j *Journal) goesOn(t segment.Timeline) {
	j.written, j.positioned, j.fullSince = t, true, time.Time{}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.live = t
}

// recall keeps the notes of an earlier process, or of another replica, about the timeline that goes on: all that was
// committed since its last watermark may be missing on the backends.
func (j *Journal) recall(known local.Position) {
	if j.positioned {
		return // it has them all
	}
	j.forgetMarks()
	for _, h := range j.ends(known.Timeline) {
		switch {
		case h.CompleteTime != nil:
			j.noteMark(segment.Watermark{Revision: h.CompleteRevision, Time: past(*h.CompleteTime)})
		default: // as far as that is known
			j.noteMark(segment.Watermark{Revision: h.Last, Time: past(h.LastTime)})
		}
	}
}

// ends returns the headers of the newest segments of a timeline on the backends, and of its parts on the disk, in
// ascending order.
func (j *Journal) ends(t segment.Timeline) []segment.Header {
	parts, _ := j.log.Sealed()
	all := make([]segment.Header, 0, len(parts)+len(j.stores))
	for _, u := range j.stores {
		u.mu.Lock()
		all = append(all, u.end)
		u.mu.Unlock()
	}
	for i := range parts {
		all = append(all, parts[i].Header)
	}
	// The zero header of a backend that has not said anything has no timeline either.
	all = slices.DeleteFunc(all, func(h segment.Header) bool { return h.Timeline != t || t == "" })
	slices.SortFunc(all, func(a, b segment.Header) int { return cmp.Compare(a.Last, b.Last) })
	return all
}

// lastTime returns the time of the newest revision or watermark of a timeline, as far as that is known.
func (j *Journal) lastTime(t segment.Timeline) time.Time {
	all := j.ends(t)
	if len(all) == 0 {
		return time.Time{}
	}
	h := &all[len(all)-1]
	if at := h.CompleteTime; at != nil && at.After(h.LastTime) {
		return *at
	}
	return h.LastTime
}

// lastAuth returns the state of users and roles at the end of a timeline, as its newest segments and parts say; nil
// when it is not known.
func (j *Journal) lastAuth(t segment.Timeline) (auth *segment.Auth) {
	last := int64(0)
	for _, u := range j.stores {
		u.mu.Lock()
		if u.end.Timeline == t && u.end.Last > last && u.auth != nil {
			last, auth = u.end.Last, u.auth
		}
		u.mu.Unlock()
	}
	parts, _ := j.log.Sealed()
	for _, p := range slices.Backward(parts) {
		if p.Header.Timeline != t || p.Header.Last <= last {
			continue
		}
		for e, err := range p.Entries() {
			if a, ok := e.(segment.Auth); err == nil && ok {
				auth = &a
			}
		}
		return auth
	}
	return auth
}

// Live returns the timeline to which this replica adds; empty when it does not lead, or has not compared yet where to
// go on.
func (j *Journal) Live() segment.Timeline {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.live
}

// Overtaken looks on the backends for a timeline later than the live one. A replica that has led before uploads the
// parts on its disk when a backend is back, and they may be of such a timeline. It hides all that is added to the live
// one: snapshots from then on count as its own. So another timeline begins, which is later than that one.
func (j *Journal) Overtaken(ctx context.Context) error {
	live := j.Live()
	if live == "" {
		return nil
	}
	// The clock was set right since.
	if local.Ahead(live) {
		j.breakWith(broken(segment.CauseOvertaken, "the timeline %s begins in the future: a clock that was wrong has named "+
			"it, and no snapshot could be of it", live))
		return nil
	}
	var errs []error
	for _, u := range j.stores {
		if err := u.overtaken(ctx, live); err != nil {
			errs = append(errs, fmt.Errorf("look for a later timeline on backend %s: %w", u.store.Name(), err))
		}
	}
	return errors.Join(errs...)
}

// overtaken looks on one backend. A timeline without a segment hides nothing: its writer may have died at once.
func (u *upload) overtaken(ctx context.Context, live segment.Timeline) error {
	timelines, err := u.store.Timelines(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range timelines {
		// One of the future is passed over: a timeline later than that would be of the future as well.
		if !t.Later(live) || local.Ahead(t) {
			continue
		}
		m, err := u.store.Newest(ctx, t)
		if err != nil {
			errs = append(errs, err)
		} else if m != nil {
			u.journal.overtake(live, t, u.store.Name())
		}
	}
	return errors.Join(errs...)
}

// overtake makes a timeline begin that is later than one on a backend, unless another one than the live one goes on.
func (j *Journal) overtake(live, later segment.Timeline, backend string) {
	j.mu.Lock()
	// Listing takes time: another timeline may be live by now.
	same := j.live == live
	if same && later.Later(j.latest) {
		j.latest = later
	}
	j.mu.Unlock()
	if same {
		j.breakWith(broken(segment.CauseOvertaken,
			"backend %s has the timeline %s, which another replica began later than %s",
			backend, later, live))
	}
}

// compareLatest returns why another timeline begins when a later one than the newest that was found has been begun by
// another replica, or by this one before its disk was lost; nil when none has. Its changes are on a disk elsewhere, and
// no backend has them yet. They would hide all that is added to an earlier timeline.
func (j *Journal) compareLatest(ctx context.Context, newest segment.Timeline) (why *breakError, err error) {
	var latest segment.Timeline
	if j.cfg.Latest != nil {
		if latest, err = j.cfg.Latest(ctx); err != nil {
			return nil, fmt.Errorf("find the end of the journal: %w", err)
		}
	}
	if !latest.Valid() || !latest.Later(newest) || local.Ahead(latest) {
		return nil, nil //nolint:nilnil // none is no error
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if latest.Later(j.latest) {
		j.latest = latest
	}
	return broken(segment.CauseOvertaken, "another replica has begun the timeline %s later than %s, and no backend "+
		"that answers has it",
		latest, cmp.Or(newest, "any that is there")), nil
}

// note notes the timeline to which this replica adds, now and then. It is tried again when the next part is sealed.
func (j *Journal) note(ctx context.Context, t segment.Timeline) {
	if j.cfg.Note == nil || j.noted == t && time.Since(j.notedAt) < noteEvery {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, noteTimeout)
	defer cancel()
	// No reason to stop following: the note helps when a replica with this timeline is away, and that may never be.
	if err := j.cfg.Note(ctx, t); err != nil {
		j.cfg.Logger.WarnContext(ctx, "timeline of the journal is not noted for other replicas yet", "timeline", t,
			"error", err)
		return
	}
	j.noted, j.notedAt = t, time.Now()
}

// nameOf returns the name of a new timeline of a cluster. It is later than a known one, and all that were found.
func (j *Journal) nameOf(known segment.Timeline, cluster uint64) segment.Timeline {
	j.mu.Lock()
	defer j.mu.Unlock()
	// Also behind those that were only heard of: a name is never given twice, nor an earlier one after it.
	if j.latest.Later(known) && !local.Ahead(j.latest) {
		known = j.latest
	}
	return nameAfter(known, cluster)
}
