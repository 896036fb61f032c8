package snapshot

import "time"

// MaxDamagedNoted is how many damaged snapshots a [ReconcileNote] names.
const MaxDamagedNoted = 10

// ReconcileNote is what only a look at the whole catalog and at all backends tells. The replicas note it in the catalog
// when they have reconciled or verified, so that all can tell it. Whether it still holds, the records say.
type ReconcileNote struct {
	// Damaged are names of snapshots that did not pass their last verification: the newest ones that a reconcile has
	// found, the newest first, and before them those that were verified since.
	Damaged []string
	Proven  string    // name of the snapshot that a drill has proven last; empty when there is none
	Counted time.Time // when that was found which is in Damaged and Proven
	Failed  map[string]ReconcileFailure
}

// ReconcileFailure is why the last reconcile of a backend has failed.
type ReconcileFailure struct {
	Time  time.Time // when that was found
	Error string
	Whole bool // nothing there was reconciled; otherwise all was but some objects
}
