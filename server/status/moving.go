package status

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Moving is how far a save is.
type Moving struct {
	Name    string // of the snapshot
	Since   time.Time
	Read    int64 // bytes, from etcd
	Total   int64 // bytes that etcd will send; 0 when it is not known
	Written map[string]int64
}

// Saves follows the saves of this replica, so that whoever joins late sees how far they are.
type Saves struct {
	mu     sync.Mutex
	moving map[string]Moving // by cluster
}

var _ snapshot.Observer = (*Saves)(nil)

// Observe implements [snapshot.Observer].
func (s *Saves) Observe(_ context.Context, ev snapshot.Event) {
	switch ev.Type {
	case snapshot.EventStarted, snapshot.EventProgress, snapshot.EventFinished:
	default:
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m, known := s.moving[ev.Cluster]
	switch {
	case ev.Type == snapshot.EventFinished:
		delete(s.moving, ev.Cluster)
		return
	case ev.Type == snapshot.EventStarted:
		if s.moving == nil {
			s.moving = map[string]Moving{}
		}
		m = Moving{Name: ev.Name, Since: ev.Time, Written: map[string]int64{}}
	case !known || m.Name != ev.Name:
		return
	case ev.Backend == "":
		m.Read, m.Total = ev.Done, ev.Total
	default:
		m.Written[ev.Backend] = ev.Done
	}
	s.moving[ev.Cluster] = m
}

// Of returns how far the save of a cluster is; nil when this replica does not save it.
func (s *Saves) Of(cluster string) *Moving {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.moving[cluster]
	if !ok {
		return nil
	}
	m.Written = maps.Clone(m.Written)
	return &m
}
