package snapshot

// The largest numbers that are believed of a snapshot, in a manifest, in a record of the catalog and in a request. They
// leave room above all that a save writes, and below the numbers with which sums go wrong. Manifest and record have the
// same ones, so that each manifest that can be read can be recorded.
const (
	MaxSize       = 1 << 50 // bytes of a database or an object, and keys in it; a thousand of them can be summed up
	MaxRevision   = 1 << 62 // of etcd, which counts up to 2^63
	MaxGeneration = 1 << 53 // of a manifest, so that counting on never overflows
	MaxLocations  = 1000    // of a snapshot: work on a record grows with their square
)
