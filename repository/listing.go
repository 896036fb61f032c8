package repository

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Group is the objects of one snapshot in a listing. It says only which objects the backend has listed: whether they
// are a snapshot is known when the manifest was read, or, without one, the head of the data.
type Group struct {
	Name     string
	Objects  []Object // data; of a snapshot that this program saved there is exactly one
	Manifest bool

	// ManifestTime is when the manifest was last written, as the listing says. A manifest that was written after the
	// catalog last learned of the copy is read again.
	ManifestTime time.Time
}

// Data returns the listed object with this key, or nil. A nil group has none.
func (g *Group) Data(key string) *Object {
	if g == nil {
		return nil
	}
	for i := range g.Objects {
		if g.Objects[i].Key == key {
			return &g.Objects[i]
		}
	}
	return nil
}

// DataOf returns the object of a snapshot's data in its group, or nil.
func (r *Repository) DataOf(g *Group, rec *snapshot.Record) *Object { return g.Data(r.dataKey(rec)) }

// Groups gathers the objects of a listing into snapshots, in ascending order of their [snapshot.OrderKey]. Objects that
// are no snapshot's by their key are given to foreign. The objects of a snapshot need not be neighbours ("a.db",
// "a.b.db", "a.json"), so a group stays open until the listing has passed the place of its last object; only groups
// whose names begin with one another are open at once, which bounds the memory.
func (r *Repository) Groups(list iter.Seq2[Object, error], foreign func(key string)) iter.Seq2[*Group, error] {
	return func(yield func(*Group, error) bool) {
		var open openGroups
		last := ""
		for o, err := range list {
			if err != nil {
				yield(nil, err)
				return
			}
			key := strings.TrimPrefix(o.Key, r.prefix)
			// The merge with the catalog relies on the order: a snapshot that came too late would seem to be gone.
			if last != "" && key <= last {
				yield(nil, fmt.Errorf("list %q: %q came after %q: the listing is not in order", r.prefix, key, last))
				return
			}
			last = key
			// The marker is at the root of the backend. It is listed only when the cluster has no prefix.
			if o.Key == snapshot.MarkerKey {
				continue
			}
			name, suffix, ok := snapshot.ObjectName(key)
			if !ok {
				foreign(o.Key)
				continue
			}
			if !open.flush(key, yield) {
				return
			}
			g := open.group(name)
			if suffix == snapshot.ManifestSuffix {
				g.Manifest, g.ManifestTime = true, o.ModTime
			} else {
				g.Objects = append(g.Objects, o)
			}
		}
		open.flush("", yield)
	}
}

// Sizes adds the sizes of their data objects, as the listing shows them, to the snapshots whose names sizes has.
func (r *Repository) Sizes(ctx context.Context, sizes map[string][]int64) error {
	for g, err := range r.Groups(r.List(ctx), func(string) {}) {
		if err != nil {
			return err
		}
		if _, asked := sizes[g.Name]; !asked {
			continue
		}
		for _, o := range g.Objects {
			sizes[g.Name] = append(sizes[g.Name], o.Size)
		}
	}
	return nil
}

// openGroups are the groups whose objects may not all have been listed yet, in ascending order of their order keys.
// There is rarely more than one: several are open only while names are listed that begin with one another.
type openGroups []*Group

// flush yields the groups that are complete before a key; all of them when it is empty. It reports whether to go on.
func (open *openGroups) flush(before string, yield func(*Group, error) bool) bool {
	for len(*open) > 0 && (before == "" || snapshot.OrderKey((*open)[0].Name) < before) {
		if !yield((*open)[0], nil) {
			return false
		}
		*open = (*open)[1:]
	}
	return true
}

// group returns the open group of a name, and makes it in its place when there is none.
func (open *openGroups) group(name string) *Group {
	i, found := slices.BinarySearchFunc(*open, snapshot.OrderKey(name), func(g *Group, key string) int {
		return strings.Compare(snapshot.OrderKey(g.Name), key)
	})
	if !found {
		*open = slices.Insert(*open, i, &Group{Name: name})
	}
	return (*open)[i]
}

// Adoptable returns the object of a group that may be a snapshot of another program: a file of K3s or RKE2, compressed
// or not, or a *.db of etcdctl. It returns nil when there is none or more than one, and when only signed snapshots are
// accepted.
func (r *Repository) Adoptable(g *Group) *Object {
	if g.Manifest || !snapshot.ValidName(g.Name) || !r.trust.AcceptsUnsigned() {
		return nil
	}
	var one *Object
	for i := range g.Objects {
		if !r.foreignSuffix(g, &g.Objects[i]) {
			continue
		}
		if one != nil {
			return nil // it is not known which of them is the snapshot
		}
		one = &g.Objects[i]
	}
	return one
}

// foreignSuffix reports whether another program's snapshot can have the suffix of an object. No other program
// compresses or encrypts as this one does.
func (r *Repository) foreignSuffix(g *Group, o *Object) bool {
	switch strings.TrimPrefix(o.Key, r.key(g.Name)) {
	case "", snapshot.ZipSuffix, snapshot.DataSuffix:
		return true
	}
	return false
}

// LooksSaved reports whether a group holds data as saves store it: under a name of their form, with a suffix of theirs.
func (r *Repository) LooksSaved(g *Group) bool {
	return snapshot.NamedLikeSaves(g.Name) && slices.ContainsFunc(g.Objects, func(o Object) bool {
		return snapshot.OwnKey(strings.TrimPrefix(o.Key, r.prefix))
	})
}
