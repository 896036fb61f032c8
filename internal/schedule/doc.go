// Package schedule runs what only one replica should run, under leadership: a cluster's scheduled saves and scrubs, and the loop
// that reconciles and repairs it.
package schedule
