package journal

import (
	"cmp"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/journal/segment"
)

// state is the knowledge of Follow; Status shows it.
type state struct {
	leading  bool
	endpoint string // that is followed; empty when none is
	current  int64  // newest revision of the cluster that was seen
	complete segment.Watermark
	marks    []segment.Watermark // of the timeline, ascending: later changes may still be missing on a backend
}

// maxMarks bounds the watermarks that are kept: those of half an hour, by default. Of more, every second one goes, so
// that a backend that is away for long costs no more memory.
const maxMarks = 4096

// Status is how far the journal is.
type Status struct {
	Leading  bool             // this replica is the one that follows
	Endpoint string           // of etcd that is followed; empty when none answers, or another replica follows
	Timeline segment.Timeline // the newest that this replica has written; empty when it has not
	Revision int64            // the newest that a crash does not take
	Current  int64            // the newest of the cluster that was seen
	// Complete: all that was committed before is durable on this machine. At first, it is what the journal that goes on
	// says, or else when this replica began to lead.
	Complete time.Time
	Bytes    int64         // on this machine's disk
	Waiting  int64         // sealed parts on this machine's disk
	Stores   []StoreStatus // in the order of the configuration
}

// Lag returns how many revisions the cluster has that a crash would take.
func (s *Status) Lag() int64 { return max(0, s.Current-s.Revision) }

// StoreStatus is how far the journal is on one backend.
type StoreStatus struct {
	Name     string
	Complete time.Time // all that was committed before is durable there
	Segments int64     // that it has taken from this process
	Bytes    int64     // of these
	Err      error     // of the last attempt, or of a part that cannot be stored
}

// Status returns how far the journal is. Metrics and the status of all clusters ask for it, so it waits neither for a
// disk nor for a backend.
func (j *Journal) Status() Status {
	j.mu.Lock()
	s := Status{
		Leading: j.state.leading, Endpoint: j.state.endpoint, Current: j.state.current,
		Complete: earlier(j.state.complete.Time, j.bare.complete),
	}
	j.mu.Unlock()
	synced := j.log.Synced()
	s.Timeline, s.Revision = synced.Timeline, synced.Revision
	s.Bytes, _ = j.log.Size()
	unsealed := j.log.Unsealed() // first: a part that is sealed meanwhile is in both, and not in neither
	parts, _ := j.log.Sealed()
	s.Waiting = int64(len(parts))
	for _, u := range j.stores {
		first, missing := u.missing(parts, s.Timeline)
		if missing.IsZero() {
			first, missing = unsealed.First, unsealed.FirstTime
		}
		// A part that was passed over stays an error, although those behind it were uploaded without one.
		var bad error
		for i := range parts {
			e, _ := u.ending(parts[i].Number)
			bad = cmp.Or(bad, e.err)
		}
		u.mu.Lock()
		at := StoreStatus{Name: u.store.Name(), Complete: earlier(s.Complete, u.bare.complete), Segments: u.count,
			Bytes: u.bytes, Err: cmp.Or(u.err, bad)}
		u.mu.Unlock()
		if !missing.IsZero() {
			at.Complete = earlier(at.Complete, j.committed(first, missing))
		}
		s.Stores = append(s.Stores, at)
	}
	return s
}

// noteTerm notes that a term begins or ends. The findings of an earlier term say nothing of the time since.
func (j *Journal) noteTerm(leading bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.why, j.live = nil, "" // another replica may have led meanwhile
	j.state = state{leading: leading, complete: segment.Watermark{Time: past(j.state.complete.Time)}}
	// Nothing is known of the time before, and an age counts from some moment.
	if leading && j.state.complete.Time.IsZero() {
		j.state.complete.Time = time.Now()
	}
}

// noteKnown notes up to when a timeline is complete, as its segments and parts say, while this term has not seen more.
func (j *Journal) noteKnown(t segment.Timeline) {
	var newest time.Time
	for _, h := range j.ends(t) {
		if at := *completeOf(&h); at.After(newest) {
			newest = at
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.state.complete.Revision == 0 && !newest.IsZero() {
		j.state.complete.Time = past(newest)
	}
}

// noteFollowed notes which endpoint is followed.
func (j *Journal) noteFollowed(endpoint string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.state.endpoint = endpoint
}

// noteCurrent notes the newest revision of the cluster, which the journal may not have yet.
func (j *Journal) noteCurrent(revision int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.state.current = revision
}

// noteSynced notes that everything up to a watermark is durable.
func (j *Journal) noteSynced(mark segment.Watermark) {
	j.noteMark(mark)
	j.mu.Lock()
	defer j.mu.Unlock()
	// A mark of the future is not taken: its age would be less than nothing until the clock is there.
	known := &j.state.complete
	if known.Time = past(known.Time); mark.Time.After(known.Time) && past(mark.Time).Equal(mark.Time) {
		*known = mark
	}
}

// past returns a time, or now for one of the future: a clock that was wrong has made it, and an age that begins there
// would be less than nothing until the clock has passed it.
func past(t time.Time) time.Time {
	if now := time.Now(); t.After(now) {
		return now
	}
	return t
}

// noteMark keeps a watermark of the timeline.
func (j *Journal) noteMark(mark segment.Watermark) {
	j.mu.Lock()
	defer j.mu.Unlock()
	all := j.state.marks
	if n := len(all); n > 0 {
		switch last := &all[n-1]; {
		case !mark.Time.After(last.Time):
			return
		case mark.Revision == last.Revision:
			last.Time = mark.Time
			return
		}
	}
	// With fewer marks, committed returns an earlier time: a recovery point looks older than it is, and never newer.
	if len(all) >= maxMarks {
		for i := range len(all) / 2 {
			all[i] = all[2*i+1]
		}
		j.state.marks = all[:len(all)/2]
	}
	j.state.marks = append(j.state.marks, mark)
}

// forgetMarks forgets the watermarks, which are of one timeline: another one begins, or the process does not know how
// this one goes on.
func (j *Journal) forgetMarks() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.state.marks = nil
}

// committed returns a time before which nothing was committed from a revision on: that of the newest watermark below
// it. Without any it is the time at which the revision came, which may be a little later.
func (j *Journal) committed(revision int64, came time.Time) time.Time {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, m := range slices.Backward(j.state.marks) {
		if m.Revision < revision {
			return earlier(m.Time, came)
		}
	}
	return came
}
