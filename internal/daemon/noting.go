package daemon

import (
	"context"
	"slices"
	"sync"

	"github.com/snapshotd/snapshotd/snapshot"
)

// noting collects what the note about the last reconcile is to say, until it is written: events must not wait for the
// catalog.
type noting struct {
	mu      sync.Mutex
	changes []func(*snapshot.ReconcileNote)
}

var _ snapshot.Observer = (*noting)(nil)

// Observe implements [snapshot.Observer].
func (n *noting) Observe(_ context.Context, ev snapshot.Event) {
	switch ev.Type {
	case snapshot.EventCounted:
		n.later(func(note *snapshot.ReconcileNote) { note.Damaged = ev.Newest })
	case snapshot.EventProven:
		n.later(func(note *snapshot.ReconcileNote) { note.Proven = ev.Name })
	case snapshot.EventReconciled:
		n.later(func(note *snapshot.ReconcileNote) { noteBackends(note, ev) })
	case snapshot.EventVerified: // those that pass are found out when they are read
		if !ev.Verification.Passed {
			n.later(func(note *snapshot.ReconcileNote) { noteDamaged(note, ev.Name) })
		}
	}
}

func noteBackends(note *snapshot.ReconcileNote, ev snapshot.Event) {
	for backend, err := range ev.Backends {
		if err == nil {
			delete(note.Failed, backend)
		} else {
			note.Failed[backend] = snapshot.ReconcileFailure{Error: err.Error(), Whole: ev.Unseen[backend]}
		}
	}
}

func noteDamaged(note *snapshot.ReconcileNote, name string) {
	if !slices.Contains(note.Damaged, name) {
		all := slices.Concat([]string{name}, note.Damaged)
		note.Damaged = all[:min(len(all), snapshot.MaxDamagedNoted)]
	}
}

func (n *noting) later(change func(*snapshot.ReconcileNote)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.changes = append(n.changes, change)
}

// unwritten changes a note as it will be changed in the catalog.
func (n *noting) unwritten(note *snapshot.ReconcileNote) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, change := range n.changes {
		change(note)
	}
}

// write writes what was collected; what cannot be written now is kept. It is called once at a time.
func (n *noting) write(ctx context.Context, amend func(context.Context, func(*snapshot.ReconcileNote)) error) error {
	n.mu.Lock()
	changes := slices.Clone(n.changes)
	n.mu.Unlock()
	if len(changes) == 0 {
		return nil
	}
	err := amend(ctx, func(note *snapshot.ReconcileNote) {
		for _, change := range changes {
			change(note)
		}
	})
	if err == nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.changes = slices.Delete(n.changes, 0, len(changes))
	}
	return err
}
