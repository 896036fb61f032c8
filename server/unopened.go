package server

import (
	"context"
	"iter"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/cluster/downloading"
	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Unopened returns a cluster that is configured and could not be opened: its verdict says why, and so do the errors of
// all calls. known has its name and its places.
func Unopened(known status.Known) Cluster {
	u := unopened{known: known, err: snapshot.ReasonClusterNotOpen.New("cluster %q is not open", known.Name).
		Because(known.NotOpen).Advise("mend what this says; the service tries it again every two seconds")}
	return Cluster{View: u, Operations: u, Replicas: u, Journal: u}
}

type unopened struct {
	known status.Known
	err   error
}

// opened leaves out the clusters that are not open: none of their events will come, and a watch of all would have no
// resume token as long as they have no position. It fails when no cluster is left.
func opened(clusters []Cluster) (open []Cluster, err error) {
	for _, c := range clusters {
		if u, is := c.View.(unopened); is {
			err = u.err
			continue
		}
		open = append(open, c)
	}
	if len(open) > 0 {
		return open, nil
	}
	return nil, err
}

func (u unopened) Name() string             { return u.known.Name }
func (u unopened) Configured() status.Known { return u.known }

func (u unopened) BackendNames() []string {
	names := make([]string, len(u.known.Places))
	for i, p := range u.known.Places {
		names[i] = p.Name
	}
	return names
}

func (u unopened) Get(context.Context, string) (*snapshot.Record, error) { return nil, u.err }

func (u unopened) List(context.Context, snapshot.Query) (snapshot.Page, error) {
	return snapshot.Page{}, u.err
}

// Follow fails: a watch leaves the cluster out, and ends as after every change when it is opened.
func (u unopened) Follow(context.Context, snapshot.Position) iter.Seq2[snapshot.Moment, error] {
	return func(yield func(snapshot.Moment, error) bool) { yield(snapshot.Moment{}, u.err) }
}

func (u unopened) Save(context.Context, cluster.SaveRequest) (cluster.SaveResult, error) {
	return cluster.SaveResult{}, u.err
}

func (u unopened) Reconcile(context.Context, cluster.ReconcileRequest) ([]cluster.BackendReport, error) {
	return nil, u.err
}

func (u unopened) Update(context.Context, cluster.UpdateRequest) (*snapshot.Record, error) {
	return nil, u.err
}

func (u unopened) Delete(context.Context, cluster.DeleteRequest) (*snapshot.Record, error) {
	return nil, u.err
}

func (u unopened) Prune(context.Context, cluster.PruneRequest) ([]cluster.Decision, error) {
	return nil, u.err
}

func (u unopened) Verify(context.Context, cluster.VerifyRequest) (*snapshot.Record, error) {
	return nil, u.err
}

func (u unopened) Download(context.Context, cluster.DownloadRequest) (*downloading.Download, error) {
	return nil, u.err
}

func (u unopened) LastDue(context.Context, string) (time.Time, error) { return time.Time{}, u.err }
func (u unopened) Leader(context.Context) (string, error)             { return "", u.err }
func (u unopened) Saving(context.Context) (*status.Moving, error)     { return nil, u.err }

func (u unopened) Scrubbed(context.Context) (snapshot.ScrubNote, error) {
	return snapshot.ScrubNote{}, u.err
}

func (u unopened) Reconciled(context.Context) (snapshot.ReconcileNote, error) {
	return snapshot.ReconcileNote{}, u.err
}

func (u unopened) Record(context.Context, string) (*snapshot.Record, error) { return nil, u.err }

func (u unopened) JournalNotes(context.Context) (snapshot.JournalNotes, error) {
	return snapshot.JournalNotes{}, u.err
}

func (u unopened) Window(context.Context) (status.Window, error) { return status.Window{}, u.err }

func (u unopened) JournalRemovals(context.Context) ([]status.JournalRemoval, error) {
	return nil, u.err
}

// ReconcileJournal compares nothing: that the cluster cannot be reconciled says the reconcile of its snapshots.
func (u unopened) ReconcileJournal(context.Context, cluster.ReconcileRequest) []status.JournalCopies {
	return nil
}
