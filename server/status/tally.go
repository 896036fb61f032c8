package status

import (
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/snapshot/retention"
)

const maxNames = 20

// Counter counts the records of a cluster, page by page.
type Counter struct {
	known  *Known
	totals map[string]Total
	taken  map[string][]time.Time // by schedule: when its snapshots were
	stock  *retention.Stock
}

// NewCounter returns a counter for the places of a cluster.
func NewCounter(k *Known) *Counter {
	c := &Counter{
		known: k, totals: map[string]Total{}, taken: map[string][]time.Time{}, stock: retention.NewStock(k.Now, k.rules),
	}
	for _, p := range k.Places {
		c.totals[p.Name] = Total{}
	}
	return c
}

// Add counts records.
func (c *Counter) Add(records []*snapshot.Record) {
	for _, rec := range records {
		c.stock.Add(rec)
		if by := takenBy(rec); by != "" && wholeCopy(rec) != nil && !rec.CreateTime.After(c.known.Now) {
			c.taken[by] = append(c.taken[by], rec.CreateTime)
		}
		for _, l := range rec.Locations() {
			if t, ok := c.totals[l.Backend]; ok && l.State == snapshot.StateReady {
				c.totals[l.Backend] = t.plus(l.Size)
			}
		}
	}
}

// rules returns the retention of a backend, and whether it is one of the cluster's.
func (k *Known) rules(backend string) (retention.Rules, bool) {
	for _, p := range k.Places {
		if p.Name == backend {
			return p.Retention, true
		}
	}
	return retention.Rules{}, false
}

func (t Total) plus(bytes int64) Total { return Total{t.Snapshots + 1, t.Bytes + bytes} }

// Tally returns what was counted, and applies retention to it: as it is now, and as it will be after the next save.
func (c *Counter) Tally() Tally {
	t := Tally{Totals: c.totals}
	names := make([]string, len(c.known.Places))
	for i, p := range c.known.Places {
		names[i] = p.Name
	}
	t.Missed = c.missed(names)
	copies := c.stock.Copies(names)
	for i, p := range c.known.Places {
		r := Removal{Backend: p.Name, Rules: p.Retention.Removes()}
		if r.Rules {
			r.apply(p.Retention, copies[i], c.known)
		}
		t.Removals = append(t.Removals, r)
	}
	return t
}

func (r *Removal) apply(rules retention.Rules, copies []*retention.Candidate, k *Known) {
	newest := rules.Apply(copies, k.Now)
	gone := map[string]bool{}
	for _, c := range slices.Backward(copies) {
		if !c.Stays {
			gone[c.Name] = true
			r.note(&r.Now, c)
		}
	}
	if r.Due = k.nextSave(r.Backend); r.Due.IsZero() || newest == nil {
		return
	}
	for _, c := range copies {
		c.Undecide()
		c.Whole = false // the next one is
	}
	next := &retention.Candidate{
		Created: r.Due, Size: newest.Size, Etcd: newest.Etcd, Revision: newest.Revision + 1,
		State: snapshot.StateReady, Whole: true,
	}
	after := append(slices.DeleteFunc(copies, func(c *retention.Candidate) bool { return gone[c.Name] }), next)
	rules.Apply(after, r.Due)
	for _, c := range slices.Backward(after) {
		if !c.Stays {
			r.note(&r.Next, c)
		}
	}
}

func (r *Removal) note(t *Total, c *retention.Candidate) {
	*t = t.plus(c.Size)
	if len(r.Names) < maxNames {
		r.Names = append(r.Names, c.Name)
	}
}

// nextSave returns when the first of the schedules that save to a backend is due; zero without any.
func (k *Known) nextSave(backend string) (first time.Time) {
	for _, s := range k.Schedules {
		if next := s.Next(k.Now); s.goesTo(backend) && (first.IsZero() || next.Before(first)) {
			first = next
		}
	}
	return first
}

// tally returns what the backends hold: as it was counted, or by the records when these are all.
func (k *Known) tally() Tally {
	switch {
	case k.Err != nil:
		return Tally{}
	case k.Tally != nil:
		return *k.Tally
	case !k.All:
		return Tally{}
	}
	c := NewCounter(k)
	c.Add(k.Records)
	return c.Tally()
}
