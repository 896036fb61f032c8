// Package segment has the words of the journal, and its format: entries, how they are written one after the other, and
// segments, which are runs of consecutive revisions.
//
// An entry has one encoding and two frames around it. In a local file each entry has its length and a checksum before
// it ([AppendFrame], [ReadFrame]), so that a tail that was cut off is found. In a segment ([Builder], [Reader]) the
// entries follow a header, in zstd frames that have checksums of their own.
//
// Which revisions are held, lost, or wanted is a set of revisions: [Union], [Without], [Within] and [Size] of [Range].
//
// The bytes of a segment are fixed by its header and its entries, on any machine. Encoders may therefore not have
// choices, and decoders refuse each encoding but the one. Its history is fixed by a checksum over the records of all
// revisions up to it ([Chain]), which times, cuts and levels do not change.
//
// The package knows no backend, no encryption and no etcd. docs/format.md describes the bytes.
package segment
