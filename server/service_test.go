package server_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server"
	"github.com/snapshotd/snapshotd/snapshot"
)

func TestSavePassesTheRequestOn(t *testing.T) {
	var got cluster.SaveRequest
	r := run(t, server.Config{},
		&fakeCluster{name: "prod", save: func(_ context.Context, req cluster.SaveRequest) (cluster.SaveResult, error) {
			got = req
			return cluster.SaveResult{
				Snapshot: inState(snapshot.StateReady, snapshot.Snapshot{Name: "a"}),
				Warnings: []string{"the catalog was not written"},
			}, nil
		}})
	resp, err := r.client(t).Save(t.Context(), &snapshotdv1.SaveRequest{
		Cluster: "prod", NamePrefix: "pre", Labels: map[string]string{"k": "v"}, Backends: []string{"s3"}, RequestId: "id-1",
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.NamePrefix != "pre" || got.RequestID != "id-1" || got.Trigger != snapshot.TriggerManual ||
		!maps.Equal(got.Labels, map[string]string{"k": "v"}) || !slices.Equal(got.Backends, []string{"s3"}) {
		t.Errorf("the domain was asked for %+v", got)
	}
	if resp.GetSnapshot().GetState() != snapshotdv1.Snapshot_STATE_READY || len(resp.GetWarnings()) != 1 {
		t.Errorf("the response is %v", resp)
	}
}

func TestTheClusterMayBeLeftOutWhereThereIsOne(t *testing.T) {
	get := func(name string) *fakeCluster {
		return &fakeCluster{name: name, get: func(context.Context, string) (*snapshot.Record, error) {
			return &snapshot.Record{Snapshot: snapshot.Snapshot{Cluster: name}}, nil
		}}
	}
	one, two := run(t, server.Config{}, get("a")).client(t), run(t, server.Config{}, get("a"), get("b")).client(t)

	if resp, err := one.Get(t.Context(), &snapshotdv1.GetRequest{Name: "x"}); err != nil ||
		resp.GetSnapshot().GetCluster() != "a" {
		t.Errorf("the only cluster: %v, %v", resp, err)
	}
	if resp, err := two.Get(t.Context(), &snapshotdv1.GetRequest{Cluster: "b", Name: "x"}); err != nil ||
		resp.GetSnapshot().GetCluster() != "b" {
		t.Errorf("one by its name: %v, %v", resp, err)
	}
	_, err := two.Get(t.Context(), &snapshotdv1.GetRequest{Name: "x"})
	if d := checkError(t, err, codes.InvalidArgument, snapshot.ReasonInvalidArgument); d.Field != "cluster" ||
		!strings.Contains(err.Error(), "name one of a, b") {
		t.Errorf("the error does not name the clusters: %v", err)
	}
	_, err = two.Get(t.Context(), &snapshotdv1.GetRequest{Cluster: "c", Name: "x"})
	if d := checkError(t, err, codes.NotFound, snapshot.ReasonClusterNotFound); !slices.Equal(d.Choices,
		[]string{"a", "b"}) {
		t.Errorf("of a cluster that there is not, the choices are %q", d.Choices)
	}
	_, err = two.Reconcile(t.Context(), &snapshotdv1.ReconcileRequest{Cluster: "c"})
	checkError(t, err, codes.NotFound, snapshot.ReasonClusterNotFound)
}

func TestListPassesTheQueryOn(t *testing.T) {
	var got snapshot.Query
	r := run(t, server.Config{},
		&fakeCluster{name: "prod", list: func(_ context.Context, q snapshot.Query) (snapshot.Page, error) {
			got = q
			return snapshot.Page{
				Records: []*snapshot.Record{
					{Snapshot: snapshot.Snapshot{Name: "b"}}, {Snapshot: snapshot.Snapshot{Name: "a"}},
				},
				NextPageToken: "next",
			}, nil
		}})
	from, until := time.Unix(1000, 0).UTC(), time.Unix(2000, 0).UTC()
	resp, err := r.client(t).List(t.Context(), &snapshotdv1.ListRequest{
		PageSize: 1000, PageToken: "token", Backend: "s3", Labels: map[string]string{"k": ""},
		States:         []snapshotdv1.Snapshot_State{snapshotdv1.Snapshot_STATE_READY, snapshotdv1.Snapshot_STATE_PARTIAL},
		CreateTimeFrom: timestamppb.New(from), CreateTimeUntil: timestamppb.New(until),
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.PageSize != 1000 || got.PageToken != "token" || got.Backend != "s3" || !got.From.Equal(from) ||
		!got.Until.Equal(until) ||
		!slices.Equal(got.States, []snapshot.State{snapshot.StateReady, snapshot.StatePartial}) || len(got.Labels) != 1 {
		t.Errorf("the domain was asked for %+v", got)
	}
	if len(resp.GetSnapshots()) != 2 || resp.GetSnapshots()[0].GetName() != "b" || resp.GetNextPageToken() != "next" {
		t.Errorf("the response is %v", resp)
	}
	if _, err := r.client(t).List(t.Context(), &snapshotdv1.ListRequest{}); err != nil || got.PageSize != 100 ||
		!got.From.IsZero() {
		t.Errorf("the defaults are %+v, %v", got, err)
	}
}

func TestListRefusesWhatCannotBe(t *testing.T) {
	client := run(t, server.Config{}, &fakeCluster{name: "prod"}).client(t)
	for field, reqs := range map[string][]*snapshotdv1.ListRequest{
		"page_size": {{PageSize: -1}, {PageSize: 1001}},
		"states": {{States: []snapshotdv1.Snapshot_State{0}}, {States: []snapshotdv1.Snapshot_State{2, 99}},
			{States: []snapshotdv1.Snapshot_State{-1}}},
		"labels": {{Labels: map[string]string{"": "v"}}},
		"create_time_from": {
			{CreateTimeFrom: &timestamppb.Timestamp{Seconds: -1 << 60}},
			{CreateTimeFrom: &timestamppb.Timestamp{Nanos: -1}},
		},
		"create_time_until": {
			{CreateTimeUntil: &timestamppb.Timestamp{Nanos: 2e9}},
			{CreateTimeFrom: &timestamppb.Timestamp{Seconds: 5}, CreateTimeUntil: &timestamppb.Timestamp{Seconds: 5}},
		},
	} {
		for _, req := range reqs {
			_, err := client.List(t.Context(), req)
			if d := checkError(t, err, codes.InvalidArgument, snapshot.ReasonInvalidArgument); d.Field != field {
				t.Errorf("%v: the field is %q, want %q", req, d.Field, field)
			}
		}
	}
}

// reconciling is a cluster that reports the backends of its requests.
func reconciling(name string, backends ...string) *fakeCluster {
	return &fakeCluster{name: name, backends: backends,
		reconcile: func(_ context.Context, req cluster.ReconcileRequest) ([]cluster.BackendReport, error) {
			var reports []cluster.BackendReport
			for _, b := range backends {
				if len(req.Backends) == 0 || slices.Contains(req.Backends, b) {
					r := cluster.BackendReport{
						Cluster: name, Backend: b, Listed: 9, Unchanged: 8, Added: 7, Updated: 6, Removed: 5, Swept: 4, Foreign: 3,
					}
					if req.Repair {
						r.Repaired = 2
					}
					reports = append(reports, r)
				}
			}
			return reports, nil
		}}
}

// shown returns cluster/backend of every report.
func shown(resp *snapshotdv1.ReconcileResponse) string {
	var all []string
	for _, b := range resp.GetBackends() {
		all = append(all, b.GetCluster()+"/"+b.GetBackend())
	}
	return strings.Join(all, " ")
}

func TestReconcileChoosesClustersAndBackends(t *testing.T) {
	client := run(t, server.Config{}, reconciling("b", "local", "s3"), reconciling("a", "local"),
		reconciling("c", "nfs")).client(t)
	for _, tc := range []struct {
		cluster  string
		backends []string
		want     string
	}{
		{"", nil, "b/local b/s3 a/local c/nfs"},
		{"b", nil, "b/local b/s3"},
		{"b", []string{"s3"}, "b/s3"},
		{"", []string{"local"}, "b/local a/local"},
		{"", []string{"nfs", "s3"}, "b/s3 c/nfs"},
	} {
		resp, err := client.Reconcile(t.Context(), &snapshotdv1.ReconcileRequest{Cluster: tc.cluster, Backends: tc.backends})
		if err != nil || shown(resp) != tc.want {
			t.Errorf("cluster %q, backends %q: %q, %v; want %q", tc.cluster, tc.backends, shown(resp), err, tc.want)
		}
	}
	_, err := client.Reconcile(t.Context(), &snapshotdv1.ReconcileRequest{Backends: []string{"local", "gcs"}})
	if d := checkError(t, err, codes.InvalidArgument, snapshot.ReasonInvalidArgument); d.Field != "backends" ||
		!slices.Equal(d.Choices, []string{"local", "nfs", "s3"}) ||
		!strings.Contains(err.Error(), `"gcs"; they have local, nfs, s3`) {
		t.Errorf("the field is %q, the choices are %q: %v", d.Field, d.Choices, err)
	}
}

func TestAClusterThatIsReplacedMeanwhileIsNotReconciled(t *testing.T) {
	r := run(t, server.Config{}, ready())
	clusters := served(reconciling("a", "local"), reconciling("b", "local"))
	clusters[0].Use = func(context.Context) bool { return false }
	if err := r.SetClusters(clusters); err != nil {
		t.Fatal(err)
	}
	client := r.client(t)
	_, err := client.Reconcile(t.Context(), &snapshotdv1.ReconcileRequest{Cluster: "a"})
	checkError(t, err, codes.Unavailable, snapshot.ReasonConfigChanged)
	resp, err := client.Reconcile(t.Context(), &snapshotdv1.ReconcileRequest{})
	if err != nil || shown(resp) != "a/local b/local" || resp.GetBackends()[0].GetError() == nil ||
		resp.GetBackends()[1].GetError() != nil {
		t.Errorf("%v, %v", resp, err)
	}
}

func TestReconcileCounts(t *testing.T) {
	resp, err := run(t, server.Config{}, reconciling("a", "local")).client(t).Reconcile(t.Context(),
		&snapshotdv1.ReconcileRequest{Repair: true})
	if err != nil {
		t.Fatal(err)
	}
	b := resp.GetBackends()[0]
	got := []int64{
		b.GetListed(), b.GetUnchanged(), b.GetAdded(), b.GetUpdated(), b.GetRemoved(), b.GetSwept(), b.GetForeign(),
		b.GetRepaired(),
	}
	if !slices.Equal(got, []int64{9, 8, 7, 6, 5, 4, 3, 2}) || b.GetError() != nil {
		t.Errorf("the report is %v", b)
	}
}

func TestABackendThatFailsIsAnErrorInTheResponse(t *testing.T) {
	r := run(t, server.Config{}, &fakeCluster{name: "prod",
		reconcile: func(_ context.Context, req cluster.ReconcileRequest) ([]cluster.BackendReport, error) {
			if !req.ValidateOnly {
				return nil, errors.New("validate_only was lost")
			}
			return []cluster.BackendReport{
				{Cluster: "prod", Backend: "local", Listed: 1},
				{Cluster: "prod", Backend: "s3", Err: snapshot.ReasonBackendAccessDenied.New("list")},
				{Cluster: "prod", Backend: "nfs", Err: errors.New("odd")},
			}, nil
		}})
	resp, err := r.client(t).Reconcile(t.Context(), &snapshotdv1.ReconcileRequest{ValidateOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	d := checkError(t, status.ErrorProto(resp.GetBackends()[1].GetError()), codes.FailedPrecondition,
		snapshot.ReasonBackendAccessDenied)
	if d.Backend != "s3" || d.Cluster != "prod" {
		t.Errorf("details are %+v", d)
	}
	d = checkError(t, status.ErrorProto(resp.GetBackends()[2].GetError()), codes.Internal, snapshot.ReasonInternal)
	if d.Backend != "nfs" {
		t.Errorf("details are %+v", d)
	}
}

// failed is a cluster whose reconciliation ends with an error, beside these reports.
func failed(name string, err error, reports ...cluster.BackendReport) *fakeCluster {
	return &fakeCluster{name: name,
		reconcile: func(context.Context, cluster.ReconcileRequest) ([]cluster.BackendReport, error) { return reports, err },
	}
}

func TestAClusterThatFailsDoesNotHideTheResultsOfTheOthers(t *testing.T) {
	down := snapshot.ReasonCatalogUnavailable.New("read the catalog")
	m := failed("m", down, cluster.BackendReport{Cluster: "m", Backend: "local", Listed: 3},
		cluster.BackendReport{Cluster: "m", Backend: "s3", Err: snapshot.ReasonBackendAccessDenied.New("list")})
	n := failed("n", down)
	n.backends = []string{"nfs"}
	client := run(t, server.Config{}, reconciling("a", "local"), m, n, reconciling("z", "local")).client(t)
	resp, err := client.Reconcile(t.Context(), &snapshotdv1.ReconcileRequest{})
	if err != nil || shown(resp) != "a/local m/local m/s3 n/nfs z/local" {
		t.Fatalf("%q, %v", shown(resp), err)
	}
	for i, want := range []snapshot.Reason{
		"", snapshot.ReasonCatalogUnavailable, snapshot.ReasonBackendAccessDenied, snapshot.ReasonCatalogUnavailable, "",
	} {
		b := resp.GetBackends()[i]
		if d := wire.DetailsOf(status.ErrorProto(b.GetError())); d.Reason != want || want != "" &&
			d.Cluster != b.GetCluster() {
			t.Errorf("%s/%s: %v, want %q", b.GetCluster(), b.GetBackend(), b.GetError(), want)
		}
	}
	if got := resp.GetBackends()[1].GetListed(); got != 3 {
		t.Errorf("the count of the cluster that failed is %d", got)
	}
}

func TestAnErrorOfOneClusterComesWithWhatWasFound(t *testing.T) {
	client := run(t, server.Config{}, failed("m", snapshot.ReasonCatalogUnavailable.New("read the catalog"),
		cluster.BackendReport{Cluster: "m", Backend: "local", Listed: 3})).client(t)
	_, err := client.Reconcile(t.Context(), &snapshotdv1.ReconcileRequest{})
	d := checkError(t, err, codes.Unavailable, snapshot.ReasonCatalogUnavailable)
	if shown(d.Reconciled) != "m/local" || d.Reconciled.GetBackends()[0].GetListed() != 3 ||
		d.Reconciled.GetBackends()[0].GetError() == nil {
		t.Errorf("the error comes with %v", d.Reconciled)
	}
}

// badRecord is the error of a record that cannot be read, as the catalog makes it.
func badRecord(name string) error {
	key := "/snapshotd/records/" + name
	return snapshot.ReasonCatalogUnavailable.New("read the record under %q", key).Final().
		Because(&snapshot.BadRecord{Name: name, Key: key, Err: errors.New("it is damaged")}).Advise("etcdctl del %s", key)
}

func TestRecordsThatCannotBeReadAreNamed(t *testing.T) {
	var bad snapshot.BadRecords
	bad.Add(badRecord("x"))
	bad.Add(badRecord("y"))
	whole := cluster.BackendReport{Cluster: "m", Backend: "local", Listed: 3}
	m := failed("m", bad.Err(), whole)
	m.list = func(context.Context, snapshot.Query) (snapshot.Page, error) {
		return snapshot.Page{Unreadable: []error{badRecord("x"), badRecord("y")}}, nil
	}
	names := func(all []*snapshotdv1.UnreadableRecord) string {
		var text []string
		for _, u := range all {
			text = append(text, u.GetCluster()+" "+u.GetName()+" "+u.GetKey())
			if !strings.HasSuffix(u.GetError(), "(etcdctl del "+u.GetKey()+")") {
				t.Errorf("the error does not say how to mend it: %s", u.GetError())
			}
		}
		return strings.Join(text, ", ")
	}
	const want = "m x /snapshotd/records/x, m y /snapshotd/records/y"
	alone := run(t, server.Config{}, m).client(t)
	list, err := alone.List(t.Context(), &snapshotdv1.ListRequest{})
	if err != nil || names(list.GetUnreadable()) != want {
		t.Errorf("List: %v, %v", list, err)
	}
	_, err = alone.Reconcile(t.Context(), &snapshotdv1.ReconcileRequest{})
	d := checkError(t, err, codes.Unavailable, snapshot.ReasonCatalogUnavailable)
	if got := d.Reconciled; names(got.GetUnreadable()) != want || shown(got) != "m/local" ||
		got.GetBackends()[0].GetError() != nil {
		t.Errorf("Reconcile of one cluster: %v", got)
	}
	resp, err := run(t, server.Config{}, m, reconciling("z", "local")).client(t).Reconcile(t.Context(),
		&snapshotdv1.ReconcileRequest{})
	if err != nil || names(resp.GetUnreadable()) != want || resp.GetBackends()[0].GetError() == nil ||
		resp.GetBackends()[1].GetError() != nil {
		t.Errorf("Reconcile of two clusters: %v, %v", resp, err)
	}
}

func TestAServerNeedsClustersWithDifferentNames(t *testing.T) {
	for name, cfg := range map[string]server.Config{
		"no clusters": {Events: new(server.Events)},
		"no events":   {Clusters: served(&fakeCluster{name: "a"})},
		"twins":       {Events: new(server.Events), Clusters: served(&fakeCluster{name: "a"}, &fakeCluster{name: "a"})},
		"half TLS": {Events: new(server.Events), Clusters: served(&fakeCluster{name: "a"}),
			TLS: server.TLS{CertFile: "x"}},
		"CA alone": {Events: new(server.Events), Clusters: served(&fakeCluster{name: "a"}),
			TLS: server.TLS{ClientCAFile: "x"}},
	} {
		if _, err := server.New(cfg); err == nil {
			t.Errorf("%s: New took it", name)
		}
	}
}

func TestARequestThatIsTooLargeIsRefused(t *testing.T) {
	client := run(t, server.Config{}, &fakeCluster{name: "prod"}).client(t)
	_, err := client.Save(t.Context(), &snapshotdv1.SaveRequest{NamePrefix: strings.Repeat("a", 1<<20)})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("the error is %v", err)
	}
}

func TestEveryCallLeavesOneLine(t *testing.T) {
	r := run(t, server.Config{}, failing(snapshot.ReasonSnapshotNotFound.New("no snapshot %q", "a")))
	_, _ = r.client(t).Get(t.Context(), &snapshotdv1.GetRequest{Name: "a"})
	r.stop()
	wait(t, r.done, "the end of Run")
	calls := r.log.with("call served")
	if len(calls) != 1 {
		t.Fatalf("there are %d lines: %q", len(calls), calls)
	}
	for _, want := range []string{"method=Get", "code=NotFound", "reason=SNAPSHOT_NOT_FOUND", "cluster=prod", "duration=",
		"peer=127.0.0.1"} {
		if !strings.Contains(calls[0], want) {
			t.Errorf("the line lacks %s: %s", want, calls[0])
		}
	}
}

func TestACallerThatGoesAwayIsNoDefect(t *testing.T) {
	r := run(t, server.Config{}, failing(fmt.Errorf("ask: %w", context.Canceled)))
	_, _ = r.client(t).Get(t.Context(), &snapshotdv1.GetRequest{Name: "a"})
	r.stop()
	wait(t, r.done, "the end of Run")
	if calls := r.log.with("call served"); len(calls) != 1 || !strings.Contains(calls[0], "reason=CANCELLED") {
		t.Errorf("the log says %q", calls)
	}
}
