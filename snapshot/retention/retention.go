// Package retention decides which snapshots stay on a backend, and why. It is arithmetic on the facts of the catalog:
// it reads no backend and removes nothing. cluster/pruning carries the decisions out.
package retention

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Rules says which snapshots stay on a backend. A snapshot stays when any of the Keep rules or the window keeps it;
// a snapshot that no rule keeps is removed. The zero value keeps everything.
//
// A copy also stays, unless MaxTotalBytes removes it, while another backend still has to get the snapshot and will keep
// it: it may be the one that repair copies from. The newest snapshot of which no copy is missing stays in any case.
//
// Ages are counted from the newest snapshot and not from the clock: a schedule that has stopped makes no good snapshot
// old. Wrong clocks do no harm either: a snapshot that is ahead of the clock by more than [snapshot.ClockTolerance]
// stays and does not count for any rule, and the snapshot with the highest revision of each etcd cluster stays, also
// with a wrong time.
type Rules struct {
	KeepLast    int // the newest
	KeepHourly  int // the newest of each hour, for this many hours that have one; the next four in the same way
	KeepDaily   int
	KeepWeekly  int // ISO weeks, from Monday
	KeepMonthly int
	KeepYearly  int

	KeepWithin     time.Duration // all that are younger
	RecoveryWindow time.Duration // all that are younger, and the one before them: any moment of the window can be restored

	MaxTotalBytes int64 // of all objects on the backend: the oldest go until they fit, also those of Keep rules
	MinKeep       int   // the newest of all kinds; it comes before all other rules

	OnDemand bool // the rules also apply to snapshots that a caller asked for
	Adopted  bool // and to those that other programs took

	TimeZone *time.Location // of hours, days and so on; UTC when nil
}

// Removes reports whether there is a rule by which a snapshot is ever removed.
func (r *Rules) Removes() bool { return r.hasKeepRule() || r.MaxTotalBytes > 0 }

// hasKeepRule reports whether a rule says which snapshots stay; without one all stay, except for MaxTotalBytes.
func (r *Rules) hasKeepRule() bool {
	return r.KeepLast > 0 || r.KeepHourly > 0 || r.KeepDaily > 0 || r.KeepWeekly > 0 || r.KeepMonthly > 0 ||
		r.KeepYearly > 0 || r.KeepWithin > 0 || r.RecoveryWindow > 0
}

// Exemption says why the rules do not apply to a snapshot; empty when they do.
func (r *Rules) Exemption(s *snapshot.Snapshot) string {
	switch {
	case s.Pinned:
		return "it is pinned"
	case !r.Removes():
		return "there is no retention for this backend"
	case s.Trigger == snapshot.TriggerManual && !r.OnDemand:
		return "it was taken on demand (on_demand)"
	case s.Trigger == snapshot.TriggerAdopted && !r.Adopted:
		return "another program took it (adopted)"
	case s.Trigger == snapshot.TriggerUnspecified:
		return "its trigger is not known"
	}
	return ""
}

// Candidate is a READY copy on one backend, as retention sees it, and the decision about it.
type Candidate struct {
	Name      string
	Created   time.Time
	Size      int64
	Etcd      string // the id of the etcd cluster; empty when it is not known
	Revision  int64
	State     snapshot.State // of the snapshot
	Ready     int            // backends that have it
	Proven    bool           // by a drill
	Whole     bool           // it is of the newest snapshot of which no copy is missing
	awaiting  []string       // backends that still have to get the snapshot
	Exemption string         // why the rules do not apply to it; empty when they do
	Adopted   bool           // another program took it, and no manifest tells of it

	Why   string // why it stays, or is removed
	Stays bool

	protected bool // MaxTotalBytes does not remove it
}

// Apply decides about all copies on one backend, and returns the newest of them that is not ahead of the clock; nil
// when there is none. It sorts them newest first.
func (r *Rules) Apply(copies []*Candidate, now time.Time) (newest *Candidate) {
	slices.SortFunc(copies, newestFirst)
	ahead := 0
	for _, c := range copies {
		if !snapshot.Ahead(c.Created, now) {
			break
		}
		c.protect("its time is in the future: a clock is wrong")
		ahead++
	}
	timely := copies[ahead:]
	r.protectNewest(timely)
	protectRevisions(copies)
	ruled := slices.DeleteFunc(slices.Clone(timely), func(c *Candidate) bool { return c.Exemption != "" })
	switch {
	case len(ruled) == 0:
	case r.hasKeepRule():
		r.applyKeep(ruled)
	default:
		for _, c := range ruled {
			c.keep("no keep rule is set")
		}
	}
	for _, c := range copies {
		if len(c.awaiting) > 0 {
			c.keep("it is still to be copied to " + snapshot.Join(c.awaiting))
		}
		if c.Whole {
			c.protect("it is the newest of which no backend lacks its copy")
		}
		if !c.Stays {
			c.Why = "no rule keeps it"
		}
	}
	r.enforceSize(copies)
	if len(timely) > 0 {
		newest = timely[0]
	}
	return newest
}

// newestFirst is the order of copies.
func newestFirst(a, b *Candidate) int {
	return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(b.Name, a.Name))
}

