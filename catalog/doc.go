// Package catalog keeps the domain's records, locks and elections in etcd. It is an index: all of it but the records of
// failed saves can be made again from the objects on the backends.
//
// Below the prefix and the cluster's name:
//
//	snapshots/<name>.~         the record (proto/snapshotd/catalog/v1), in the order of the backends' listings
//	by-time/<inverted>/<name>  empty; the time is inverted so that an ascending range, which etcd reads page by page, is
//	                           newest first: it sorts a descending one in memory
//	requests/<request id>      the name of the snapshot that the request made, the newest one
//	stores/<backend>           the id of a backend's store
//	lock/save, leader          the replicas that save and lead, each on a lease
//	lock/told                  how far the save is, on the lease of its lock
//	successor                  the replica that asks the leader to give way
//	schedules/<name>           when the run of a schedule was due that ended last
//	journal/timeline           the newest timeline of the journal
//	scrub                      how the last scrub has ended
//	reconciled                 the newest damaged snapshots, the last proof, and the backends that were not reconciled
//	journal/notes              the gaps of the journal, where it is behind or damaged, and the last drill of a revision
//
// A record and the keys that are derived from it are written in one transaction, conditional on the revision at which
// the record was read.
//
// Whoever has a client certificate for etcd can write there, too. A record is held to the limits in limits.go; one that
// cannot be read is an error that names its key, and the others go on. The indexes are believed only as far as the
// records agree with them. A lock that no replica can have put there is taken over.
//
// The implementation in [github.com/snapshotd/snapshotd/catalog/memory] behaves in the same way; the tests in
// [github.com/snapshotd/snapshotd/catalog/conformance] run on both.
package catalog
