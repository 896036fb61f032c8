// Package etcd reaches an etcd cluster the way etcdctl does (endpoints or SRV records, CA, client certificate, user and
// password). It is the source of snapshots, and of the changes that the journal follows.
//
// A [Conn] is the settings, and one client for the users of the cluster as a whole, such as the catalog. A [Source]
// asks each member, chooses the best one, and reads its snapshot on a connection to that member alone. A [Followed]
// chooses in the same way the member whose changes are followed.
package etcd
