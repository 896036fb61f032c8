package server_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/snapshotd/snapshotd/cluster"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server"
	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

func TestDeleteSaysWhatIsLeft(t *testing.T) {
	left := &snapshot.Record{Snapshot: *inState(snapshot.StateDeleting, snapshot.Snapshot{Name: "x"})}
	locked := snapshot.ReasonObjectLocked.New("it is locked").On("s3")
	r := run(t, server.Config{},
		&fakeCluster{name: "prod", remove: func(_ context.Context, req cluster.DeleteRequest) (*snapshot.Record, error) {
			if req.Etag == "1" {
				return left, locked
			}
			return nil, nil
		}})
	c := r.client(t)
	resp, err := c.Delete(t.Context(), &snapshotdv1.DeleteRequest{Name: "x"})
	if err != nil || resp.GetSnapshot() != nil {
		t.Errorf("%v, %v", resp, err)
	}
	_, err = c.Delete(t.Context(), &snapshotdv1.DeleteRequest{Name: "x", Etag: "1"})
	if d := checkError(t, err, codes.FailedPrecondition, snapshot.ReasonObjectLocked); d.Snapshot.GetName() != "x" {
		t.Errorf("the error does not show what is left: %v", err)
	}
}

func TestPruneSaysWhatGoes(t *testing.T) {
	at := time.Unix(1784116800, 0)
	r := run(t, server.Config{},
		&fakeCluster{name: "prod", prune: func(_ context.Context, req cluster.PruneRequest) ([]cluster.Decision, error) {
			if !req.ValidateOnly || len(req.Backends) != 1 {
				t.Errorf("the request became %+v", req)
			}
			denied := snapshot.ReasonBackendAccessDenied.New("denied")
			return []cluster.Decision{
				{Name: "x", Backend: "s3", CreateTime: at, Size: 5, Why: "no rule keeps it", Err: denied},
			}, nil
		}})
	resp, err := r.client(t).Prune(t.Context(), &snapshotdv1.PruneRequest{Backends: []string{"s3"}, ValidateOnly: true})
	if err != nil || len(resp.GetDecisions()) != 1 {
		t.Fatalf("%v, %v", resp, err)
	}
	d := resp.GetDecisions()[0]
	if d.GetName() != "x" || d.GetStays() || !d.GetCreateTime().AsTime().Equal(at) || d.GetSizeBytes() != 5 ||
		codes.Code(d.GetError().GetCode()) != codes.FailedPrecondition {
		t.Errorf("%v", d)
	}
}

// A caller that looks at the status alone is not told that a prune went well that could remove nothing.
func TestAPruneThatCouldRemoveNothingIsAnError(t *testing.T) {
	denied := snapshot.ReasonBackendAccessDenied.New("delete x").On("s3")
	down := snapshot.ReasonBackendUnavailable.New("no answer")
	locked := cluster.Decision{Name: "l", Backend: "s3", Stays: true, Err: snapshot.ReasonObjectLocked.New("locked")}
	stays := cluster.Decision{Name: "s", Backend: "s3", Stays: true, Why: "it is the newest"}
	for name, tc := range map[string]struct {
		decisions []cluster.Decision
		dry       bool
		with      []string // names in the error's details
	}{
		"none could": {[]cluster.Decision{stays, {Name: "x", Backend: "s3", Err: denied}, locked, {Name: "y", Err: down}},
			false, []string{"x", "y"}},
		"one could": {[]cluster.Decision{{Name: "x", Err: denied}, {Name: "y"}}, false, nil},
		"a preview": {[]cluster.Decision{{Name: "x", Err: denied}}, true, nil},
		"locked":    {[]cluster.Decision{stays, locked}, false, nil},
		"all stay":  {[]cluster.Decision{stays}, false, nil},
		"nothing":   {nil, false, nil},
	} {
		prune := func(context.Context, cluster.PruneRequest) ([]cluster.Decision, error) { return tc.decisions, nil }
		client := run(t, server.Config{}, &fakeCluster{name: "prod", prune: prune}).client(t)
		resp, err := client.Prune(t.Context(), &snapshotdv1.PruneRequest{ValidateOnly: tc.dry})
		if tc.with == nil {
			if err != nil || len(resp.GetDecisions()) != len(tc.decisions) {
				t.Errorf("%s: %v, %v", name, resp, err)
			}
			continue
		}
		d := checkError(t, err, codes.FailedPrecondition, snapshot.ReasonBackendAccessDenied)
		var with []string
		for _, decided := range d.Pruned.GetDecisions() {
			with = append(with, decided.GetName())
		}
		if d.Backend != "s3" || d.Cluster != "prod" || !slices.Equal(with, tc.with) ||
			!strings.Contains(err.Error(), "none of the 2 copies that retention removes could be removed; the first: delete x") {
			t.Errorf("%s: %v, with %v", name, err, d)
		}
	}
}

