// Package upkeep maintains a journal on its backends: it merges segments into those of higher levels, removes those
// that no snapshot needs, reads segments back to find damage, copies those that a backend lacks or has damaged, and
// sweeps what interrupted work has left.
//
// A merge removes its sources only after the merged segment was read back from the backend and compared. A damaged
// segment is removed only when others hold its revisions. A prune and a sweep remove without a replacement.
package upkeep
