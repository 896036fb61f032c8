// Package restore makes a data directory of etcd from a snapshot in a repository, with nothing else: no service, no
// catalog, no running etcd.
package restore
