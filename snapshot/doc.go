// Package snapshot holds the words of snapshotd: a snapshot, the record that the catalog keeps of it, and every
// change that such a record can go through. It also has the names of objects, events and errors. The rules of
// retention are beside it, in retention.
//
// The package uses the standard library only and does no I/O. The state of a record is changed by its own methods and
// by nothing else. The rules about states stand in transition.go, those about nodes in node.go, and those about repairs
// in repair.go.
package snapshot
