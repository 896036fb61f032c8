package snapshot

import (
	"maps"
	"slices"
	"time"
)

// ClockTolerance is how far the clocks of replicas may differ without any consequence.
const ClockTolerance = time.Hour

// Ahead reports whether a time is in the future by more than the clocks of replicas may differ: a wrong clock made it.
func Ahead(t, now time.Time) bool { return t.Sub(now) > ClockTolerance }

// Histories knows from when to when each etcd cluster was saved to one place. An etcd that was restored, and has
// another id since, begins when the other one has ended. Two that overlap were given one name and prefix by two
// services that do not know of each other.
type Histories map[string]timespan

type timespan struct{ from, until time.Time }

// Note takes in a snapshot. One with a time in the future says nothing, because a clock was wrong.
func (h Histories) Note(s *Snapshot, now time.Time) {
	if s.EtcdClusterID == "" || Ahead(s.CreateTime, now) {
		return
	}
	p, known := h[s.EtcdClusterID]
	if !known {
		p = timespan{s.CreateTime, s.CreateTime}
	}
	if s.CreateTime.Before(p.from) {
		p.from = s.CreateTime
	}
	if s.CreateTime.After(p.until) {
		p.until = s.CreateTime
	}
	h[s.EtcdClusterID] = p
}

// Overlap returns the ids of two etcd clusters that were saved in turns; false when there are none.
func (h Histories) Overlap() (a, b string, found bool) {
	ids := slices.Sorted(maps.Keys(h))
	for i, a := range ids {
		for _, b := range ids[i+1:] {
			if h[a].from.Before(h[b].until) && h[b].from.Before(h[a].until) {
				return a, b, true
			}
		}
	}
	return "", "", false
}
