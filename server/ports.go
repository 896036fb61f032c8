package server

import (
	"context"
	"iter"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/cluster/downloading"
	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Cluster is a cluster of the domain as the server needs it.
type Cluster struct {
	View
	Operations
	Replicas status.Replicas
	Journal  Journal

	// Use says that a call uses the cluster until its context is done. It returns false when the cluster is not served any
	// more. Optional.
	Use func(ctx context.Context) bool
}

// use says that a call uses the cluster. It returns false when the cluster is not served any more.
func (c Cluster) use(ctx context.Context) bool { return c.Use == nil || c.Use(ctx) }

// View answers questions about a cluster.
type View interface {
	Name() string
	BackendNames() []string
	Get(ctx context.Context, name string) (*snapshot.Record, error)
	List(ctx context.Context, q snapshot.Query) (snapshot.Page, error)
	// Follow yields the events that the catalog records after a position, or from now on. It ends with an error.
	Follow(ctx context.Context, after snapshot.Position) iter.Seq2[snapshot.Moment, error]
	// Configured returns what the configuration and this machine say of the cluster. It does not wait for the catalog, nor
	// for a disk that does not answer.
	Configured() status.Known
}

// Operations change a cluster's snapshots, or read them.
type Operations interface {
	// Save may return a snapshot and an error: the copies that exist in spite of the error.
	Save(ctx context.Context, req cluster.SaveRequest) (cluster.SaveResult, error)
	Reconcile(ctx context.Context, req cluster.ReconcileRequest) ([]cluster.BackendReport, error)
	// Update may return a record and an error: the changes that were made in spite of it.
	Update(ctx context.Context, req cluster.UpdateRequest) (*snapshot.Record, error)
	// Delete may return a record and an error: the copies that are left.
	Delete(ctx context.Context, req cluster.DeleteRequest) (*snapshot.Record, error)
	// Prune may return decisions and an error: those that were made before it.
	Prune(ctx context.Context, req cluster.PruneRequest) ([]cluster.Decision, error)
	// Verify returns a record with the verdict, also beside the error that a copy is damaged.
	Verify(ctx context.Context, req cluster.VerifyRequest) (*snapshot.Record, error)
	// Download opens a snapshot for reading; the caller closes it.
	Download(ctx context.Context, req cluster.DownloadRequest) (*downloading.Download, error)
}

// Journal is the journal of a cluster on its backends. Without one, its answers are empty.
type Journal interface {
	// Window returns what the backends hold of the journal, and how far it is.
	Window(ctx context.Context) (status.Window, error)
	// JournalRemovals returns the segments of the journal that the leader removes next.
	JournalRemovals(ctx context.Context) ([]status.JournalRemoval, error)
	// ReconcileJournal compares the copies of the journal on the chosen backends with all others, and repairs them if
	// that is asked for.
	ReconcileJournal(ctx context.Context, req cluster.ReconcileRequest) []status.JournalCopies
}
