// Package cluster is the domain of one etcd cluster: it saves, reconciles, repairs, verifies, prunes, deletes,
// updates and gives out the snapshots of the cluster on all its backends.
//
// A [Cluster] has one file for each of these operations, which reads from top to bottom: the order of its steps is the
// point of it. Only save and reconcile have several. A save is in save.go, transfer.go (its bytes), fallback.go and
// takeover.go (another save has its request). A reconcile begins in reconcile.go, and goes on to one name
// (reconcilerecord.go), one location (reconcilelocation.go), a copy of a save that was taken over (superseded.go), and
// names without a record (discover.go, adopt.go). With retire.go it forgets what nodes that are gone had.
//
// Single steps are rooms below: reading (etcd's stream becomes the stored form), repairing (one copy is made from
// another), fallback (what stays on this replica's disk until a backend takes it), verifying (one copy), scrubbing (the
// snapshots that are verified next), downloading (one copy for a caller), pruning (one backend), amend (a change of one
// record) and inflight (the work of this process).
//
// # Rules
//
// The catalog lives in the etcd that is saved. It may be down, come back from the past, or be written to by others.
// So the following holds everywhere:
//
//   - Data becomes durable first, then its manifest, then the record. A crash between two of them leaves data without a
//     manifest, which no caller was told of, or a snapshot that reconcile finds again.
//   - A removal goes the other way: the record says DELETING, the manifest gets a mark, then data, manifest and record
//     go. Only the mark lets a removal be resumed. Nothing in the catalog alone makes bytes go.
//   - A change of a record is conditional on the record being as it was read. A conflict means that another replica was
//     faster: the record is read again, or the change is left to the next reconcile.
//   - Absence is confirmed. A listing may have failed half-way, or be that of an unmounted directory. Before a location
//     is forgotten, the backend is asked for this one object, and its marker is compared once more.
//   - Nothing is concluded about a directory of another node. Its own replica does all that concerns it.
//   - A backend that fails keeps no other one from being worked on. Its error is reported with its name.
//   - A record that cannot be read is left alone, and so is all that the backends hold under its name.
//   - A save goes on without the catalog. Everything else needs it, and says so.
//
// # Concurrency
//
// All methods of a Cluster may be called at once, on any number of replicas. One save of a cluster runs at a time,
// held by the catalog's lock; everything else is kept apart by conditional changes alone. Calls that hold much memory
// or disk wait for each other inside of a process (inflight.Slots).
//
// A replica may be paused at any step, be taken for dead, and wake up later. So nothing relies on a step following
// another one soon: before anything becomes visible or goes, the lock, the record or the backend is looked at once
// more.
//
// # Borders
//
// The package knows no gRPC, no bucket library and no etcd client. The ports in ports.go name all that it needs of
// them, and the contents of one backend are the business of package repository.
package cluster
