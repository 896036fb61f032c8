// Package etcd reaches an etcd cluster the way etcdctl does (endpoints or SRV records, CA, client certificate, user and
// password) and is the domain's source of snapshots.
//
// A [Conn] is the settings, and one client for the users of the cluster as a whole, such as the catalog. A [Source]
// asks each member, chooses the best one, and reads its snapshot on a connection to that member alone.
package etcd
