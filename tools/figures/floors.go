package main

import (
	"path"
	"slices"
	"strings"
)

// floor is a floor of the design. Imports point down; parts know none of the floors.
type floor int

const (
	floorParts floor = iota
	floorWords
	floorPlace
	floorCluster
	floorEdges
	floorTogether
	floorBeside // no floor: its imports are not judged
)

func (f floor) String() string {
	return [...]string{"part", "0 words", "1 one place", "2 one cluster", "3 edges", "4 put together", "beside"}[f]
}

// floors says on which floor a directory is. The longest entry that covers a directory decides; one that ends in "/"
// covers the subdirectories too.
var floors = map[string]floor{
	"cmd/":              floorTogether,
	"internal/cli/":     floorTogether,
	"internal/config/":  floorTogether,
	"internal/daemon/":  floorTogether,
	"internal/proving/": floorTogether,
	"internal/service/": floorTogether, // the former name of the daemon, to measure older commits

	"catalog/":             floorEdges,
	"internal/etcd":        floorEdges,
	"internal/etcd/drill/": floorEdges, // the adapter of the port Driller
	"internal/restore/":    floorEdges,
	"internal/schedule/":   floorEdges,
	"internal/wire/":       floorEdges, // the words of all adapters: each may import it
	"server/":              floorEdges,
	"storage/":             floorEdges,
	"telemetry/":           floorEdges,

	"cluster/": floorCluster,
	"journal/": floorCluster,

	"repository/": floorPlace,

	"snapshot/":        floorWords,
	"journal/segment/": floorWords,

	"internal/codec/":         floorParts,
	"internal/etcd/database/": floorParts,
	"internal/etcd/datadir/":  floorParts,
	"internal/etcd/member/":   floorParts,
	"internal/fault/":         floorParts,
	"internal/limit/":         floorParts,
	"internal/span/":          floorParts,
	"internal/backoff/":       floorParts,
	"internal/bytesize/":      floorParts,
	"internal/cache/":         floorParts,
	"internal/disk/":          floorParts,
	"internal/duration/":      floorParts,
	"internal/fairqueue/":     floorParts,
	"internal/loopback/":      floorParts,
	"internal/merge/":         floorParts,
	"internal/progress/":      floorParts,
	"internal/spool/":         floorParts,
}

// room returns the entry of the table that covers a directory, or the directory itself, and its floor.
func room(dir string) (string, floor) {
	if f, ok := floors[dir]; ok {
		return dir, f
	}
	for top := dir; top != "."; top = path.Dir(top) {
		if f, ok := floors[top+"/"]; ok {
			return top, f
		}
	}
	return dir, floorBeside
}

// edge is an import of one package of the module by another one.
type edge struct{ from, to *pkg }

// edges returns the imports within the module, of the program alone: files of tests and their helpers do not count.
func (m *module) edges() []edge {
	byPath := map[string]*pkg{}
	for _, p := range m.packages {
		if len(p.of(code, generated)) > 0 {
			byPath[p.path] = p
		}
	}
	var all []edge
	for _, p := range m.packages {
		for _, f := range p.of(code, generated) {
			for _, imported := range f.imports() {
				e := edge{p, byPath[imported]}
				if e.to != nil && !slices.Contains(all, e) {
					all = append(all, e)
				}
			}
		}
	}
	return all
}

// misplaced returns the imports that point up, and those that point sideways: to another room of the same floor. The
// highest floor puts the others together, itself too, parts may be made of parts, and every room of the edges may
// import internal/wire.
func misplaced(all []edge) (up, sideways []edge) {
	for _, e := range all {
		from, fromFloor := room(e.from.dir)
		to, toFloor := room(e.to.dir)
		switch {
		case fromFloor == floorBeside, toFloor == floorBeside, from == to:
		case fromFloor == floorEdges && to == "internal/wire":
		case fromFloor < toFloor:
			up = append(up, e)
		case fromFloor == toFloor && fromFloor != floorTogether && fromFloor != floorParts:
			sideways = append(sideways, e)
		}
	}
	return up, sideways
}

// inProgram returns how many of the direct dependencies are in the program; the others are for tests or tools.
func (m *module) inProgram() int {
	used := map[string]bool{}
	for _, f := range m.of(code, generated) {
		for _, imported := range f.imports() {
			longest := ""
			for _, required := range m.requires {
				if within(imported, required) && len(required) > len(longest) {
					longest = required
				}
			}
			used[longest] = longest != ""
		}
	}
	delete(used, "")
	return len(used)
}

// outside returns the packages of the program that no command under cmd/ imports, directly or by way of others.
func (m *module) outside() []*pkg {
	reached := map[*pkg]bool{}
	for _, p := range m.packages {
		reached[p] = strings.HasPrefix(p.dir, "cmd/")
	}
	all := m.edges()
	for again := true; again; {
		again = false
		for _, e := range all {
			if reached[e.from] && !reached[e.to] {
				reached[e.to], again = true, true
			}
		}
	}
	var rest []*pkg
	for _, p := range m.packages {
		if len(p.of(code)) > 0 && !reached[p] {
			rest = append(rest, p)
		}
	}
	return rest
}
