package status

import (
	"context"
	"slices"
	"sync"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Saves follows the saves of this replica, so that a caller who joins late sees how far they are. The zero value is
// ready for use.
type Saves struct {
	mu      sync.Mutex
	running map[string]*running // by cluster
}

var _ snapshot.Observer = (*Saves)(nil)

// running is a save as its events have shown it.
type running struct {
	started  snapshot.Event   // with the snapshot as it is now
	progress []snapshot.Event // the last one of each transfer that has not ended: of etcd first
}

// Observe implements [snapshot.Observer].
func (s *Saves) Observe(_ context.Context, ev snapshot.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ev.Type == snapshot.EventStarted {
		if s.running == nil {
			s.running = map[string]*running{}
		}
		s.running[ev.Cluster] = &running{started: ev}
		return
	}
	r := s.running[ev.Cluster]
	if r == nil || r.started.Name != ev.Name {
		return // of another snapshot, which was repaired or deleted
	}
	switch ev.Type {
	case snapshot.EventProgress:
		r.note(ev)
	case snapshot.EventLocationDone:
		r.started.Snapshot = ev.Snapshot
		r.progress = slices.DeleteFunc(r.progress, func(p snapshot.Event) bool { return p.Backend == ev.Backend })
	case snapshot.EventFinished:
		delete(s.running, ev.Cluster)
	}
}

// note keeps the progress of one transfer. That of etcd is also that of the save.
func (r *running) note(ev snapshot.Event) {
	if ev.Backend == "" {
		r.started.Phase, r.started.Done, r.started.Total = ev.Phase, ev.Done, ev.Total
	}
	for i := range r.progress {
		if r.progress[i].Backend == ev.Backend {
			r.progress[i] = ev
			return
		}
	}
	r.progress = append(r.progress, ev)
}

// Events returns the events that show a watcher the saves that run: that each has started, with its snapshot as it is
// now and how much of etcd was read, and how far each of its transfers is.
func (s *Saves) Events() []snapshot.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []snapshot.Event
	for _, r := range s.running {
		all = append(append(all, r.started), r.progress...)
	}
	return all
}

// Of returns how far the save of a cluster is; nil when this replica does not save it.
func (s *Saves) Of(cluster string) *Moving {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.running[cluster]
	if r == nil {
		return nil
	}
	m := &Moving{
		Name: r.started.Name, Since: r.started.Time, Read: r.started.Done, Total: r.started.Total,
		Written: map[string]int64{},
	}
	if r.started.Snapshot != nil {
		for _, l := range r.started.Snapshot.Locations() {
			if l.State == snapshot.StateReady {
				m.Written[l.Backend] = l.Size
			}
		}
	}
	for _, p := range r.progress {
		if p.Backend != "" {
			m.Written[p.Backend] = p.Done
		}
	}
	return m
}
