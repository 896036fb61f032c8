// Package local keeps the newest part of a journal on the disk of this machine: the changes that are not on the
// backends yet.
//
// The journal is a row of parts. A part is two files: facts about it in JSON (NNN.json), and its entries (NNN.log),
// each with its length and a checksum. Entries are added to the last part alone. A part that is sealed never changes,
// and is removed when the backends have it.
//
// The traces of a crash are repaired by [Log.Open]: a tail that is not whole is cut off. Nothing before the last
// [Log.Sync] is ever lost by a crash.
//
// A crash leaves one of these, and each of them has one meaning:
//
//	entries without facts    the part was being begun, and nothing was added: the number is passed over
//	facts without entries    the part was being removed, or somebody has removed its entries: the facts go as well, and
//	                         the note (position) tells the two apart
//	a torn end of the last   it was never promised: it is cut off
//	a torn end of another    damage: its whole entries are kept, and the rest is looked for on the backends
//	NNN.json.tmp             facts were being written: they are removed
//
// The file "position" says where the last sealed part ended and which parts were removed on purpose. Without it, a
// directory from which somebody has removed files would look like one whose parts were all uploaded.
package local
