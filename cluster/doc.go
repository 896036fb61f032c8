// Package cluster takes care of one etcd cluster: it saves it to several backends at once, keeps the catalog in line with
// the backends, repairs, verifies, prunes and deletes copies, and keeps a snapshot that no backend took.
//
// [Cluster.Save] sends data one way: source, spool, compression and encryption, backends, then catalog. [Cluster.Maintain]
// is what the leader does, in order. What one backend holds is the business of package repository; the package knows no
// gRPC, no bucket library and no etcd client, and names what it needs of them in ports.go.
package cluster
