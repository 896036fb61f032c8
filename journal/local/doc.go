// Package local keeps the newest part of a journal on the disk of this machine: the changes that are not on the
// backends yet.
//
// The journal is a row of parts. A part is two files: facts about it in JSON (NNN.json), and its entries (NNN.log),
// each with its length and a checksum. Entries are added to the last part alone. A part that is sealed never changes,
// and is removed when the backends have it.
//
// The traces of a crash are repaired by [Log.Open]: a tail that is not whole is cut off. Nothing before the last
// [Log.Sync] is ever lost by a crash.
package local
