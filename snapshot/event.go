package snapshot

import (
	"context"
	"time"
)

// EventType is the kind of an event.
type EventType int

// The types of event. Watch shows those up to EventDeleted; the others are for metrics and logs.
const (
	EventStarted       EventType = iota + 1 // a save has begun
	EventProgress                           // how far a save is: Phase, Done, Total, and Backend for a write
	EventLocationDone                       // Backend holds the snapshot or has failed
	EventFinished                           // a save has ended: Duration; Err is nil only when all chosen backends hold it
	EventDeleted                            // Backend does not hold the snapshot any more: it was deleted or pruned
	EventSaveRejected                       // a save was refused because another one runs
	EventWritten                            // a write of data and manifest to a backend has ended: Kind, Duration, Err
	EventReconciled                         // a reconcile has ended: Duration, Backends, Unseen; Err when one failed
	EventListed                             // a listing of a backend has ended: Kind, Duration spent in the backend, Err
	EventCounted                            // the catalog's records, after a reconcile: States, Damaged, Newest, Unread
	EventSwept                              // leftovers were removed from Backend: Count
	EventVerified                           // a snapshot was verified: Snapshot, Verification; Damaged when it failed
	EventProven                             // the newest proven snapshot: Name, Revision, ProvenTime; zero without one
	EventRepaired                           // an attempt to copy a snapshot to Backend has ended: Err
	EventRepairsQueued                      // the copies that wait for their repair: Queued
)

// Phase is the part of its work that a save is waiting for. Backends are written in each of the phases, as far as there
// is something to write.
type Phase int

// The phases of a save, in their order, but for the last one, which is before all others.
const (
	PhaseUnspecified Phase = iota
	PhaseReading           // etcd, which chooses a member and sends its database
	PhaseInspecting        // every page and key of the database is read
	PhaseCompressing       // and encrypted, where that is configured
	PhaseStoring           // the backends that have not ended yet
	PhaseWaiting           // its turn: of all clusters, so many are saved at a time. The snapshot has no name yet
)

var phaseNames = []string{"UNSPECIFIED", "READING", "INSPECTING", "COMPRESSING", "STORING", "WAITING"}

// String returns the phase as logs and docs print it: READING.
func (p Phase) String() string { return nameOf(phaseNames, int(p)) }

// Event is something that happened to a cluster on this replica. Time, Type and Cluster are always set, the other
// fields where the type names them.
type Event struct {
	Type      EventType
	Time      time.Time
	Cluster   string
	Name      string // of the snapshot
	RequestID string
	Snapshot  *Snapshot // a copy; nil in EventProgress
	Backend   string    // in EventProgress the backend that is written, empty for the read from etcd
	Kind      BackendKind

	Phase Phase
	Done  int64 // bytes so far: those that were read from etcd, or that the backend has taken
	Total int64 // bytes expected; 0 when not known

	Duration     time.Duration
	Err          error
	Count        int64
	States       map[State]int64
	Damaged      map[string][]string    // by name of a snapshot that did not pass its last verification: damaged copies
	Unread       int64                  // records that cannot be read
	Newest       []string               // names of those of Damaged, the newest first, at most MaxDamagedNoted
	Queued       map[string]RepairQueue // by backend; a backend without any is left out
	Backends     map[string]error       // by backend that was chosen: why it failed, or nil; none when it was cancelled
	Unseen       map[string]bool        // those of Backends that failed as a whole, so that nothing there was reconciled
	Verification *Verification
	Revision     int64
	ProvenTime   time.Time
}

// RepairQueue is the copies that wait for their repair on one backend.
type RepairQueue struct {
	Count int64
	Since time.Time // when the oldest of them failed
}

// An Observer receives the events of a cluster. Metrics and watchers are observers.
type Observer interface {
	// Observe takes an event. It is called while the span of the work is open in ctx, and does not block.
	Observe(ctx context.Context, ev Event)
}

// Observers hands each event to all of them, in order.
type Observers []Observer

// Observe implements [Observer].
func (all Observers) Observe(ctx context.Context, ev Event) {
	for _, o := range all {
		o.Observe(ctx, ev)
	}
}

// Position is a place in the history of a catalog.
type Position struct {
	Revision int64
	History  string // identifies the history of the revision: a catalog that was restored has another one. May be empty
}

// Changes are the changes of records that one revision of the catalog made.
type Changes struct {
	Position
	Records []Change // none when nothing has happened up to this revision
}

// Moment is the events of one revision of the catalog; none when nothing has happened up to it.
type Moment struct {
	Position
	Events []Event
}
