package status

import (
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/snapshot/retention"
)

// Limits of what is looked at for gaps.
const (
	missedBack = 31 * 24 * time.Hour
	missedOf   = 1000 // runs of a schedule, the newest
	maxMissed  = 50   // of a schedule, the newest
)

// missedRun is a run of a schedule without a snapshot, and when its gap ended.
type missedRun struct{ due, end time.Time }

// missed returns the missed runs of each schedule, among the snapshots that were counted.
func (c *Counter) missed(names []string) map[string][]MissedRuns {
	all := map[string][]MissedRuns{}
	for i := range c.known.Schedules {
		s := &c.known.Schedules[i]
		if missed := c.kept(s, s.missed(c.taken[s.Name], c.known.Now), names); len(missed) > 0 {
			all[s.Name] = together(missed)
		}
	}
	return all
}

// missed returns the runs between the snapshots of a schedule, and behind the last one, that took none. A run is over
// when the next one is due.
func (s *Schedule) missed(taken []time.Time, now time.Time) (all []missedRun) {
	slices.SortFunc(taken, time.Time.Compare)
	first := s.Next(now)
	interval := s.Next(first).Sub(first)
	slack := s.slack(now)
	since := now.Add(-min(missedBack, missedOf*max(interval, time.Second)))
	for i, at := range taken {
		until, end := now, time.Time{}
		if i+1 < len(taken) {
			until, end = taken[i+1], taken[i+1]
		}
		if until.Before(since) {
			continue
		}
		if at.Before(since) {
			at = since
		}
		for due := s.Next(at); !due.IsZero(); {
			next := s.Next(due)
			if next.IsZero() || next.Add(-slack).After(until) {
				break
			}
			all = append(all, missedRun{due, end})
			due = next
		}
	}
	return all
}

// slack is how much earlier than a whole interval after the snapshot before a run may be. Those of "@every" are due
// that long after one another, and each snapshot is taken a moment after its run was due.
func (s *Schedule) slack(now time.Time) time.Duration {
	interval := s.Next(now).Sub(now)
	if later := now.Add(time.Second); s.Next(later).Sub(later) != interval {
		return 0
	}
	return max(interval/10, min(s.Jitter, interval/2))
}

// kept returns those of a schedule's missed runs that are behind the last one that has stored a snapshot, or of which
// retention would have kept a snapshot somewhere. Of the others it is not known whether there was one.
func (c *Counter) kept(s *Schedule, missed []missedRun, names []string) []missedRun {
	if len(missed) == 0 {
		return nil
	}
	stays := make([]bool, len(missed))
	if ran := c.known.Ran[s.Name]; !ran.IsZero() {
		for j, m := range missed {
			stays[j] = m.due.After(ran)
		}
	}
	copies := c.stock.Copies(names)
	for i, p := range c.known.Places {
		if !s.goesTo(p.Name) {
			continue
		}
		all := make([]*retention.Candidate, 0, len(copies[i])+len(missed))
		for _, m := range missed {
			all = append(all, &retention.Candidate{Created: m.due, State: snapshot.StateReady})
		}
		added := slices.Clone(all)
		for _, had := range copies[i] {
			one := *had
			all = append(all, &one)
		}
		p.Retention.Apply(all, c.known.Now)
		for j, m := range added {
			stays[j] = stays[j] || m.Stays || !p.Retention.Removes()
		}
	}
	var kept []missedRun
	for j, m := range missed {
		if stays[j] {
			kept = append(kept, m)
		}
	}
	return kept
}

// together puts runs together that have the same end.
func together(missed []missedRun) (gaps []MissedRuns) {
	for _, m := range missed {
		if n := len(gaps); n > 0 && gaps[n-1].End.Equal(m.end) {
			gaps[n-1].Runs++
			continue
		}
		gaps = append(gaps, MissedRuns{Start: m.due, End: m.end, Runs: 1})
	}
	return gaps[max(0, len(gaps)-maxMissed):]
}

// missed returns the missed runs of a schedule, with the one that has just begun: its run is overdue, and the next is
// not due yet.
func (v *verdict) missed(st *ScheduleState) []MissedRuns {
	gaps := slices.Clone(v.tally.Missed[st.Name])
	if st.Overdue && (len(gaps) == 0 || !gaps[len(gaps)-1].End.IsZero()) {
		gaps = append(gaps, MissedRuns{Start: st.Next, Runs: 1})
	}
	return gaps
}
