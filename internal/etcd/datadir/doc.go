// Package datadir makes a data directory of etcd from a snapshot, without a second copy of the database.
package datadir
