// Package repository holds the snapshots of one cluster on one backend: data, manifests, marker and listing.
//
// A [Repository] is one place. It reads and writes manifests and decides which of them are trusted, opens copies and
// compares them with their checksums, probes, verifies and removes them, and makes sure that the place is still the one
// that it was. It knows no catalog, no other backend and no schedule: package cluster decides over all of these.
//
// The package also has the port [Backend], which the storage adapters implement. Package memory is an implementation
// for tests, and package conformance has the tests that every implementation passes.
//
// # The catalog is no witness
//
// Anyone with access to etcd can change a record. So nothing is removed, unpinned or signed because of a record alone:
// the manifest beside the copy, signed where there are keys, must say the same. Anyone with access to a backend can
// put a document there. So documents are read strictly, and their sizes are bounded.
package repository
