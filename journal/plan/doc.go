// Package plan finds the segments that lead from a snapshot to a revision or a time, and reads them in order.
//
// A [Journal] is made from the listings of all backends. It needs the backends alone: no service and no catalog. A
// [Walk] reads segments one after the other. It reads each of them to its end before it uses anything of it. If a
// segment is damaged, the walk takes its revisions from another backend or another segment. A gap ends the walk with a
// [Lost], because its changes are missing in every later revision; only with Walk.Cross does the walk go on behind it,
// and lists it in Crossed.
package plan
