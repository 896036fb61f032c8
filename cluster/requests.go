package cluster

import (
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// SaveRequest asks for a snapshot of a cluster.
type SaveRequest struct {
	NamePrefix string            // snapshot.DefaultNamePrefix when empty
	Labels     map[string]string // kept with the snapshot
	Backends   []string          // names; all of the cluster's when empty
	RequestID  string            // the same id returns the same outcome
	Trigger    snapshot.Trigger  // TriggerManual when unspecified
	Schedule   string            // the name of the schedule that was due; empty when none was
}

// SaveResult is the outcome of a save.
type SaveResult struct {
	Snapshot *snapshot.Snapshot
	Warnings []string // problems beside a snapshot that is whole
}

// ReconcileRequest asks for a reconciliation of a cluster.
type ReconcileRequest struct {
	Backends     []string // names; all of the cluster's when empty
	ValidateOnly bool     // report what would change and change nothing
	Repair       bool     // then copy each snapshot to the chosen backends that do not hold it
	Retire       []string // nodes that are gone for ever: the catalog forgets what their own directories held
}

// BackendReport is the result of a reconciliation on one backend. The counts are of snapshots on this backend.
type BackendReport struct {
	Cluster   string
	Backend   string
	Listed    int64 // data and manifest were in the listing
	Unchanged int64 // the catalog had them as they are
	Added     int64 // the catalog did not have them
	Updated   int64 // the catalog had them otherwise
	Removed   int64 // the catalog had them and the backend does not
	Repaired  int64 // copies that were made here from another backend's
	Swept     int64 // leftovers of crashes that were removed
	Foreign   int64 // objects that are no snapshots of ours, left alone
	Err       error // why this backend could not be reconciled; nil when it could
}

// PruneRequest asks for retention to be applied.
type PruneRequest struct {
	Backends     []string // names; all of the cluster's when empty
	ValidateOnly bool     // report what would be removed and remove nothing
}

// Decision is the verdict of retention on a snapshot on one backend.
type Decision struct {
	Name       string
	Backend    string
	CreateTime time.Time
	Size       int64
	Stays      bool
	Why        string // the rule that keeps it, or why it is removed or could not be
	Err        error  // it was to be removed, and this is why it is still there
}

// DeleteRequest asks for a snapshot to be removed.
type DeleteRequest struct {
	Name     string
	Backends []string // names; all that hold it when empty
	Etag     string   // when set, only the record as it was read
}

// UpdateRequest says what to change of a snapshot.
type UpdateRequest struct {
	Name   string
	Etag   string            // when set, only the record as it was read
	Labels map[string]string // replace all; nil leaves them
	Pinned *bool             // nil leaves it
}

// VerifyRequest asks for a snapshot to be verified.
type VerifyRequest struct {
	Name     string
	Level    snapshot.Level
	Backend  string                                  // empty: every copy at LevelChecksum, the first one above it
	Progress func(backend string, done, total int64) // optional
}

// Scrub says what is verified regularly.
type Scrub struct {
	Share int  // percent of the snapshots by LevelChecksum, those first whose last verification is longest ago
	Drill bool // and the newest by LevelDrill
}

// DownloadRequest asks for the bytes of a snapshot.
type DownloadRequest struct {
	Name    string
	Backend string // empty: the first one that can be read
	Decoded bool   // the database as etcd sent it, instead of the bytes as they are stored
	Offset  int64  // of the first byte that is wanted
}
