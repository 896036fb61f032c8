package status_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

// One object that cannot be read keeps nothing else there from being reconciled, and the words do not say so.
func TestABackendOfWhichSomeObjectsCannotBeReconciledIsNotCalledUnchecked(t *testing.T) {
	good := saved("a", time.Minute, proven)
	for whole, want := range map[bool]string{
		true:  "The last reconcile failed on s3, so that nothing there is checked, repaired or pruned: access denied",
		false: "The last reconcile failed on s3 for some objects; all others there are checked, repaired and pruned: access denied",
	} {
		got := status.Judge(status.Known{
			Name: "prod", Node: "node-1", Places: []status.Place{{Name: "local", Free: -1}, {Name: "s3", Free: -1}},
			Records: []*snapshot.Record{good}, All: true, Now: now,
			Failed: map[string]snapshot.ReconcileFailure{"s3": {Error: "access denied", Whole: whole}},
		}).Findings
		if len(got) != 1 || got[0].Text != want {
			t.Errorf("%+v, want %q", got, want)
		}
	}
}

// Between two saves, a backend that has gone is seen by reconciles alone, and all replicas tell it, whoever leads.
func TestABackendThatCannotBeReconciledNeedsAttention(t *testing.T) {
	judged := func(note snapshot.ReconcileNote, records ...*snapshot.Record) []status.Finding {
		k := status.Known{
			Name: "prod", Node: "node-2", Places: []status.Place{{Name: "local", Free: -1}, {Name: "s3", Free: -1}}, Now: now,
		}
		k.Err = k.Examine(t.Context(), func(context.Context, snapshot.Query) (snapshot.Page, error) {
			return snapshot.Page{Records: records}, nil
		}, told{note: note})
		return status.Judge(k).Findings
	}
	found := func(all []status.Finding) bool {
		return slices.ContainsFunc(all, func(f status.Finding) bool {
			return f.Verdict == status.Attention && slices.Equal(f.Do, []string{"reconcile", "--backend", "s3"}) &&
				strings.Contains(f.Text, "The last reconcile failed on s3") && strings.Contains(f.Text, "connection refused")
		})
	}
	good := saved("a", time.Minute, proven)
	if got := judged(snapshot.ReconcileNote{}, good); len(got) != 0 {
		t.Errorf("before any reconcile: %+v", got)
	}
	failed := snapshot.ReconcileNote{Failed: map[string]snapshot.ReconcileFailure{
		"s3": {Error: "connection refused"}, "gone": {Error: "of an earlier configuration"},
	}}
	if got := judged(failed, good); len(got) != 1 || !found(got) {
		t.Errorf("after one that failed on s3: %+v", got)
	}
	if got := judged(failed, saved("b", 0, notOnS3, proven)); found(got) {
		t.Errorf("the last save has failed on s3, and says so: %+v", got)
	}
}
