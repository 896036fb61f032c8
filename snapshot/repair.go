package snapshot

import "time"

// Pauses between a failed upload and its repairs: the first one, and the longest.
const (
	FirstRepair = time.Minute
	MaxRepair   = time.Hour
)

// Repair is the catalog's account of the attempts to copy a snapshot to a backend.
type Repair struct {
	Backend  string
	Attempts int64     // that have failed
	Next     time.Time // not before
	Error    string    // of the last one, for a person
}

// RepairDue returns when the repair of the location on a backend is to be tried next. No pause is much longer than
// [MaxRepair]: a longer one was computed by a wrong clock, and is over.
func (r *Record) RepairDue(backend string, now time.Time) time.Time {
	l := r.location(backend)
	if l == nil {
		return now
	}
	due := l.UpdateTime.Add(FirstRepair)
	for _, p := range r.book.Repairs {
		if p.Backend == backend {
			due = p.Next
		}
	}
	if due.Sub(now) > MaxRepair+ClockTolerance {
		return now
	}
	return due
}

// RepairFailed notes an attempt that failed; pause returns how long to wait after this many. It reports whether there
// is still a location to repair.
func (r *Record) RepairFailed(backend string, why error, now time.Time, pause func(attempts int) time.Duration) bool {
	l := r.location(backend)
	if l == nil || l.State != StateFailed {
		return false
	}
	p := r.repair(backend)
	p.Attempts++
	p.Next, p.Error = now.Add(pause(int(p.Attempts))).UTC(), why.Error()
	r.derive()
	return true
}

// repair returns the attempts on a backend so far, begun when there are none.
func (r *Record) repair(backend string) *Repair {
	for i := range r.book.Repairs {
		if r.book.Repairs[i].Backend == backend {
			return &r.book.Repairs[i]
		}
	}
	r.book.Repairs = append(r.book.Repairs, Repair{Backend: backend})
	return &r.book.Repairs[len(r.book.Repairs)-1]
}
