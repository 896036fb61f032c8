package snapshot

import "time"

// Change is the change of one record.
type Change struct {
	Before *Record // nil when there was none
	After  *Record // nil when there is none any more
}

// Events returns the events that a change of a record shows, in order. now is the time of events of which the record
// has none.
func (ch Change) Events(cluster string, now time.Time) (events []Event) {
	add := func(t EventType, rec *Record, at time.Time, backend string) {
		ev := Event{Type: t, Time: at, Cluster: cluster, Name: rec.Name, Backend: backend, Snapshot: &rec.Snapshot}
		if t != EventDeleted { // a deletion is not part of the save
			ev.RequestID = rec.RequestID
		}
		events = append(events, ev)
	}
	if ch.Before == nil && ch.After.State() == StateSaving {
		add(EventStarted, ch.After, ch.After.CreateTime, "")
	}
	if ch.After != nil {
		for _, l := range ch.After.Locations() {
			if final(l.State) && stateOn(ch.Before, l.Backend) != l.State {
				add(EventLocationDone, ch.After, l.UpdateTime, l.Backend)
			}
		}
	}
	if ch.Before != nil {
		for _, l := range ch.Before.Locations() {
			if l.Size == 0 || ch.After != nil && ch.After.Location(l.Backend) != nil {
				continue
			}
			at := l.UpdateTime // when its removal began
			if l.State != StateDeleting {
				at = now
			}
			add(EventDeleted, ch.Before, at, l.Backend)
		}
	}
	if ch.saveEnded() {
		add(EventFinished, ch.After, ch.After.CreateTime.Add(ch.After.Duration), "")
	}
	return events
}

// saveEnded reports whether a save has ended, or its snapshot was found. A snapshot of another program was not saved.
func (ch Change) saveEnded() bool {
	return ch.After != nil && ch.After.Trigger != TriggerAdopted &&
		(final(ch.After.State()) || ch.After.State() == StatePartial) &&
		(ch.Before == nil || ch.Before.State() == StateSaving)
}

// final reports whether a location holds the snapshot or has failed.
func final(s State) bool { return s == StateReady || s == StateFailed }

// stateOn returns the state of a location before; StateUnspecified when there was none.
func stateOn(rec *Record, backend string) State {
	if rec == nil {
		return StateUnspecified
	}
	if l := rec.Location(backend); l != nil {
		return l.State
	}
	return StateUnspecified
}
