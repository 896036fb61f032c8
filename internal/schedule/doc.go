// Package schedule runs the work that only the leader does: the scheduled saves and scrubs of a cluster, and the loop
// that reconciles and repairs it.
package schedule
