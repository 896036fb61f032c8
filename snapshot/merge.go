package snapshot

import (
	"fmt"
	"iter"
	"slices"
	"strings"
)

// group is what a listing shows of one snapshot.
type group struct {
	name     string
	objects  []Object // data; of a snapshot of ours exactly one is
	manifest bool
}

// data returns the listed object with this key, or nil.
func (g *group) data(key string) *Object {
	if g == nil {
		return nil
	}
	for i := range g.objects {
		if g.objects[i].Key == key {
			return &g.objects[i]
		}
	}
	return nil
}

// groups gathers the objects of a listing into snapshots, in ascending order of their [OrderKey]. Objects that are no
// snapshot's by their key are counted by foreign. The objects of a snapshot need not be neighbours ("a.db", "a.b.db",
// "a.json"), so a group stays open until the place of its last object has gone by; only names that begin with one another
// are open at once.
func groups(prefix string, list iter.Seq2[Object, error], foreign func(key string)) iter.Seq2[*group, error] {
	return func(yield func(*group, error) bool) {
		var open []*group // in ascending order of their order keys
		last := ""
		flush := func(before string) bool {
			for len(open) > 0 && (before == "" || OrderKey(open[0].name) < before) {
				if !yield(open[0], nil) {
					return false
				}
				open = open[1:]
			}
			return true
		}
		for o, err := range list {
			if err != nil {
				yield(nil, err)
				return
			}
			key := strings.TrimPrefix(o.Key, prefix)
			if last != "" && key <= last {
				yield(nil, fmt.Errorf("list %q: %q came after %q: the listing is not in order", prefix, key, last))
				return
			}
			last = key
			if o.Key == MarkerKey {
				continue
			}
			name, suffix, ok := objectName(key)
			if !ok {
				foreign(o.Key)
				continue
			}
			if !flush(key) {
				return
			}
			g := openGroup(&open, name)
			if suffix == manifestSuffix {
				g.manifest = true
			} else {
				g.objects = append(g.objects, o)
			}
		}
		flush("")
	}
}

// openGroup returns the open group of a name, made in its place when there is none.
func openGroup(open *[]*group, name string) *group {
	i, found := slices.BinarySearchFunc(*open, OrderKey(name), func(g *group, key string) int {
		return strings.Compare(OrderKey(g.name), key)
	})
	if !found {
		*open = slices.Insert(*open, i, &group{name: name})
	}
	return (*open)[i]
}

// cursor is one of the streams that are merged.
type cursor[T any] struct {
	next func() (T, error, bool)
	stop func()
	cur  T
	key  string // of cur; empty when the stream has ended
	err  error  // why it ended early
}

// newCursor returns a cursor before the first element.
func newCursor[T any](seq iter.Seq2[T, error]) *cursor[T] {
	next, stop := iter.Pull2(seq)
	return &cursor[T]{next: next, stop: stop}
}

// advance pulls the next element; key gives its place in the order.
func (c *cursor[T]) advance(key func(T) string) {
	v, err, ok := c.next()
	switch {
	case !ok:
		c.key = ""
	case err != nil:
		c.key, c.err = "", err
	default:
		c.cur, c.key = v, key(v)
	}
}
