package journal

import (
	"time"

	"github.com/snapshotd/snapshotd/journal/segment"
)

// state is what Follow knows; Status shows it.
type state struct {
	endpoint string // that is followed; empty when none is
	current  int64  // newest revision of the cluster that was seen
	complete segment.Watermark
}

// Status is how far the journal is.
type Status struct {
	Endpoint string           // of etcd that is followed; empty when this replica does not follow
	Timeline segment.Timeline // the newest that this replica has written; empty when it has not
	Revision int64            // the newest that a crash does not take
	Current  int64            // the newest of the cluster that was seen
	Complete time.Time        // all that was committed before is durable on this machine; zero when that is not known
	Bytes    int64            // on this machine's disk
	Waiting  int64            // sealed parts on this machine's disk
	Stores   []StoreStatus    // in the order of the configuration
}

// StoreStatus is how far the journal is on one backend.
type StoreStatus struct {
	Name     string
	Complete time.Time // all that was committed before is durable there; zero when that is not known
	Segments int64     // that it has taken from this process
	Bytes    int64     // of these
	Err      error     // of the last attempt
}

// Status returns how far the journal is.
func (j *Journal) Status() Status {
	j.mu.Lock()
	s := Status{Endpoint: j.state.endpoint, Current: j.state.current, Complete: j.state.complete.Time}
	j.mu.Unlock()
	synced := j.log.Synced()
	s.Timeline, s.Revision = synced.Timeline, synced.Revision
	s.Bytes, _ = j.log.Size()
	parts, _ := j.log.Sealed()
	s.Waiting = int64(len(parts))
	unsealed := j.log.Unsealed().FirstTime
	for _, u := range j.stores {
		missing := unsealed // the first revision that the backend does not have
		for i := range parts {
			if ended, _ := u.ended(parts[i].Number); !ended {
				missing = parts[i].Header.FirstTime
				break
			}
		}
		u.mu.Lock()
		at := StoreStatus{Name: u.store.Name(), Complete: s.Complete, Segments: u.count, Bytes: u.bytes, Err: u.err}
		u.mu.Unlock()
		if !missing.IsZero() && missing.Before(at.Complete) {
			at.Complete = missing
		}
		s.Stores = append(s.Stores, at)
	}
	return s
}

// noteFollowed notes which endpoint is followed. Nothing is known to be complete before it has delivered something.
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
