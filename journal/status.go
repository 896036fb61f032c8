package journal

import (
	"cmp"
	"time"

	"github.com/snapshotd/snapshotd/journal/segment"
)

// state is what Follow knows; Status shows it.
type state struct {
	leading  bool
	endpoint string // that is followed; empty when none is
	current  int64  // newest revision of the cluster that was seen
	complete segment.Watermark
}

// Status is how far the journal is.
type Status struct {
	Leading  bool             // this replica is the one that follows
	Endpoint string           // of etcd that is followed; empty when none answers, or another replica follows
	Timeline segment.Timeline // the newest that this replica has written; empty when it has not
	Revision int64            // the newest that a crash does not take
	Current  int64            // the newest of the cluster that was seen
	Complete time.Time        // all that was committed before is durable on this machine; at first, when this replica began to lead
	Bytes    int64            // on this machine's disk
	Waiting  int64            // sealed parts on this machine's disk
	Stores   []StoreStatus    // in the order of the configuration
}

// StoreStatus is how far the journal is on one backend.
type StoreStatus struct {
	Name     string
	Complete time.Time // all that was committed before is durable there
	Segments int64     // that it has taken from this process
	Bytes    int64     // of these
	Err      error     // of the last attempt, or of a part that cannot be stored
}

// Status returns how far the journal is.
func (j *Journal) Status() Status {
	j.mu.Lock()
	s := Status{Leading: j.state.leading, Endpoint: j.state.endpoint, Current: j.state.current, Complete: j.state.complete.Time}
	j.mu.Unlock()
	synced := j.log.Synced()
	s.Timeline, s.Revision = synced.Timeline, synced.Revision
	s.Bytes, _ = j.log.Size()
	parts, _ := j.log.Sealed()
	s.Waiting = int64(len(parts))
	unsealed := j.log.Unsealed().FirstTime
	for _, u := range j.stores {
		missing := earlier(u.missing(parts, s.Timeline), unsealed)
		var bad error
		for i := range parts {
			bad = cmp.Or(bad, u.passedOver(parts[i].Number))
		}
		u.mu.Lock()
		at := StoreStatus{Name: u.store.Name(), Complete: s.Complete, Segments: u.count, Bytes: u.bytes, Err: cmp.Or(u.err, bad)}
		u.mu.Unlock()
		if !missing.IsZero() && missing.Before(at.Complete) {
			at.Complete = missing
		}
		s.Stores = append(s.Stores, at)
	}
	return s
}

// noteTerm notes that a term begins or ends. What an earlier one has found says nothing of the time since.
func (j *Journal) noteTerm(leading bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.why, j.live = nil, "" // another replica may have led meanwhile
	j.state = state{leading: leading}
	if leading {
		j.state.complete.Time = time.Now()
	}
}

// noteFollowed notes which endpoint is followed.
func (j *Journal) noteFollowed(endpoint string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.state.endpoint = endpoint
}

func (j *Journal) noteCurrent(revision int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.state.current = revision
}

// noteSynced notes that everything up to a watermark is durable.
func (j *Journal) noteSynced(mark segment.Watermark) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if mark.Time.After(j.state.complete.Time) {
		j.state.complete = mark
	}
}
