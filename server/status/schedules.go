package status

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

const (
	// leastGrace is how long after its time a run may end at least: the leader may have changed, or another save runs.
	leastGrace = 10 * time.Minute
	// givenUp is how long after the time of the next run nothing may have been stored: the leader has given the run up
	// then.
	givenUp = time.Minute
)

// scheduleLabel is the label that names the schedule of a snapshot. The snapshots of older versions have nothing else.
const scheduleLabel = "schedule"

// schedules judges each schedule by its own times and its own runs. When all of them have missed two runs, nothing
// saves the cluster any more.
func (v *verdict) schedules() {
	v.c.Schedules = []ScheduleState{}
	stopped := len(v.known.Schedules) > 0
	for _, s := range v.known.Schedules {
		st, first := v.schedule(s)
		st.Missed = v.missed(&st)
		v.c.Schedules = append(v.c.Schedules, st)
		second := s.Next(first)
		stopped = stopped && st.Overdue && v.now.Sub(second) > v.grace(s, leastGrace, st.Last)
	}
	how, and := Attention, ""
	if stopped {
		how, and = NotSafe, " No schedule has stored anything since two of its runs, so each change since then can be lost."
	}
	why, do := v.keptBack()
	for _, st := range v.c.Schedules {
		if st.Overdue {
			v.find(how, do, "Schedule %s (%s) was due %s ago, at %s, and has stored nothing since then.%s %s", st.Name, st.Cron,
				round(v.now.Sub(st.Next)), minute(st.Next), and, why)
		}
	}
}

// keptBack returns what keeps the schedules from saving, as far as it is known, and the command that helps.
func (v *verdict) keptBack() (why string, do []string) {
	switch s, leader := v.c.Saving, v.known.Leader; {
	case leader != nil && *leader == "":
		return "No replica leads; save now, by hand.", []string{"save"}
	case s != nil && v.now.Sub(s.CreateTime) > leastGrace: // one that is younger keeps nothing back for so long
		return fmt.Sprintf("It waits for %s, which %s has been saving for %s. If that save does not move, restart snapshotd "+
				"on that node: the save is given up with it.", s.Name, s.Node, round(v.now.Sub(s.CreateTime))),
			[]string{"get", s.Name}
	case v.last != nil && v.last.State() == snapshot.StateFailed:
		return "The last save failed; end its cause, and save now.", []string{"save"}
	case leader != nil:
		return fmt.Sprintf("The log of %s, which leads, has each attempt at it.", *leader), []string{"save"}
	}
	return "Does a replica lead, and what does its log say?", []string{"save"}
}

// schedule returns how a schedule keeps to its times. Next is the first run that has not ended.
func (v *verdict) schedule(s Schedule) (st ScheduleState, next time.Time) {
	st = ScheduleState{Name: s.Name, Cron: s.Cron, TimeZone: s.TimeZone}
	if rec := v.lastOf(s.Name); rec != nil {
		st.Last = rec
	}
	if st.Ran = v.known.Ran[s.Name]; st.Ran.IsZero() { // the first leader has not begun it, or that cannot be read
		st.Next = s.Next(v.now)
		return st, st.Next
	}
	if st.Ran.After(v.now) { // noted by a clock that was wrong
		st.Next = s.Next(v.now)
		return st, st.Next
	}
	st.Next = s.Next(st.Ran)
	late := v.now.Sub(st.Next) > v.grace(s, leastGrace, st.Last) ||
		v.now.Sub(s.Next(st.Next)) > v.grace(s, givenUp, st.Last)
	st.Overdue = late && !v.savingFor(s.Name)
	return st, st.Next
}

// grace is how long after its time a run may end: the usual time of its saves, twice, and least at least.
func (v *verdict) grace(s Schedule, least time.Duration, last *snapshot.Record) time.Duration {
	grace := least
	if last != nil {
		grace = max(grace, 2*last.Duration)
	}
	return s.Jitter + grace
}

// lastOf returns the newest snapshot of a schedule whose save has ended, or nil.
func (v *verdict) lastOf(schedule string) *snapshot.Record {
	i := slices.IndexFunc(v.records, func(rec *snapshot.Record) bool { return ended(rec) && takenBy(rec) == schedule })
	if i < 0 {
		return nil
	}
	return v.records[i]
}

// savingFor reports whether a save of a schedule is under way. A replica that has died does not count for ever.
func (v *verdict) savingFor(schedule string) bool {
	return slices.ContainsFunc(v.records, func(rec *snapshot.Record) bool {
		return rec.State() == snapshot.StateSaving && takenBy(rec) == schedule && v.now.Sub(rec.CreateTime) < 6*leastGrace
	})
}

// takenBy returns the schedule that took a snapshot; empty when none did.
func takenBy(rec *snapshot.Record) string {
	if rec.Trigger != snapshot.TriggerScheduled {
		return ""
	}
	return cmp.Or(rec.Schedule, rec.Labels[scheduleLabel])
}

// What is asked of a cluster without a schedule, which a person or another program saves: it is known only how often
// that was so far.
const (
	usualSaves = 20                  // the newest snapshots, between which the pauses count
	fewSaves   = 4                   // of fewer it is not known how often they come
	fewHold    = 35 * 24 * time.Hour // how old the newest of a few may be: some keep one, and take it each month
	manyHold   = 2 * 24 * time.Hour  // how old it may be at least, however often they came
)

// unscheduled finds that the newest snapshot of a cluster without a schedule is old, in proportion to the longest pause
// between those before it. With a journal, what came since then can be restored.
func (v *verdict) unscheduled() {
	if len(v.known.Schedules) > 0 || v.known.Journal != nil {
		return
	}
	newest, longest, n := v.pauses()
	if n == 0 {
		return
	}
	age, few, holds := v.now.Sub(newest), n < fewSaves, manyHold
	before := fmt.Sprintf("Those before it came at most %s apart.", round(longest))
	if few {
		holds, before = fewHold, fmt.Sprintf("Of fewer than %d snapshots it is not known how often they come.", fewSaves)
	}
	switch {
	case age > max(holds, 2*longest):
		v.find(Attention, []string{"save"}, "There is no schedule, and the newest snapshot is %s old: each change since "+
			"then can be lost. %s Set a schedule, or mend what has saved this cluster so far.", round(age), before)
	case few && age > manyHold:
		v.find(Safe, []string{"save"}, "There is no schedule, and the newest snapshot is %s old. %s", round(age), before)
	}
}

// pauses returns when the newest of the snapshots that count was taken, the longest pause between them, and how many
// they are.
func (v *verdict) pauses() (newest time.Time, longest time.Duration, n int) {
	var last time.Time
	for _, rec := range v.records {
		switch {
		case wholeCopy(rec) == nil || rec.CreateTime.After(v.now) || n == usualSaves:
			continue
		case n == 0:
			newest = rec.CreateTime
		default:
			longest = max(longest, last.Sub(rec.CreateTime))
		}
		last = rec.CreateTime
		n++
	}
	return newest, longest, n
}

// leader finds that no replica leads: then nothing runs by itself.
func (v *verdict) leader() {
	if v.known.Leader == nil || *v.known.Leader != "" {
		return
	}
	journal := ""
	if v.known.Journal != nil {
		journal = ", and the journal does not go on"
	}
	v.find(Attention, nil, "No replica leads, so that no schedule, scrub, reconcile or repair runs%s. One is elected "+
		"within seconds when the etcd of the catalog answers; the logs of the replicas say why none is.", journal)
}
