package retention

import (
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Stock is the copies of a cluster's snapshots, by backend, as retention sees them. Of each copy it holds only the
// facts that retention needs, because all of them are in memory at once.
type Stock struct {
	now     time.Time
	rules   func(backend string) (Rules, bool)
	ready   map[string][]*Candidate // by backend
	missing map[string][]*Candidate // by backend: those that are still to be made
	whole   *Candidate              // of the newest snapshot without a missing copy; nil when there is none
}

// NewStock returns an empty stock. rules returns the retention of a backend, and false for one that is not configured:
// nothing will ever be copied there.
func NewStock(now time.Time, rules func(backend string) (Rules, bool)) *Stock {
	return &Stock{now: now, rules: rules, ready: map[string][]*Candidate{}, missing: map[string][]*Candidate{}}
}

// Add takes in the copies of a record: those that are READY, and those that repair still has to make.
func (s *Stock) Add(rec *snapshot.Record) {
	if rec.State() == snapshot.StateSaving || rec.State() == snapshot.StateDeleting {
		return
	}
	for _, l := range rec.Locations() {
		switch {
		case l.State == snapshot.StateReady:
			s.ready[l.Backend] = append(s.ready[l.Backend], s.candidate(rec, l.Backend, l.Size))
		case l.State == snapshot.StateFailed && rec.Repairable():
			s.Miss(rec, l.Backend)
		}
	}
	if rec.State() != snapshot.StateReady || snapshot.Ahead(rec.CreateTime, s.now) {
		return // a time in the future is a wrong clock's
	}
	if c := s.candidate(rec, "", 0); s.whole == nil || newestFirst(c, s.whole) < 0 {
		s.whole = c
	}
}

// Miss takes in a copy that a backend does not have and is to get.
func (s *Stock) Miss(rec *snapshot.Record, backend string) {
	if _, configured := s.rules(backend); configured {
		s.missing[backend] = append(s.missing[backend], s.candidate(rec, backend, rec.StoredSize))
	}
}

func (s *Stock) candidate(rec *snapshot.Record, backend string, size int64) *Candidate {
	rules, _ := s.rules(backend)
	return &Candidate{
		Name: rec.Name, Created: rec.CreateTime, Size: size, Etcd: rec.EtcdClusterID, Revision: rec.Revision,
		State: rec.State(), Ready: len(rec.ReadyOn()),
		Proven: !rec.Proven().IsZero(), Exemption: rules.Exemption(&rec.Snapshot),
		Adopted: rec.Trigger == snapshot.TriggerAdopted,
	}
}

// Copies returns the READY copies on each of some backends, undecided. Each of them knows which other backends still
// have to get its snapshot: as long as a repair needs a source, retention must not remove the last one.
func (s *Stock) Copies(backends []string) [][]*Candidate {
	awaiting := map[string][]string{} // backends, by name
	for backend := range s.missing {
		for name := range s.Awaited(backend) {
			awaiting[name] = append(awaiting[name], backend)
		}
	}
	all := make([][]*Candidate, len(backends))
	for i, backend := range backends {
		all[i] = s.ready[backend]
		for _, c := range all[i] {
			c.awaiting = slices.Sorted(slices.Values(awaiting[c.Name]))
			c.Whole = s.whole != nil && c.Name == s.whole.Name
		}
	}
	return all
}

// Awaited returns the names of the missing copies that a backend would keep if it had all of them. A copy that it would
// remove again is not worth making, and nothing waits for it.
func (s *Stock) Awaited(backend string) map[string]bool {
	var all []*Candidate
	missing := map[*Candidate]bool{}
	for _, c := range s.ready[backend] {
		had := *c
		all = append(all, &had)
	}
	for _, c := range s.missing[backend] {
		made := *c
		all = append(all, &made)
		missing[&made] = true
	}
	rules, _ := s.rules(backend)
	rules.Apply(all, s.now)
	names := map[string]bool{}
	for c := range missing {
		if c.Stays {
			names[c.Name] = true
		}
	}
	return names
}
