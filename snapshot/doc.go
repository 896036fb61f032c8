// Package snapshot is the domain of snapshotd: it saves an etcd cluster to several backends at once, and keeps a catalog
// that tells the truth about them.
//
// The package knows no gRPC, no bucket library and no etcd client. It says what it needs of them in ports.go: a [Source]
// that streams a cluster, a [Backend] that keeps objects, a [Catalog] that keeps records, an [Observer] that is told
// what happened. Data flows one way through [Cluster.Save]: source → spool → backends, then catalog.
package snapshot
