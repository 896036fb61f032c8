package snapshot

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Retention says which snapshots are kept on a backend. A snapshot stays when any of the Keep rules or the window keeps it;
// one that none keeps goes. The zero value keeps everything.
//
// Time is counted back from the newest snapshot and not from the clock: a schedule that has stopped makes no good snapshot
// old. A clock that was wrong when a snapshot was taken makes none either: one that is ahead of the clock by more than
// [ClockTolerance] stays and does not count, and the one with the highest revision of each etcd cluster stays whatever its time.
type Retention struct {
	KeepLast    int // the newest
	KeepHourly  int // the newest of each of so many hours that have one, and so on
	KeepDaily   int
	KeepWeekly  int // ISO weeks, from Monday
	KeepMonthly int
	KeepYearly  int

	KeepWithin     time.Duration // all that are younger
	RecoveryWindow time.Duration // all that are younger, and the one before them: any moment of the window can be gone back to

	MaxTotalBytes int64 // of all objects on the backend together: the oldest go until they fit, whatever the Keep rules say
	MinKeep       int   // the newest of all kinds, whatever the other rules say

	OnDemand bool // the rules are also for snapshots that somebody asked for
	Adopted  bool // and for those that other programs took

	TimeZone *time.Location // of hours, days and so on; UTC when nil
}

// ClockTolerance is how far the clocks of replicas may be apart without anything being made of it.
const ClockTolerance = time.Hour

// rules reports whether anything makes a snapshot go.
func (r *Retention) rules() bool { return r.keeps() || r.MaxTotalBytes > 0 }

// keeps reports whether there is a rule that says what stays; without one all does, but for MaxTotalBytes.
func (r *Retention) keeps() bool {
	return r.KeepLast > 0 || r.KeepHourly > 0 || r.KeepDaily > 0 || r.KeepWeekly > 0 || r.KeepMonthly > 0 || r.KeepYearly > 0 ||
		r.KeepWithin > 0 || r.RecoveryWindow > 0
}

// copyOf is what retention knows of a READY copy on one backend.
type copyOf struct {
	name     string
	created  time.Time
	size     int64
	etcd     string // the id of the etcd cluster; empty when it is not known
	revision int64
	proven   bool   // by a drill
	exempt   string // why the rules are not for it; empty when they are

	why   string // why it stays, or goes
	stays bool
	held  bool // it stays whatever MaxTotalBytes says
}

// apply decides about all copies on one backend, and returns the newest of them that is not ahead of the clock; nil when there
// is none. Their order becomes newest first.
func (r *Retention) apply(copies []*copyOf, now time.Time) (newest *copyOf) {
	slices.SortFunc(copies, func(a, b *copyOf) int {
		return cmp.Or(b.created.Compare(a.created), cmp.Compare(b.name, a.name))
	})
	ahead := 0
	for _, c := range copies {
		if c.created.Sub(now) <= ClockTolerance {
			break
		}
		c.hold("its time is in the future: a clock is wrong")
		ahead++
	}
	timely := copies[ahead:]
	r.hold(timely)
	holdRevisions(copies)
	ruled := slices.DeleteFunc(slices.Clone(timely), func(c *copyOf) bool { return c.exempt != "" })
	switch {
	case len(ruled) == 0:
	case r.keeps():
		r.keep(ruled)
	default:
		for _, c := range ruled {
			c.keep("no keep rule is set")
		}
	}
	for _, c := range copies {
		if !c.stays {
			c.why = "no rule keeps it"
		}
	}
	r.fit(copies)
	if len(timely) > 0 {
		newest = timely[0]
	}
	return newest
}

// hold keeps what nothing may remove.
func (r *Retention) hold(copies []*copyOf) {
	newestProven := slices.IndexFunc(copies, func(c *copyOf) bool { return c.proven })
	for i, c := range copies {
		switch {
		case i == 0:
			c.hold("it is the newest on this backend")
		case i == newestProven:
			c.hold("it is the newest here that a drill has proven")
		case c.exempt != "":
			c.hold(c.exempt)
		case i < r.MinKeep:
			c.hold(fmt.Sprintf("min_keep: %d of %d", i+1, r.MinKeep))
		}
	}
}

// holdRevisions keeps the copy with the highest revision of each etcd cluster. That is the newest one, unless a clock was wrong
// when it was taken, another etcd is saved to the same place, or etcd was restored: then it is the last of its kind.
func holdRevisions(copies []*copyOf) {
	highest := map[string]*copyOf{}
	for _, c := range copies {
		if h := highest[c.etcd]; c.etcd != "" && (h == nil || c.revision > h.revision) {
			highest[c.etcd] = c
		}
	}
	for id, c := range highest {
		c.hold("it has the highest revision here of etcd cluster " + id)
	}
}

func (c *copyOf) hold(why string) {
	c.keep(why)
	c.held = true
}

// keep notes why a copy stays; the first reason stands.
func (c *copyOf) keep(why string) {
	if !c.stays {
		c.stays, c.why = true, why
	}
}

// keep applies the rules that keep to what they are for, newest first.
func (r *Retention) keep(ruled []*copyOf) {
	for i, c := range ruled[:min(r.KeepLast, len(ruled))] {
		c.keep(fmt.Sprintf("keep_last: %d of %d", i+1, r.KeepLast))
	}
	newest := ruled[0].created
	for i, c := range ruled {
		age := newest.Sub(c.created)
		if r.KeepWithin > 0 && age <= r.KeepWithin {
			c.keep(fmt.Sprintf("keep_within: %v", r.KeepWithin))
		}
		if r.RecoveryWindow > 0 && (age <= r.RecoveryWindow || newest.Sub(ruled[i-1].created) <= r.RecoveryWindow) {
			c.keep(fmt.Sprintf("recovery_window: %v", r.RecoveryWindow))
		}
	}
	for _, p := range r.periods() {
		keepPeriods(ruled, p)
	}
}

// period is one rule of the kind "the newest of each day".
type period struct {
	rule string
	n    int
	of   func(time.Time) string // the same for all times in a period
}

func (r *Retention) periods() []period {
	zone := r.TimeZone
	if zone == nil {
		zone = time.UTC
	}
	format := func(layout string) func(time.Time) string {
		return func(t time.Time) string { return t.In(zone).Format(layout) }
	}
	return []period{
		// The offset tells the two hours apart that have one name when summer time ends.
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

// keepPeriods keeps the newest copy of each of the newest periods that have one.
func keepPeriods(ruled []*copyOf, p period) {
	last := ""
	for _, c := range ruled {
		of := p.of(c.created)
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

// fit lets the oldest copies go until the others fit into MaxTotalBytes.
func (r *Retention) fit(copies []*copyOf) {
	if r.MaxTotalBytes <= 0 {
		return
	}
	var total int64
	for _, c := range copies {
		if c.stays {
			total += c.size
		}
	}
	for _, c := range slices.Backward(copies) {
		if total <= r.MaxTotalBytes {
			return
		}
		if c.stays && !c.held {
			c.stays = false
			c.why = fmt.Sprintf("max_total_bytes: %d are kept and %d are allowed", total, r.MaxTotalBytes)
			total -= c.size
		}
	}
}
