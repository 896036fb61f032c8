package status_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

// A schedule that is overdue says why.
func TestAnOverdueScheduleSaysWhatItWaitsFor(t *testing.T) {
	hourly := status.Schedule{Name: "hourly", Cron: "0 * * * *", Next: func(after time.Time) time.Time {
		return after.Truncate(time.Hour).Add(time.Hour)
	}}
	nobody, leader := "", "node-1"
	stuck := saved("by-hand", 40*time.Minute, saving, func(s *stored) { s.Node = "node-2" })
	began := saved("by-hand", -29*time.Minute, saving, func(s *stored) { s.Node = "node-2" })
	old := saved("a", 90*time.Minute, proven, scheduled)
	for name, tc := range map[string]struct {
		records []*snapshot.Record
		leader  *string
		says    string
		do      []string
	}{
		"another save": {[]*snapshot.Record{stuck, old}, &leader,
			"It waits for by-hand, which node-2 has been saving for 70m. If that save does not move, restart snapshotd on that node",
			[]string{"get", "by-hand"}},
		"another save began just now": {[]*snapshot.Record{began, saved("b", time.Minute, nowhere), old}, &leader, "The last save failed",
			[]string{"save"}},
		"a save whose replica died, without a leader": {[]*snapshot.Record{stuck, old}, &nobody, "No replica leads; save now, by hand.",
			[]string{"save"}},
		"its saves fail": {[]*snapshot.Record{saved("b", time.Minute, nowhere), old}, &leader, "The last save failed", []string{"save"}},
		"no leader":      {[]*snapshot.Record{old}, &nobody, "No replica leads; save now, by hand.", []string{"save"}},
		"the leader":     {[]*snapshot.Record{old}, &leader, "The log of node-1, which leads, has each attempt at it.", []string{"save"}},
		"not known":      {[]*snapshot.Record{old}, nil, "Does a replica lead, and what does its log say?", []string{"save"}},
	} {
		c := status.Judge(status.Known{
			Name: "prod", Places: []status.Place{{Name: "local", Free: -1}, {Name: "s3", Free: -1}}, Records: tc.records, All: true,
			Now: now.Add(30 * time.Minute), Leader: tc.leader, Schedules: []status.Schedule{hourly},
			Ran: map[string]time.Time{"hourly": now.Add(-time.Hour)},
		})
		if !slices.ContainsFunc(c.Findings, func(f status.Finding) bool {
			return strings.Contains(f.Text, "Schedule hourly") && strings.Contains(f.Text, tc.says) && slices.Equal(f.Do, tc.do)
		}) {
			t.Errorf("%s: %+v", name, c.Findings)
		}
	}
}

// A run that was given up for the next one is overdue, however often the schedule runs; the metric of its failure says
// so at the same time.
func TestARunThatWasGivenUpIsOverdue(t *testing.T) {
	often := status.Schedule{Name: "often", Cron: "* * * * *", Next: func(after time.Time) time.Time {
		return after.Truncate(time.Minute).Add(time.Minute)
	}}
	slow := func(s *stored) { scheduled(s); s.Schedule, s.Duration = "often", 90*time.Second }
	for name, tc := range map[string]struct {
		since   time.Duration // since the last run that has stored a snapshot
		change  func(*stored)
		overdue bool
	}{
		"one run is late":                    {119 * time.Second, scheduled, false},
		"the next one is due":                {179 * time.Second, scheduled, false},
		"it is late, too":                    {181 * time.Second, scheduled, true},
		"saves take longer than the pauses":  {181 * time.Second, slow, false},
		"they take longer, and none is made": {301 * time.Second, slow, true},
	} {
		c := status.Judge(status.Known{
			Name: "prod", Places: []status.Place{{Name: "local", Free: -1}, {Name: "s3", Free: -1}}, All: true, Now: now,
			Records: []*snapshot.Record{saved("a", tc.since, proven, tc.change)}, Schedules: []status.Schedule{often},
			Ran: map[string]time.Time{"often": now.Add(-tc.since)},
		})
		if c.Schedules[0].Overdue != tc.overdue {
			t.Errorf("%s: overdue is %v, %+v", name, c.Schedules[0].Overdue, c.Findings)
		}
	}
}
