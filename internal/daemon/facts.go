package daemon

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/server"
	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

// facts are what is known of a cluster beside its snapshots.
type facts struct {
	catalog   *catalog.Catalog
	store     status.Store
	places    []*place
	times     []status.Schedule
	scrub     *status.Scrub // nil without one
	node      string
	certs     certificates // for etcd
	saving    func() *status.Moving
	noting    *noting       // what this replica has found and not noted yet
	kept      time.Duration // how far back the journal reaches
	following *following    // nil without a journal

	// notInEffect says why a change of the configuration is not in effect; it has nil when all is.
	notInEffect *atomic.Pointer[error]
}

var (
	_ status.Replicas = facts{}
	_ server.Journal  = facts{}
)

// Configured implements [server.View].
func (f facts) Configured() status.Known {
	known := status.Known{
		Node: f.node, Store: f.store, Schedules: f.times, Moving: f.saving(), Journal: f.followed(),
		Certificates: f.certs.all(), Scrub: f.scrub,
	}
	if why := f.notInEffect.Load(); why != nil {
		known.NotInEffect = *why
	}
	for _, p := range f.places {
		at := p.Place
		if p.space != nil {
			at.Free = p.space.bytes()
		}
		known.Places = append(known.Places, at)
	}
	return known
}

// rooms returns what says how many bytes can be written to each backend that is a directory.
func (f facts) rooms() map[string]func() int64 {
	all := map[string]func() int64{}
	for _, p := range f.places {
		if p.space != nil {
			all[p.Name] = p.space.bytes
		}
	}
	return all
}

// followed returns how far the journal is; nil without one.
func (f facts) followed() *status.Journal {
	if f.following == nil {
		return nil
	}
	s := f.following.journal.Status()
	j := &status.Journal{Following: s.Leading, Endpoint: s.Endpoint, Kept: f.kept}
	if !s.Leading {
		return j
	}
	j.Lag = s.Lag()
	j.Points = f.following.keeper.Points(s)
	return j
}

// LastDue implements [status.Replicas].
func (f facts) LastDue(ctx context.Context, name string) (time.Time, error) {
	return f.catalog.LastDue(ctx, name)
}

// Saving implements [status.Replicas].
func (f facts) Saving(ctx context.Context) (*status.Moving, error) {
	p, err := f.catalog.Told(ctx)
	if p == nil {
		return nil, err
	}
	return &status.Moving{
		Name: p.Name, Since: time.Now().Add(-p.Elapsed), Read: p.Read, Total: p.Total, Written: p.Written,
	}, nil
}

// Scrubbed implements [status.Replicas].
func (f facts) Scrubbed(ctx context.Context) (snapshot.ScrubNote, error) {
	return f.catalog.Scrubbed(ctx, scrubName)
}

// Reconciled implements [status.Replicas]. What this replica has found is known here before the catalog takes it.
func (f facts) Reconciled(ctx context.Context) (snapshot.ReconcileNote, error) {
	note, err := f.catalog.Reconciled(ctx)
	if err == nil {
		f.noting.unwritten(&note)
	}
	return note, err
}

// Record implements [status.Replicas].
func (f facts) Record(ctx context.Context, name string) (*snapshot.Record, error) {
	rec, err := f.catalog.Get(ctx, name)
	if snapshot.IsNotFound(err) {
		return nil, nil //nolint:nilnil // it is gone, which is no fault
	}
	return rec, err
}

// JournalNotes implements [status.Replicas].
func (f facts) JournalNotes(ctx context.Context) (snapshot.JournalNotes, error) {
	return f.catalog.JournalNotes(ctx)
}

// Leader implements [status.Replicas].
func (f facts) Leader(ctx context.Context) (string, error) { return f.catalog.Leader(ctx) }
