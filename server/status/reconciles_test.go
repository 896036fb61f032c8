package status_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Between two saves, a backend that has gone is seen by the reconciles of the leader alone.
func TestABackendThatCannotBeReconciledNeedsAttention(t *testing.T) {
	var seen status.Reconciles
	reconciled := func(backends map[string]error) {
		seen.Observe(t.Context(), snapshot.Event{Type: snapshot.EventReconciled, Cluster: "prod", Backends: backends})
	}
	judged := func(leader *string, records ...*snapshot.Record) []status.Finding {
		return status.Judge(status.Known{
			Name: "prod", Node: "node-1", Places: []status.Place{{Name: "local", Free: -1}, {Name: "s3", Free: -1}}, Records: records,
			All: true, Now: now, Leader: leader, Unreconciled: seen.Failed("prod"),
		}).Findings
	}
	found := func(all []status.Finding) bool {
		return slices.ContainsFunc(all, func(f status.Finding) bool {
			return f.Verdict == status.Attention && slices.Equal(f.Do, []string{"reconcile", "--backend", "s3"}) &&
				strings.Contains(f.Text, "The last reconcile failed on s3") && strings.Contains(f.Text, "connection refused")
		})
	}
	me, other := "node-1", "node-2"
	good := saved("a", time.Minute, proven)
	if got := judged(&me, good); len(got) != 0 {
		t.Errorf("before any reconcile: %+v", got)
	}
	reconciled(map[string]error{"local": nil, "s3": errors.New("connection refused")})
	if got := judged(&me, good); len(got) != 1 || !found(got) {
		t.Errorf("after one that failed on s3: %+v", got)
	}
	if got := judged(&me, saved("b", 0, notOnS3, proven)); found(got) {
		t.Errorf("the last save has failed on s3, and says so: %+v", got)
	}
	for name, leader := range map[string]*string{"another replica leads": &other, "it is not known which one leads": nil} {
		if got := judged(leader, good); found(got) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	reconciled(map[string]error{"local": nil})
	if got := judged(&me, good); !found(got) {
		t.Errorf("after a reconcile of local alone: %+v", got)
	}
	reconciled(map[string]error{"s3": nil})
	if got := judged(&me, good); len(got) != 0 {
		t.Errorf("after one that succeeded: %+v", got)
	}
}

// A schedule that is overdue says what keeps it back.
func TestAnOverdueScheduleSaysWhatItWaitsFor(t *testing.T) {
	hourly := status.Schedule{Name: "hourly", Cron: "0 * * * *", Next: func(after time.Time) time.Time {
		return after.Truncate(time.Hour).Add(time.Hour)
	}}
	nobody, leader := "", "node-1"
	stuck := saved("by-hand", 40*time.Minute, saving, func(s *stored) { s.Node = "node-2" })
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
