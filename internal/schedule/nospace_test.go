package schedule_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/etcd"
	"github.com/snapshotd/snapshotd/internal/schedule"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage"
)

// full is a cluster whose catalog is in the etcd that is saved.
type full struct {
	*cluster.Cluster
	server  *testenv.Cluster
	records *catalog.Catalog
	ended   chan *snapshot.Snapshot // those of the schedule
}

func newFull(t *testing.T) *full {
	t.Helper()
	x := &full{server: testenv.StartCluster(t, 1), ended: make(chan *snapshot.Snapshot, 1000)}
	conn, err := etcd.New(etcd.Config{Endpoints: x.server.Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	x.records = catalog.New(catalog.Config{Connect: conn.Client, Cluster: "prod"})
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		_, _ = x.records.Close(ctx), conn.Close(ctx)
	})
	cfg := cluster.Config{
		Name: "prod", Node: "node-1", Prefix: "prod/", SpoolDir: t.TempDir(),
		Source:  etcd.NewSource(conn, etcd.SourceConfig{}),
		Records: x.records, Saves: x.records, History: x.records, Stores: x.records,
	}
	backend, err := storage.New(storage.Config{Name: "first", URL: "file://" + t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Backends = append(cfg.Backends, backend)
	if x.Cluster, err = cluster.New(cfg); err != nil {
		t.Fatal(err)
	}
	return x
}

// lead runs a schedule each second until ctx is done.
func (x *full) lead(ctx context.Context, each schedule.Spec) {
	save := func(ctx context.Context, req cluster.SaveRequest) (cluster.SaveResult, error) {
		res, err := x.Save(ctx, req)
		if err == nil {
			x.ended <- res.Snapshot
		}
		return res, err
	}
	schedule.New(schedule.Config{
		Interval: every(time.Hour), Reconcile: x.Maintain,
		Runs: []schedule.Runs{{Schedules: []schedule.Schedule{{Name: "a", Spec: each}}, Save: save}},
		Lead: func(ctx context.Context, lead func(context.Context, schedule.Term)) error {
			return x.records.Lead(ctx, "node-1", func(ctx context.Context, term *catalog.Term) { lead(ctx, term) })
		},
	}).Run(ctx)
}

// alarm raises or ends the alarm that the quota would raise.
func (x *full) alarm(t *testing.T, action etcdserverpb.AlarmRequest_AlarmAction) {
	t.Helper()
	api := etcdserverpb.NewMaintenanceClient(x.server.Client(t).ActiveConnection())
	_, err := api.Alarm(t.Context(), &etcdserverpb.AlarmRequest{
		Action: action, MemberID: x.server.Status(t, 0).Header.MemberId, Alarm: etcdserverpb.AlarmType_NOSPACE,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// alarmed waits for some snapshots with the alarm.
func (x *full) alarmed(t *testing.T, n int) (names []string) {
	t.Helper()
	late := time.After(time.Minute)
	for len(names) < n {
		select {
		case s := <-x.ended:
			if len(s.Alarms) > 0 {
				names = append(names, s.Name)
			}
		case <-late:
			t.Fatalf("only %q were saved in a minute with the alarm up", names)
		}
	}
	return names
}

// While the alarm is up, etcd takes no write: neither a record nor the time of a run.
func TestSchedulesGoOnWhileEtcdHasNoSpace(t *testing.T) {
	x := newFull(t)
	ctx, stop := context.WithCancel(t.Context())
	var loop sync.WaitGroup
	each := spec(t, "@every 1s", "")
	loop.Go(func() { x.lead(ctx, each) })
	t.Cleanup(func() { stop(); loop.Wait() })

	<-x.ended
	x.alarm(t, etcdserverpb.AlarmRequest_ACTIVATE)
	saved := x.alarmed(t, 3)
	before, err := x.records.LastDue(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	x.alarm(t, etcdserverpb.AlarmRequest_DEACTIVATE)
	x.server.Eventually(t, "the catalog has the time of a later run", func(ctx context.Context) error {
		due, err := x.records.LastDue(ctx, "a")
		if err == nil && !due.After(before) {
			err = fmt.Errorf("still %s", due)
		}
		return err
	})
	stop()
	loop.Wait()
	if err := x.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	page, err := x.List(t.Context(), snapshot.Query{PageSize: 100})
	if err != nil {
		t.Fatal(err)
	}
	requests := map[string]int{}
	for _, rec := range page.Records {
		requests[rec.RequestID]++
		saved = slices.DeleteFunc(saved, func(name string) bool { return name == rec.Name })
	}
	if len(saved) > 0 {
		t.Errorf("reconcile has not added %q", saved)
	}
	for id, n := range requests {
		if n != 1 {
			t.Errorf("request %s has %d snapshots", id, n)
		}
	}
}
