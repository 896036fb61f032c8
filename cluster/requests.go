package cluster

import "github.com/snapshotd/snapshotd/snapshot"

// In all requests, names of backends are those of the configuration. An empty list means all of them: a caller need not
// know how many there are, and a backend that is added later is not forgotten.

// SaveRequest asks for a snapshot of a cluster.
type SaveRequest struct {
	NamePrefix string            // snapshot.OnDemandPrefix when empty
	Labels     map[string]string // kept with the snapshot
	Backends   []string

	// RequestID makes the request repeatable: the same id returns the same outcome, from every replica. A client that
	// has lost its connection sends the request again and cannot have two snapshots by that.
	RequestID string

	Trigger snapshot.Trigger // TriggerManual when unspecified; retention treats the kinds differently
	// Schedule is the name of the schedule that was due; empty when none was. It is kept in the record, so that a
	// replica that begins to lead knows the last run of each schedule.
	Schedule string
}

// SaveResult is the outcome of a save.
type SaveResult struct {
	Snapshot *snapshot.Snapshot
	Repeated bool // it is what an earlier call with this request id has led to; nothing was tried now
	// Warnings are problems beside a snapshot that is whole: the catalog that could not be written, a limit that was
	// lifted, alarms in the database. They are for a person; none of them makes the save fail.
	Warnings []string
}

// ReconcileRequest asks for a reconciliation of a cluster.
type ReconcileRequest struct {
	Backends     []string
	ValidateOnly bool // report all changes and make none

	// Repair also copies each snapshot to the chosen backends that do not hold it, be they new or emptied by hand.
	// Without it, only uploads that failed are repaired, and not by this call: see [Cluster.Repair].
	Repair bool
	// Retire names nodes that are gone for ever. The catalog forgets the copies in their own directories. Only an
	// operator can know this: from here, a dead node looks like one that is being restarted.
	Retire []string
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
	// Err is why this backend could not be reconciled; nil when it could. The counts are true beside it, as far as
	// they go: nothing is forgotten of a backend that has failed.
	Err error
	// Unseen: Err is that of the whole backend, which was not listed to its end, is another store, or contradicts its
	// listing. Otherwise it is that of single objects, and all others were reconciled.
	Unseen bool
}

// PruneRequest asks for retention to be applied.
type PruneRequest struct {
	Backends     []string
	ValidateOnly bool // report the decisions and remove nothing
}

// DeleteRequest asks for a snapshot to be removed.
type DeleteRequest struct {
	Name     string
	Backends []string // all that hold it when empty
	// Etag, when it is set, is that of the record as the caller has read it. The snapshot may have been pinned since.
	Etag string
}

// UpdateRequest asks for a change of a snapshot. A nil field leaves its part as it is.
type UpdateRequest struct {
	Name   string
	Etag   string            // as in [DeleteRequest]
	Labels map[string]string // replace all
	Pinned *bool
}

// VerifyRequest asks for a snapshot to be verified.
type VerifyRequest struct {
	Name  string
	Level snapshot.Level
	// Backend is the one whose copy is read. When it is empty, every copy is read at LevelChecksum, because any of
	// them may be damaged. Above it only the first one is: all copies have the same bytes, so one drill proves them
	// all.
	Backend  string
	Progress func(backend string, done, total int64) // optional
}

// Scrub is the part of the snapshots that is verified regularly.
type Scrub struct {
	// Share is the percentage of the snapshots that one scrub verifies by LevelChecksum, those first whose last
	// verification is longest ago. So all of them have their turn, and no scrub reads the whole bucket.
	Share int
	Drill bool // and the newest by LevelDrill, because it is the one that a disaster would need
}

// DownloadRequest asks for the bytes of a snapshot.
type DownloadRequest struct {
	Name    string
	Backend string // empty: the first one that can be read
	// Decoded asks for the database as etcd sent it, which etcdutl restores, instead of the bytes as they are stored.
	// The service needs an identity for an encrypted snapshot then.
	Decoded bool
	Offset  int64 // of the first byte that is wanted, so that a download that broke off goes on where it was
}
