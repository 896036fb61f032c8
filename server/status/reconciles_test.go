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

// One object that cannot be read keeps nothing else there from being reconciled, and the words do not say so.
func TestABackendOfWhichSomeObjectsCannotBeReconciledIsNotCalledUnchecked(t *testing.T) {
	me, good := "node-1", saved("a", time.Minute, proven)
	for whole, want := range map[bool]string{
		true:  "The last reconcile failed on s3, so that nothing there is checked, repaired or pruned: access denied",
		false: "The last reconcile failed on s3 for some objects; all others there are checked, repaired and pruned: access denied",
	} {
		var seen status.Reconciles
		seen.Observe(t.Context(), snapshot.Event{
			Type: snapshot.EventReconciled, Cluster: "prod", Backends: map[string]error{"s3": errors.New("access denied")},
			Unseen: map[string]bool{"s3": whole},
		})
		got := status.Judge(status.Known{
			Name: "prod", Node: "node-1", Places: []status.Place{{Name: "local", Free: -1}, {Name: "s3", Free: -1}},
			Records: []*snapshot.Record{good}, All: true, Now: now, Leader: &me, Unreconciled: seen.Failed("prod"),
		}).Findings
		if len(got) != 1 || got[0].Text != want {
			t.Errorf("%+v, want %q", got, want)
		}
	}
}

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
	reconciled(nil) // it was cancelled
	if got := judged(&me, good); !found(got) {
		t.Errorf("after one that was cancelled: %+v", got)
	}
	reconciled(map[string]error{"s3": nil})
	if got := judged(&me, good); len(got) != 0 {
		t.Errorf("after one that succeeded: %+v", got)
	}
}
