// Package seekable writes the zstd seekable format: independent zstd frames of at most [ChunkSize] decompressed bytes,
// and after them a seek table in a skippable frame. Any zstd reads the whole; with the table a range can be read
// without the rest, and frames can be encoded and decoded side by side.
//
// The seek table, all numbers little-endian:
//
//	0x184D2A5E          u32  magic of the skippable frame
//	size                u32  of what follows
//	compressed size     u32 ┐
//	decompressed size   u32 ┘ for each frame
//	number of frames    u32 ┐
//	descriptor          u8  │ 0: no checksums in the table, the frames carry their own
//	0x8F92EAB1          u32 ┘ the last bytes of the file
package seekable
