package snapshot

// SaveRequest asks for a snapshot of a cluster.
type SaveRequest struct {
	NamePrefix string            // DefaultNamePrefix when empty
	Labels     map[string]string // kept with the snapshot
	Backends   []string          // names; all of the cluster's when empty
	RequestID  string            // the same id returns the same outcome
	Trigger    Trigger           // TriggerManual when unspecified
}

// SaveResult is the outcome of a save.
type SaveResult struct {
	Snapshot *Snapshot
	Warnings []string // what did not go as it should though the snapshot is whole
}

// ReconcileRequest asks for a reconciliation of a cluster.
type ReconcileRequest struct {
	Backends     []string // names; all of the cluster's when empty
	ValidateOnly bool     // report what would change and change nothing
	Repair       bool     // then copy each snapshot to the chosen backends that do not hold it
}

// BackendReport is what a reconciliation found on one backend. The counts are of snapshots on this backend.
type BackendReport struct {
	Cluster   string
	Backend   string
	Listed    int64 // data and manifest were in the listing
	Unchanged int64 // the catalog had them as they are
	Added     int64 // the catalog did not have them
	Updated   int64 // the catalog had them otherwise
	Removed   int64 // the catalog had them and the backend has not
	Repaired  int64 // copies that were made here from another backend's
	Swept     int64 // leftovers of crashes that were removed
	Foreign   int64 // objects that are no snapshots of ours, left in peace
	Err       error // why this backend could not be reconciled; nil when it could
}
