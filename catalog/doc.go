// Package catalog keeps the domain's records, locks and elections in etcd. It is an index: all of it but the records of
// failed saves can be made again from what the backends hold.
//
// Below the prefix and the cluster's name:
//
//	snapshots/<name>.~         the record (proto/snapshotd/catalog/v1), in the order of the backends' listings
//	by-time/<inverted>/<name>  empty; the time is inverted so that an ascending range, which etcd reads page by page, is
//	                           newest first: it sorts a descending one in memory
//	requests/<request id>      the name of the snapshot that the request made, the newest one
//	stores/<backend>           what is remembered of a backend's store
//	lock/save, leader          who saves and who leads, each on a lease
//	schedules/<name>           when the run of a schedule was due that ended last
//
// A record and what is derived of it are written in one transaction, conditional on the revision at which the record was
// read.
package catalog
