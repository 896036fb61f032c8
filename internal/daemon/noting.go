package daemon

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// noting collects what the note about the last reconcile is to say, until it is written: events must not wait for the
// catalog.
type noting struct {
	mu       sync.Mutex
	findings []*finding
}

// finding changes the note. One of the same subject takes its place.
type finding struct {
	about string
	note  func(*snapshot.ReconcileNote)
}

var _ snapshot.Observer = (*noting)(nil)

// Observe implements [snapshot.Observer].
func (n *noting) Observe(_ context.Context, ev snapshot.Event) {
	switch ev.Type {
	case snapshot.EventCounted:
		n.add("damaged", func(note *snapshot.ReconcileNote) {
			if !newer(note.Counted, ev.Time) && !slices.Equal(note.Damaged, ev.Newest) {
				note.Damaged, note.Counted = ev.Newest, ev.Time
			}
		})
	case snapshot.EventProven:
		n.add("proven", func(note *snapshot.ReconcileNote) {
			if !newer(note.Counted, ev.Time) && note.Proven != ev.Name {
				note.Proven, note.Counted = ev.Name, ev.Time
			}
		})
	case snapshot.EventReconciled:
		for backend, err := range ev.Backends {
			// While the catalog is away nothing is known of the backends, and it can say itself that it was.
			if err == nil || snapshot.ReasonOf(err) != snapshot.ReasonCatalogUnavailable {
				n.add("backend "+backend, func(note *snapshot.ReconcileNote) { noteBackend(note, ev, backend) })
			}
		}
	case snapshot.EventVerified: // those that pass are found out when they are read
		if !ev.Verification.Passed {
			n.add("verified "+ev.Name, func(note *snapshot.ReconcileNote) { noteDamaged(note, ev) })
		}
	}
}

// noteBackend notes how a backend was reconciled. The same error is not noted again: its time is that of the first
// failure, and a note that stays as it is costs no write.
func noteBackend(note *snapshot.ReconcileNote, ev snapshot.Event, backend string) {
	switch known, err := note.Failed[backend], ev.Backends[backend]; {
	case newer(known.Time, ev.Time):
	case err == nil:
		delete(note.Failed, backend)
	case known.Error != err.Error() || known.Whole != ev.Unseen[backend]:
		note.Failed[backend] = snapshot.ReconcileFailure{Time: ev.Time, Error: err.Error(), Whole: ev.Unseen[backend]}
	}
}

func noteDamaged(note *snapshot.ReconcileNote, ev snapshot.Event) {
	if !newer(note.Counted, ev.Time) && !slices.Contains(note.Damaged, ev.Name) {
		all := slices.Concat([]string{ev.Name}, note.Damaged)
		note.Damaged, note.Counted = all[:min(len(all), snapshot.MaxDamagedNoted)], ev.Time
	}
}

// newer reports whether another replica has noted something later than a finding that could not be written at once. A
// time of the future is that of a clock which was wrong.
func newer(noted, found time.Time) bool { return noted.After(found) && !noted.After(time.Now()) }

// add puts a finding last, in the place of an older one of its subject: findings are applied in their order.
func (n *noting) add(about string, note func(*snapshot.ReconcileNote)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.findings = slices.DeleteFunc(n.findings, func(f *finding) bool { return f.about == about })
	n.findings = append(n.findings, &finding{about, note})
}

// unwritten changes a note as it will be changed in the catalog, and returns what it will say.
func (n *noting) unwritten(note *snapshot.ReconcileNote) (findings []*finding) {
	n.mu.Lock()
	findings = slices.Clone(n.findings)
	n.mu.Unlock()
	for _, f := range findings {
		f.note(note)
	}
	return findings
}

// write writes what was collected; what cannot be written now is kept.
func (n *noting) write(ctx context.Context, amend func(context.Context, func(*snapshot.ReconcileNote)) error) error {
	n.mu.Lock()
	none := len(n.findings) == 0
	n.mu.Unlock()
	if none {
		return nil
	}
	var written []*finding
	err := amend(ctx, func(note *snapshot.ReconcileNote) { written = n.unwritten(note) })
	if err == nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.findings = slices.DeleteFunc(n.findings, func(f *finding) bool { return slices.Contains(written, f) })
	}
	return err
}
