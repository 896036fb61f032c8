// Package loader fills an etcd with data like that of Kubernetes, for tests and measurements: many small objects and
// some large ones under /registry/, updates, deletions and a compaction.
package loader
