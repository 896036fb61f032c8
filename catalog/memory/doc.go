// Package memory keeps a cluster's records, lock and stores in the memory of the process. It behaves as the catalog in
// etcd does and passes the same tests; several replicas of one process may share a catalog. It is for tests and trials:
// everything in it is gone with the process, and it remembers every change until [Catalog.Compact].
package memory
