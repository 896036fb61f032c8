package snapshot

import (
	"math/rand/v2"
	"slices"
	"time"
)

// How long a failed upload waits for its first repair, and at most between two.
const (
	FirstRepair = time.Minute
	MaxRepair   = time.Hour
)

// Repair is what the catalog keeps of the attempts to bring a copy to a backend.
type Repair struct {
	Backend  string
	Attempts int64     // that have failed
	Next     time.Time // not before
	Error    string    // of the last one, for a person
}

// repairOf returns the attempts on a backend so far; nil when there were none.
func (r *Record) repairOf(backend string) *Repair {
	for i := range r.Repairs {
		if r.Repairs[i].Backend == backend {
			return &r.Repairs[i]
		}
	}
	return nil
}

// repairDue returns when the repair of a location is to be tried next. No pause is much longer than [MaxRepair]: one that is was
// reckoned by a wrong clock, and is over.
func (r *Record) repairDue(l *Location, now time.Time) time.Time {
	due := l.UpdateTime.Add(FirstRepair)
	if p := r.repairOf(l.Backend); p != nil {
		due = p.Next
	}
	if due.Sub(now) > MaxRepair+ClockTolerance {
		return now
	}
	return due
}

// addAttempt notes an attempt that failed at now.
func (r *Record) addAttempt(backend string, now time.Time, why error) {
	p := r.repairOf(backend)
	if p == nil {
		r.Repairs = append(r.Repairs, Repair{Backend: backend})
		p = &r.Repairs[len(r.Repairs)-1]
	}
	p.Attempts++
	p.Next, p.Error = now.Add(backoff(p.Attempts)).UTC(), why.Error()
}

// backoff returns the pause after so many failed attempts: a minute, doubled each time up to an hour, give or take a tenth
// so that what failed together is not tried together for ever.
func backoff(attempts int64) time.Duration {
	d := min(FirstRepair<<min(attempts-1, 10), MaxRepair)
	return d + time.Duration((rand.Float64()-0.5)*0.2*float64(d)) //nolint:gosec // it spreads load and keeps no secret
}

// forgetRepairs drops the attempts on backends where there is nothing to repair any more.
func (r *Record) forgetRepairs() {
	r.Repairs = slices.DeleteFunc(r.Repairs, func(p Repair) bool {
		l := r.Location(p.Backend)
		return l == nil || l.State != StateFailed
	})
}

// setDamaged notes that the bytes of a location were read and are not the snapshot's, or, with false, that they are again.
func (r *Record) setDamaged(backend string, damaged bool) {
	r.Damaged = slices.DeleteFunc(r.Damaged, func(b string) bool { return b == backend })
	if damaged {
		r.Damaged = append(r.Damaged, backend)
	}
}
