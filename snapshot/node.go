package snapshot

import (
	"fmt"
	"slices"
	"strings"
)

// A backend that is a directory of its own on each node has one name for each of them, NAME@NODE: in records, in the
// catalog's memory of stores, in metrics. A configured name has no '@', so that the two kinds never meet. No replica
// needs to know of the other nodes: a location that is elsewhere says so by its name.
const atNode = "@"

// BackendOn returns the name of a node-local backend on one node.
func BackendOn(backend, node string) string { return backend + atNode + node }

// NodeOf returns the node whose replica alone reaches a backend; empty when all replicas do.
func NodeOf(backend string) string {
	_, node, _ := strings.Cut(backend, atNode)
	return node
}

// Configured returns the name of a backend as the configuration has it, which is that of the directories of a
// node-local one on all nodes, and whether it is such a directory.
func Configured(backend string) (name string, local bool) {
	name, _, local = strings.Cut(backend, atNode)
	return name, local
}

// IsBackend reports whether a backend has the name that a caller gave: its own, or the configured one.
func IsBackend(backend, given string) bool {
	configured, _ := Configured(backend)
	return given == backend || given == configured
}

// IsChosen reports whether a backend is one of those that a caller gave, as [IsBackend] does; all are when none is
// given.
func IsChosen(backend string, given []string) bool {
	return len(given) == 0 || slices.ContainsFunc(given, func(name string) bool { return IsBackend(backend, name) })
}

// Node is the name of a node, as its replica sees the directories of all nodes. A replica never concludes anything from
// not seeing a copy that is elsewhere. A caller that asks for such a copy is told its node, and not that there is none.
type Node string

// Elsewhere reports whether a backend is a directory of another node.
func (n Node) Elsewhere(backend string) bool {
	node := NodeOf(backend)
	return node != "" && node != string(n)
}

// ReadyElsewhere returns the directories of other nodes that have a READY copy of a snapshot.
func (n Node) ReadyElsewhere(rec *Record) []string {
	return slices.DeleteFunc(rec.ReadyOn(), func(b string) bool { return !n.Elsewhere(b) })
}

// AnyElsewhere reports whether a record has a location, in any state, on a directory of another node.
func (n Node) AnyElsewhere(rec *Record) bool {
	return slices.ContainsFunc(rec.Locations(), func(l Location) bool { return n.Elsewhere(l.Backend) })
}

// OnOther is the error that something needs directories of other nodes.
func (n Node) OnOther(backends []string, format string, args ...any) *Error {
	nodes := make([]string, len(backends))
	for i, b := range backends {
		nodes[i] = NodeOf(b)
	}
	return ReasonBackendOnOtherNode.
		New("%s: only the replica of node %s can reach %s, and this is the replica of node %s",
			fmt.Sprintf(format, args...), strings.Join(nodes, " or "), Join(backends), n).On(backends[0]).
		Advise("ask the replica of node %s (--addr); "+
			"if that node is gone for ever, reconcile --retire-node %s forgets its copies", nodes[0], nodes[0])
}

// Retire drops the locations in the directories of nodes that are gone for ever, and returns them; lost says that the
// upload fallback of such a node was given up, too, and that nothing is left of the snapshot. A FAILED snapshot that
// another node still has to deliver to these backends keeps them. One that a backend has is not owed by any node: its
// record may name one that has died before it could say that the backend took it.
func (r *Record) Retire(nodes []string) (gone []Location, lost bool) {
	node := r.FallbackNode()
	kept := node != "" && slices.Contains(nodes, node)
	if node != "" && !kept && r.status.State == StateFailed {
		return nil, false
	}
	r.Drop(func(l Location) bool {
		node := NodeOf(l.Backend)
		retired := node != "" && slices.Contains(nodes, node)
		if retired {
			gone = append(gone, l)
		}
		return retired
	})
	switch {
	case !kept:
	case r.status.State == StateFailed:
		r.LoseFallback()
		return gone, true
	default:
		r.SetFallback("")
	}
	return gone, false
}

// HasLocation reports whether there is a location on a backend with the name that a caller gave.
func (s *Snapshot) HasLocation(given string) bool {
	return slices.ContainsFunc(s.status.Locations, func(l Location) bool { return IsBackend(l.Backend, given) })
}

// Outdated reports whether the manifest on a backend of another node is older than the record, because the replica that
// changed the record could not reach it; or that on another backend, because a repair has copied it from there.
func (r *Record) Outdated(backend string) bool { return slices.Contains(r.book.Outdated, backend) }

// SetOutdated notes that the manifest on a backend is older than the record, or with false that it is not any more.
func (r *Record) SetOutdated(backend string, outdated bool) {
	r.book.Outdated = slices.DeleteFunc(r.book.Outdated, func(b string) bool { return b == backend })
	if outdated {
		r.book.Outdated = append(r.book.Outdated, backend)
	}
}
