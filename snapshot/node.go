package snapshot

import (
	"slices"
	"strings"
)

// A backend that is a directory of its own on each node has one name for each of them, NAME@NODE: in records, in the
// catalog's memory of stores, in metrics. A configured name has no '@', so that the two kinds never meet. No replica needs
// to know of the other nodes: a location that is elsewhere says so by its name.
const atNode = "@"

// BackendOn returns the name of a node-local backend on one node.
func BackendOn(backend, node string) string { return backend + atNode + node }

// NodeOf returns the node whose replica alone reaches a backend; empty when all replicas do.
func NodeOf(backend string) string {
	_, node, _ := strings.Cut(backend, atNode)
	return node
}

// IsBackend reports whether a backend has the name that a caller gave: its own, or the configured one of a node-local
// backend, which is that of its directory on every node.
func IsBackend(backend, given string) bool {
	configured, _, _ := strings.Cut(backend, atNode)
	return given == backend || given == configured
}

// HasLocation reports whether there is a location on a backend with the name that a caller gave.
func (s *Snapshot) HasLocation(given string) bool {
	return slices.ContainsFunc(s.status.Locations, func(l Location) bool { return IsBackend(l.Backend, given) })
}

// Outdated reports whether the manifest on a backend of another node is older than the record, because the replica that
// changed the record could not reach it.
func (r *Record) Outdated(backend string) bool { return slices.Contains(r.book.Outdated, backend) }

// SetOutdated notes that the manifest on a backend is older than the record, or with false that it is not any more.
func (r *Record) SetOutdated(backend string, outdated bool) {
	r.book.Outdated = slices.DeleteFunc(r.book.Outdated, func(b string) bool { return b == backend })
	if outdated {
		r.book.Outdated = append(r.book.Outdated, backend)
	}
}
