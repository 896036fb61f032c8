package feed

import "github.com/snapshotd/snapshotd/snapshot"

// recentEvents is how many events are remembered: far more than happen between an action of a replica and its record in
// the catalog. An event that was forgotten is sent twice, which a watcher must expect anyway.
const recentEvents = 1024

// Recent remembers the events that were sent to a watcher, because each arrives twice: from the replica that acts, and
// from the catalog.
type Recent struct {
	events map[identity]bool // true when it came from this replica
	order  []identity        // oldest first
}

// identity is the part of an event that both of its forms share.
type identity struct {
	kind                   snapshot.EventType
	cluster, name, backend string
	state                  snapshot.State
}

// NewRecent returns one that remembers nothing yet.
func NewRecent() *Recent { return &Recent{events: map[identity]bool{}} }

// First reports whether an event has not been sent yet from the other source: this replica, or the catalog. Of two that
// are the same, only the first one is sent.
func (r *Recent) First(ev snapshot.Event, local bool) bool {
	id := identityOf(ev)
	if ev.Type == snapshot.EventProgress {
		id.kind, id.backend = snapshot.EventFinished, ""
		for id.state = snapshot.StateReady; id.state <= snapshot.StateFailed; id.state++ {
			if _, over := r.events[id]; over {
				return false // the save has ended, and this progress is late
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
		id.state = ev.Snapshot.State()
	case ev.Type == snapshot.EventLocationDone:
		if l := ev.Snapshot.Location(ev.Backend); l != nil {
			id.state = l.State
		}
	}
	return id
}
