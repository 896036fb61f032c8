// Package restore makes a data directory of etcd from the backends alone: from a snapshot, and for revisions that no
// snapshot has from the journal behind it. It needs no service, no catalog and no running etcd. It also lists what can
// be restored, verifies snapshots, and proves the journal between two of them.
package restore
