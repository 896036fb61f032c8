// Package upkeep maintains a journal on its backends: it merges segments into those of higher levels, removes those
// that no snapshot needs, reads segments back to find damage, copies those that a backend lacks or has damaged, and
// sweeps what interrupted work has left.
//
// A merge removes its sources only after the merged segment was read back from the backend and compared. A damaged
// segment is removed only when others hold its revisions. A prune and a sweep remove without a replacement.
//
// Each step may be interrupted at each moment: segments of a timeline may overlap, and two that hold the same revisions
// of the same history are as good as one. So everything is added before anything is removed, and work that was left
// half done is found by the next listing; nothing is noted of it.
//
// Listings can be wrong, and removing is for good. A directory that is not mounted looks empty, a backend that is away
// gives nothing, and a manifest may be forged. A segment that cannot be read therefore never counts as absent, and a
// prune and a sweep ask first whether the place is the store that it was (Place.timelines).
//
// Which segments are damaged is known to this process alone. A state that is stored would be one more thing that can be
// wrong, and the leader finds them again by reading.
package upkeep
