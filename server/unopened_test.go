package server_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server"
	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

// beside returns a server of a cluster whose catalog has an event, and of one that could not be opened.
func beside(t *testing.T) *running {
	t.Helper()
	open := story("prod", happened(5))
	r := run(t, server.Config{}, open)
	shut := server.Unopened(status.Known{
		Name: "second", NotOpen: errors.New("read ca.crt: no such file"), NotOpenSince: time.Unix(1700000000, 0),
	})
	if err := r.SetClusters(append(served(open), shut)); err != nil {
		t.Fatal(err)
	}
	return r
}

// Who asks for a cluster that is not open learns why and since when, and no call takes it for unknown.
func TestAClusterThatIsNotOpenSaysWhy(t *testing.T) {
	r := beside(t)
	clusters := snapshotdv1.NewClusterServiceClient(r.dial(t))
	resp, err := clusters.GetCluster(t.Context(), &snapshotdv1.GetClusterRequest{Cluster: "second"})
	if err != nil {
		t.Fatal(err)
	}
	c := resp.GetCluster()
	if c.GetVerdict() != snapshotdv1.Cluster_VERDICT_UNKNOWN || len(c.GetFindings()) == 0 {
		t.Fatalf("it is %v", c)
	}
	text := c.GetFindings()[0].GetText()
	for _, want := range []string{"could not open", "since 2023-11-14 22:13 UTC", "read ca.crt: no such file"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %q", want, text)
		}
	}
	_, err = r.client(t).Save(t.Context(), &snapshotdv1.SaveRequest{Cluster: "second"})
	checkError(t, err, codes.Unavailable, snapshot.ReasonClusterNotOpen)
	if !strings.Contains(err.Error(), "read ca.crt: no such file") {
		t.Errorf("a save answers %v", err)
	}
}

// A watch of all clusters keeps its resume tokens, and one of the cluster alone does not wait for what cannot come.
func TestAWatchLeavesOutAClusterThatIsNotOpen(t *testing.T) {
	r := beside(t)
	all := watch(t, r.client(t), &snapshotdv1.WatchRequest{})
	if ev, err := all.Recv(); err != nil || ev.GetResumeToken() == "" {
		t.Errorf("the watch of all has %v, %v", ev, err)
	}
	alone, err := r.client(t).Watch(t.Context(), &snapshotdv1.WatchRequest{Cluster: "second"})
	if err == nil {
		_, err = alone.Recv()
	}
	checkError(t, err, codes.Unavailable, snapshot.ReasonClusterNotOpen)
}
