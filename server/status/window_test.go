package status_test

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

// A backend that could not be listed may have what the others lack.
func TestNothingIsCalledLostThatWasNotRead(t *testing.T) {
	gap := status.Gap{After: 20, Before: 30, Timeline: "two", Reason: "no backend that answers holds the revisions 21 to 29"}
	for _, partial := range []bool{false, true} {
		w := status.Window{Gaps: []status.Gap{gap}, Unread: []string{"s3 is away"}, Partial: partial}
		w.PutBases()
		if partial != (len(w.Gaps) == 0) {
			t.Errorf("partial is %v, and lost are %v", partial, w.Gaps)
		}
		told := "It is not known whether the revisions 21 to 29 are lost: a backend that could not be read may have them " +
			"(no backend that answers holds the revisions 21 to 29)."
		if want := []string{"s3 is away", told}; partial && !reflect.DeepEqual(w.Unread, want) {
			t.Errorf("not read is %q, want %q", w.Unread, want)
		}
	}
}

// Revisions that a snapshot behind a gap holds are not lost.
func TestAGapEndsWhereASnapshotBegins(t *testing.T) {
	begin := time.Now().Add(-time.Hour)
	for name, tc := range map[string]struct {
		oldest, revision int64
		cluster          string
		begun            time.Duration // after the second timeline
		want             []int64       // after and before the gap
	}{
		"a part of it":        {oldest: 26, revision: 31, want: []int64{20, 26}},
		"all of it":           {oldest: 21, revision: 31},
		"more":                {oldest: 3, revision: 31, want: nil},
		"nothing of it":       {oldest: 30, revision: 31, want: []int64{20, 30}},
		"not known":           {oldest: 0, revision: 31, want: []int64{20, 30}},
		"of another etcd":     {oldest: 26, revision: 31, cluster: "other", want: []int64{20, 30}},
		"of the time before":  {oldest: 26, revision: 31, begun: -time.Second, want: []int64{20, 30}},
		"the journal's start": {oldest: 28, revision: 29, want: []int64{20, 28}},
	} {
		w := status.Window{
			Timelines: []status.Timeline{
				{Name: "one", EtcdCluster: "id", Start: begin, Ranges: []status.Range{{First: 5, Last: 20}}},
				{Name: "two", EtcdCluster: "id", Start: begin.Add(time.Minute), Ranges: []status.Range{{First: 30, Last: 40}}},
			},
			Gaps: []status.Gap{{After: 20, Before: 30, Timeline: "two"}},
		}
		rec := saved("base", 0)
		rec.Revision, rec.OldestRevision, rec.CreateTime = tc.revision, tc.oldest, begin.Add(time.Minute+tc.begun)
		if rec.EtcdClusterID = "id"; tc.cluster != "" {
			rec.EtcdClusterID = tc.cluster
		}
		w.Add(snapshot.Page{Records: []*snapshot.Record{rec}})
		w.PutBases()
		var got []int64
		for _, g := range w.Gaps {
			got = append(got, g.After, g.Before)
		}
		if !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: the gaps are %v, want %v", name, got, tc.want)
		}
	}
}

// etcd may compact the revision of the pages while they are read.
func TestTheSnapshotsOfAWindowAreReadAnewWhenTheirPagesEnd(t *testing.T) {
	expired := snapshot.ReasonPageTokenExpired.New("list")
	for _, ends := range []int{1, 3} {
		pages := 0
		list := func(_ context.Context, q snapshot.Query) (snapshot.Page, error) {
			pages++
			if q.PageToken == "" {
				return snapshot.Page{NextPageToken: "2", Unreadable: []error{errors.New("a record")}}, nil
			}
			if pages <= 2*ends {
				return snapshot.Page{}, expired
			}
			return snapshot.Page{}, nil
		}
		w := status.Window{Timelines: []status.Timeline{{Name: "one"}}}
		switch err := w.AddAll(t.Context(), list); {
		case ends == 1 && (err != nil || len(w.Unread) != 1):
			t.Errorf("%v; not read is %q", err, w.Unread)
		case ends == 3 && snapshot.ReasonOf(err) != snapshot.ReasonPageTokenExpired:
			t.Errorf("it ends with %v", err)
		}
	}
}
