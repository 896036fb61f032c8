// Package plan finds the segments that lead from a snapshot to a revision or a time, and reads them in order.
//
// A [Journal] is made from the listings of all backends. It needs the backends alone: no service and no catalog. A
// [Walk] reads segments one after the other. It reads each of them to its end before it uses anything of it. If a
// segment is damaged, the walk takes its revisions from another backend or another segment. A gap ends the walk with a
// [Lost], because its changes are missing in every later revision; only with Walk.Cross does the walk go on behind it,
// and lists it in Crossed.
//
// Several segments may hold one revision: on several backends, on several levels, and cut in several ways by replicas
// that have led one after the other. They are used by how far they reach. Whether they are of one history is shown by
// their chains alone, from each segment to the next one, and from the snapshot to the first one.
//
// A time leads to a revision by two kinds of proof: the arrival of a revision, before which it was committed, and a
// watermark, up to which nothing is missing. Between the two nothing is guessed (Moment.Upper).
package plan
