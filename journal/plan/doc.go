// Package plan finds the segments that lead from a snapshot to a revision or a time, and reads them in order.
//
// A [Journal] is made from the listings of all backends. It needs the backends alone: no service and no catalog. A
// [Walk] reads segments one after the other, each of them whole before anything of it is used. A segment that is not
// good is read from another backend, or its revisions from another segment. A hole is an error, and is never crossed:
// the changes in it are missing in every later revision.
package plan
