//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"time"
)

// keepLast is how many snapshots the retention of the soak keeps on each backend, those aside that nothing may remove.
const keepLast = 10

// The states that matter to retention.
const (
	ready   = "STATE_READY"
	partial = "STATE_PARTIAL"
	failed  = "STATE_FAILED"
)

// backends are those of the soak.
var backends = []string{"local", "s3"}

// ledger is the reasons why copies stay, from the observations and actions of the soak itself.
type ledger struct {
	taken  map[string]time.Time       // when each snapshot was
	seen   map[string]map[string]bool // by backend: copies that were READY in the catalog at any time
	left   map[string]map[string]bool // by backend: copies that retention has removed
	pinned map[string]bool
	proven map[string]bool // by a drill
}

func newLedger() ledger {
	l := ledger{
		taken: map[string]time.Time{}, seen: map[string]map[string]bool{}, left: map[string]map[string]bool{},
		pinned: map[string]bool{}, proven: map[string]bool{},
	}
	for _, b := range backends {
		l.seen[b], l.left[b] = map[string]bool{}, map[string]bool{}
	}
	return l
}

// note takes in the records of the catalog.
func (l *ledger) note(all []snap) {
	for _, s := range all {
		l.taken[s.Name] = s.CreateTime
		for _, b := range backends {
			if s.on(b) == ready {
				l.seen[b][s.Name] = true
			}
		}
	}
}

// held returns why retention can at no time have removed a copy; empty when it can. It errs on that side: a newer copy
// may be gone again.
func (l *ledger) held(backend, name string) string {
	newer := func(than map[string]bool) (n int) {
		for other := range than {
			if l.taken[other].After(l.taken[name]) {
				n++
			}
		}
		return n
	}
	switch n := newer(l.seen[backend]); {
	case n < keepLast:
		return fmt.Sprintf("at most %d have been newer there", n)
	case l.pinned[name]:
		return "it is pinned"
	case l.proven[name] && newer(l.proven) == 0:
		return "it is the newest that a drill has proven"
	}
	return ""
}

// staying says of each copy on a backend whether it has to stay: by the rules, or because another backend still has to
// get it and will keep it.
func (l *ledger) staying(backend string, all []snap) map[string]bool {
	there := func(b string, states ...string) []snap {
		return slices.DeleteFunc(slices.Clone(all), func(s snap) bool {
			return !slices.Contains(states, s.on(b)) || s.State != ready && s.State != partial
		})
	}
	stay := l.kept(there(backend, ready))
	for _, other := range backends {
		kept := l.kept(there(other, ready, failed))
		for _, s := range there(other, failed) {
			if _, here := stay[s.Name]; here && kept[s.Name] {
				stay[s.Name] = true
			}
		}
	}
	whole := slices.DeleteFunc(slices.Clone(all), func(s snap) bool { return s.State != ready })
	if len(whole) > 0 {
		newest := slices.MaxFunc(whole, func(a, b snap) int { return a.CreateTime.Compare(b.CreateTime) })
		if _, here := stay[newest.Name]; here {
			stay[newest.Name] = true
		}
	}
	return stay
}

// kept says which of some copies on one backend its rules keep.
func (l *ledger) kept(there []snap) map[string]bool {
	slices.SortFunc(there, func(a, b snap) int { return b.CreateTime.Compare(a.CreateTime) })
	stay := map[string]bool{}
	ruled, proven := 0, false
	highest := snap{Revision: -1} // there is one etcd
	for _, s := range there {
		if s.Revision > highest.Revision {
			highest = s
		}
	}
	for i, s := range there {
		if !l.pinned[s.Name] {
			ruled++
		}
		stay[s.Name] = i == 0 || l.pinned[s.Name] || l.proven[s.Name] && !proven || ruled <= keepLast ||
			s.Name == highest.Name
		proven = proven || l.proven[s.Name]
	}
	return stay
}

// on returns the state of a snapshot on a backend; empty when it is not there.
func (sn snap) on(backend string) string {
	for _, l := range sn.Locations {
		if l.Backend == backend {
			return l.State
		}
	}
	return ""
}
