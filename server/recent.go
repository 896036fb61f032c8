package server

import "github.com/snapshotd/snapshotd/snapshot"

// recentEvents is how many events are remembered: far more than happen between what a replica does and what the catalog
// says of it. What is forgotten is told twice, which a watcher must expect anyway.
const recentEvents = 1024

// recent remembers what a watcher was told, so that he is not told the same by the replica that does it and by the catalog.
type recent struct {
	events map[identity]bool // and whether it was this replica that told it
	order  []identity        // the oldest first
}

// identity is what makes two events the same.
type identity struct {
	kind                   snapshot.EventType
	cluster, name, backend string
	state                  snapshot.State
}

func newRecent() *recent { return &recent{events: map[identity]bool{}} }

// first reports whether an event was not told yet by the other one of the two: this replica, or the catalog. Of what comes
// from both, one is told.
func (r *recent) first(ev snapshot.Event, local bool) bool {
	id := identityOf(ev)
	if ev.Type == snapshot.EventProgress {
		id.kind, id.backend = snapshot.EventFinished, ""
		for id.state = snapshot.StateReady; id.state <= snapshot.StateFailed; id.state++ {
			if _, over := r.events[id]; over {
				return false // the save has ended, and its last progress was still on its way
			}
		}
		return true
	}
	if byReplica, known := r.events[id]; known && byReplica != local {
		delete(r.events, id)
		return false
	}
	if _, known := r.events[id]; !known {
		r.order = append(r.order, id)
	}
	r.events[id] = local
	if len(r.order) > recentEvents {
		delete(r.events, r.order[0])
		r.order = r.order[1:]
	}
	return true
}

func identityOf(ev snapshot.Event) identity {
	id := identity{kind: ev.Type, cluster: ev.Cluster, name: ev.Name, backend: ev.Backend}
	switch {
	case ev.Snapshot == nil:
	case ev.Type == snapshot.EventFinished:
		id.state = ev.Snapshot.State
	case ev.Type == snapshot.EventLocationDone:
		if l := ev.Snapshot.Location(ev.Backend); l != nil {
			id.state = l.State
		}
	}
	return id
}