// protectNewest keeps the copies that no rule may remove, the newest among them.
func (r *Rules) protectNewest(copies []*Candidate) {
	newestProven := slices.IndexFunc(copies, func(c *Candidate) bool { return c.Proven })
	for i, c := range copies {
		switch {
		case i == 0:
			c.protect("it is the newest on this backend")
		case i == newestProven:
			c.protect("it is the newest here that a drill has proven")
		case c.Exemption != "":
			c.protect(c.Exemption)
		case i < r.MinKeep:
			c.protect(fmt.Sprintf("min_keep: %d of %d", i+1, r.MinKeep))
		}
	}
}

// protectRevisions keeps the copy with the highest revision of each etcd cluster. It is usually the newest one. It is
// not when a clock was wrong, when another etcd is saved to the same place, or when etcd was restored: then it is the
// last of its history.
func protectRevisions(copies []*Candidate) {
	highest := map[string]*Candidate{}
	for _, c := range copies {
		if h := highest[c.Etcd]; c.Etcd != "" && (h == nil || c.Revision > h.Revision) {
			highest[c.Etcd] = c
		}
	}
	for id, c := range highest {
		c.protect("it has the highest revision here of etcd cluster " + id)
	}
}

// Undecide takes the decision back, so that Apply can decide anew beside other copies.
func (c *Candidate) Undecide() { c.Why, c.Stays, c.protected = "", false, false }

// Contradict keeps a copy whose backend says something else of it than the catalog. It takes no place among the others.
func (c *Candidate) Contradict(why string) { c.Stays, c.Why = true, why }

// protect keeps a copy from the limit of bytes, too, which may remove copies that a rule keeps.
func (c *Candidate) protect(why string) {
	c.keep(why)
	c.protected = true
}

// keep notes why a copy stays; the first reason stands.
func (c *Candidate) keep(why string) {
	if !c.Stays {
		c.Stays, c.Why = true, why
	}
}

// applyKeep applies the Keep rules to the copies that they apply to, newest first.
func (r *Rules) applyKeep(ruled []*Candidate) {
	for i, c := range ruled[:min(r.KeepLast, len(ruled))] {
		c.keep(fmt.Sprintf("keep_last: %d of %d", i+1, r.KeepLast))
	}
	newest := ruled[0].Created
	for i, c := range ruled {
		age := newest.Sub(c.Created)
		if r.KeepWithin > 0 && age <= r.KeepWithin {
			c.keep(fmt.Sprintf("keep_within: %v", r.KeepWithin))
		}
		if r.RecoveryWindow > 0 && (age <= r.RecoveryWindow || newest.Sub(ruled[i-1].Created) <= r.RecoveryWindow) {
			c.keep(fmt.Sprintf("recovery_window: %v", r.RecoveryWindow))
		}
	}
	for _, p := range r.periods() {
		p.applyKeep(ruled)
	}
}

// period is one rule of the kind "the newest of each day".
type period struct {
	rule string
	n    int
	of   func(time.Time) string // the same for all times in a period
}

// periods returns the rules that keep the newest copy of each hour, day and so on, in the operator's time zone: a day
// ends when the operator's does.
func (r *Rules) periods() []period {
	zone := r.TimeZone
	if zone == nil {
		zone = time.UTC
	}
	format := func(layout string) func(time.Time) string {
		return func(t time.Time) string { return t.In(zone).Format(layout) }
	}
	return []period{
		// The offset distinguishes the two hours with one name at the end of summer time.
		{"keep_hourly", r.KeepHourly, format("2006-01-02 15h -0700")},
		{"keep_daily", r.KeepDaily, format("2006-01-02")},
		{"keep_weekly", r.KeepWeekly, func(t time.Time) string {
			year, week := t.In(zone).ISOWeek()
			return fmt.Sprintf("%d-W%02d", year, week)
		}},
		{"keep_monthly", r.KeepMonthly, format("2006-01")},
		{"keep_yearly", r.KeepYearly, format("2006")},
	}
}

// applyKeep keeps the newest copy of each of the newest periods that have one.
func (p period) applyKeep(ruled []*Candidate) {
	last := ""
	for _, c := range ruled {
		of := p.of(c.Created)
		if of == last {
			continue
		}
		if p.n == 0 {
			return
		}
		p.n--
		last = of
		c.keep(p.rule + ": " + of)
	}
}

// enforceSize removes the oldest copies until the others fit into MaxTotalBytes.
func (r *Rules) enforceSize(copies []*Candidate) {
	if r.MaxTotalBytes <= 0 {
		return
	}
	var total int64
	for _, c := range copies {
		if c.Stays {
			total += c.counted()
		}
	}
	for _, c := range slices.Backward(copies) {
		if total <= r.MaxTotalBytes {
			return
		}
		if c.Stays && !c.protected {
			c.Stays = false
			c.Why = fmt.Sprintf("max_total_bytes: %d are kept and %d are allowed", total, r.MaxTotalBytes)
			total -= c.counted()
		}
	}
}

// counted returns the size of a copy for a sum. A store or the catalog may say any size, and the sum must not overflow.
func (c *Candidate) counted() int64 {
	const most = 1 << 46 // bytes, more than any etcd has
	return min(max(c.Size, 0), most)
}
