package plan

import (
	"math"
	"slices"

	"github.com/snapshotd/snapshotd/journal/segment"
)

// Leases computes which leases a cluster had at a revision. Those that keys name were there; for these, the facts of
// the journal give the time to live alone.
//
// A fact is true of the revision that etcd had when it answered. Answers may come out of order: an older "it is there"
// may follow a newer "it is gone". If two facts of one revision contradict each other, "gone" wins, as the end of a
// lease without keys makes no revision.
type Leases struct {
	revision int64
	base     int64 // the revision of the snapshot: older facts say nothing of later changes
	ttls     map[int64]ttl
	states   map[int64]state
	poll     *segment.Leases // the newest list that is not of a later revision
	polled   int             // its place among the facts
	facts    int             // that were taken
}

// ttl is the time to live of a lease, and the revision for which it is known.
type ttl struct{ seconds, revision int64 }

// state is the newest that is known of a lease at a revision or before.
type state struct {
	revision int64
	fact     int // its place among the facts
	gone     bool
}

// NewLeases returns those at a revision, of which the facts follow. base are the leases of a snapshot of an earlier
// revision, with their time to live in seconds.
func NewLeases(revision int64, base map[int64]int64, baseRevision int64) *Leases {
	l := &Leases{revision: revision, base: baseRevision, ttls: map[int64]ttl{}, states: map[int64]state{}}
	for id, seconds := range base {
		l.ttls[id] = ttl{seconds, baseRevision}
		l.states[id] = state{revision: baseRevision}
	}
	return l
}

// Take takes a fact.
func (l *Leases) Take(e segment.Entry) {
	l.facts++
	switch e := e.(type) {
	case segment.Lease:
		l.lease(e)
	case segment.Leases:
		if l.base <= e.Revision && e.Revision <= l.revision && (l.poll == nil || e.Revision >= l.poll.Revision) {
			l.poll, l.polled = &e, l.facts
		}
	}
}

// lease takes the answer about one lease: its time to live counts from any revision, that it was there or gone only
// from those between the snapshot and the target.
func (l *Leases) lease(e segment.Lease) {
	if !e.Gone && l.closer(e) {
		l.ttls[e.ID] = ttl{e.GrantedTTL, e.Revision}
	}
	if e.Revision < l.base || e.Revision > l.revision {
		return
	}
	old, ok := l.states[e.ID]
	if !ok || e.Revision > old.revision || e.Revision == old.revision && (e.Gone || !old.gone) {
		l.states[e.ID] = state{e.Revision, l.facts, e.Gone}
	}
}

// TakeLater takes a fact of a later timeline, and reports whether it gives the time to live of a lease that no other
// fact gives. It says nothing of which leases there were.
func (l *Leases) TakeLater(e segment.Entry) bool {
	lease, ok := e.(segment.Lease)
	if !ok || lease.Gone {
		return false
	}
	// This timeline speaks of this lease; in a later one, the id may have been given to another.
	if _, known := l.ttls[lease.ID]; known {
		return false
	}
	l.ttls[lease.ID] = ttl{lease.GrantedTTL, math.MaxInt64}
	return true
}

// closer reports whether a fact shows a better time to live: the newest that is not of a later revision, or else the
// oldest.
func (l *Leases) closer(e segment.Lease) bool {
	old, ok := l.ttls[e.ID]
	switch {
	case !ok:
		return true
	case e.Revision <= l.revision:
		return old.revision > l.revision || e.Revision >= old.revision
	default:
		return old.revision > l.revision && e.Revision < old.revision
	}
}

// TTL returns the time to live of a lease, in seconds; false when no fact shows it.
func (l *Leases) TTL(id int64) (seconds int64, ok bool) {
	t, ok := l.ttls[id]
	return t.seconds, ok
}

// Alive returns the leases that were there at the revision as far as the facts show, in ascending order of the ids as
// unsigned numbers. Of leases without keys, this is all that is known.
func (l *Leases) Alive() []int64 {
	listed := map[int64]bool{}
	newest := state{revision: math.MinInt64}
	if l.poll != nil {
		newest = state{revision: l.poll.Revision, fact: l.polled}
		for _, id := range l.poll.IDs {
			listed[id] = true
		}
	}
	var all []int64
	for id, s := range l.states {
		switch {
		case s.newer(newest):
			if !s.gone {
				all = append(all, id)
			}
		case listed[id] && (!s.gone || s.revision != newest.revision):
			all = append(all, id)
		}
		delete(listed, id)
	}
	for id := range listed {
		all = append(all, id)
	}
	slices.SortFunc(all, segment.CompareLeases)
	return all
}

// newer reports whether a state is known for a later moment than a list.
func (s state) newer(list state) bool {
	return s.revision > list.revision || s.revision == list.revision && s.fact > list.fact
}