// early is a cluster whose prune has removed one copy, and could not remove another one, when it is ended.
func early(begun chan<- time.Time) *fakeCluster {
	prune := func(ctx context.Context, _ cluster.PruneRequest) ([]cluster.Decision, error) {
		end, bounded := ctx.Deadline()
		begun <- end
		if !bounded {
			<-ctx.Done()
		}
		return []cluster.Decision{
			{Name: "s", Backend: "s3", Stays: true},
			{Name: "x", Backend: "s3", Err: snapshot.ReasonBackendUnavailable.New("no answer")},
			{Name: "y", Backend: "s3"},
		}, snapshot.ReasonCancelled.New(`prune backend "s3"`).Because(context.DeadlineExceeded)
	}
	return &fakeCluster{name: "prod", prune: prune}
}

// checkPruned checks that an error says what was removed, and what could not be.
func checkPruned(t *testing.T, err error, code codes.Code, reason snapshot.Reason) {
	t.Helper()
	d := checkError(t, err, code, reason)
	if all := d.Pruned.GetDecisions(); len(all) != 2 || all[0].GetName() != "y" || all[0].GetError() != nil ||
		all[1].GetName() != "x" || all[1].GetError().GetMessage() != "no answer" ||
		!strings.Contains(err.Error(), "removed before the prune ended: 1, and they stay removed") {
		t.Errorf("%v, with %v", err, all)
	}
}

// A caller whose time is over gets what was removed, and so a little before the end.
func TestAPruneThatRunsOutOfTimeSaysWhatItHasRemoved(t *testing.T) {
	begun := make(chan time.Time, 2)
	client := run(t, server.Config{}, early(begun)).client(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := client.Prune(ctx, &snapshotdv1.PruneRequest{})
	checkPruned(t, err, codes.DeadlineExceeded, snapshot.ReasonCancelled)
	if end, _ := ctx.Deadline(); !wait(t, begun, "the prune").Before(end) {
		t.Error("the prune has as long as its caller waits")
	}
	_, err = client.Prune(ctx, &snapshotdv1.PruneRequest{ValidateOnly: true})
	if d := checkError(t, err, codes.DeadlineExceeded, snapshot.ReasonCancelled); d.Pruned != nil {
		t.Errorf("a preview has removed %v", d.Pruned)
	}
}

func TestAPruneThatIsEndedByAStopSaysWhatItHasRemoved(t *testing.T) {
	begun, ended := make(chan time.Time, 1), make(chan error, 1)
	r := run(t, server.Config{ShutdownTimeout: time.Millisecond}, early(begun))
	client := r.client(t)
	go func() {
		_, err := client.Prune(context.Background(), &snapshotdv1.PruneRequest{})
		ended <- err
	}()
	wait(t, begun, "the prune")
	r.stop()
	checkPruned(t, wait(t, ended, "the end of the prune"), codes.Unavailable, snapshot.ReasonShuttingDown)
}

// A dry run shows what goes of the journal, too, on the backends that are asked for; a prune leaves that to the leader.
func TestADryRunSaysWhatGoesOfTheJournal(t *testing.T) {
	prune := func(context.Context, cluster.PruneRequest) ([]cluster.Decision, error) { return nil, nil }
	removals := []status.JournalRemoval{
		{Backend: "s3", Timeline: "t", First: 1, Last: 40, Segments: 4, Bytes: 4000, Why: "no snapshot"},
		{Backend: "local", Timeline: "t", First: 1, Last: 20, Segments: 2, Bytes: 2000, Why: "no snapshot"},
	}
	r := run(t, server.Config{},
		&fakeCluster{name: "prod", prune: prune, facts: fakeFacts{removals: removals}},
		&fakeCluster{name: "lost", prune: prune, facts: fakeFacts{err: errors.New("the backend is away")}})
	ask := func(req *snapshotdv1.PruneRequest) []*snapshotdv1.JournalRemoval {
		t.Helper()
		resp, err := r.client(t).Prune(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetJournal()
	}
	if all := ask(&snapshotdv1.PruneRequest{Cluster: "prod", ValidateOnly: true}); len(all) != 2 ||
		all[0].GetSegments() != 4 ||
		all[0].GetLastRevision() != 40 || all[0].GetSizeBytes() != 4000 || all[0].GetWhy() != "no snapshot" {
		t.Errorf("it shows %v", all)
	}
	some := ask(&snapshotdv1.PruneRequest{Cluster: "prod", ValidateOnly: true, Backends: []string{"local"}})
	if len(some) != 1 {
		t.Errorf("of one backend, it shows %v", some)
	}
	if some := ask(&snapshotdv1.PruneRequest{Cluster: "prod"}); len(some) != 0 {
		t.Errorf("a prune shows %v", some)
	}
	if lost := ask(&snapshotdv1.PruneRequest{Cluster: "lost", ValidateOnly: true}); len(lost) != 1 ||
		!strings.Contains(lost[0].GetError().GetMessage(), "the backend is away") {
		t.Errorf("what is not known is shown as %v", lost)
	}
}
