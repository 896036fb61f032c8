package server_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/snapshotd/snapshotd/cluster"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server"
	"github.com/snapshotd/snapshotd/snapshot"
)

func TestEveryReasonHasItsCode(t *testing.T) {
	for reason, code := range map[snapshot.Reason]codes.Code{
		snapshot.ReasonInvalidArgument:     codes.InvalidArgument,
		snapshot.ReasonClusterNotFound:     codes.NotFound,
		snapshot.ReasonSnapshotNotFound:    codes.NotFound,
		snapshot.ReasonSaveInProgress:      codes.Aborted,
		snapshot.ReasonPageTokenExpired:    codes.Aborted,
		snapshot.ReasonWatchExpired:        codes.Aborted,
		snapshot.ReasonConflict:            codes.Aborted,
		snapshot.ReasonInterrupted:         codes.Aborted,
		snapshot.ReasonEtcdUnavailable:     codes.Unavailable,
		snapshot.ReasonCatalogUnavailable:  codes.Unavailable,
		snapshot.ReasonBackendUnavailable:  codes.Unavailable,
		snapshot.ReasonBackendAccessDenied: codes.FailedPrecondition,
		snapshot.ReasonBackendNotFound:     codes.FailedPrecondition,
		snapshot.ReasonBackendWrongStore:   codes.FailedPrecondition,
		snapshot.ReasonNoSpace:             codes.ResourceExhausted,
		snapshot.ReasonSlowConsumer:        codes.ResourceExhausted,
		snapshot.ReasonLimitReached:        codes.ResourceExhausted,
		snapshot.ReasonAuditUnavailable:    codes.Unavailable,
		snapshot.ReasonChecksumMismatch:    codes.DataLoss,
		snapshot.ReasonSnapshotUnreadable:  codes.DataLoss,
		snapshot.ReasonCancelled:           codes.Canceled,
		snapshot.ReasonInternal:            codes.Internal,
	} {
		t.Run(string(reason), func(t *testing.T) {
			e := reason.New("read the thing").On("s3").Advise("try the other one")
			r := run(t, server.Config{}, failing(fmt.Errorf("get: %w", e)))
			_, err := r.client(t).Get(t.Context(), &snapshotdv1.GetRequest{Name: "a"})
			d := checkError(t, err, code, reason)
			if d.Backend != "s3" || d.Cluster != "prod" || d.Retry != e.Retry || d.Field != "" || d.Snapshot != nil {
				t.Errorf("details are %+v", d)
			}
			if msg := status.Convert(err).Message(); msg != "get: read the thing (try the other one)" {
				t.Errorf("message is %q", msg)
			}
		})
	}
}

func TestErrorsThatAreNotTheDomains(t *testing.T) {
	for _, tc := range []struct {
		err    error
		code   codes.Code
		reason snapshot.Reason
	}{
		{errors.New("nil pointer, nearly"), codes.Internal, snapshot.ReasonInternal},
		{fmt.Errorf("get: %w", context.Canceled), codes.Canceled, snapshot.ReasonCancelled},
		{fmt.Errorf("get: %w", context.DeadlineExceeded), codes.DeadlineExceeded, snapshot.ReasonCancelled},
		{snapshot.ReasonCancelled.New("x").Because(context.DeadlineExceeded), codes.DeadlineExceeded,
			snapshot.ReasonCancelled},
		// etcd's client returns statuses: they are no status of ours.
		{fmt.Errorf("get: %w", status.Error(codes.NotFound, "no such member")), codes.Internal, snapshot.ReasonInternal},
		{snapshot.Reason("SOMETHING_NEW").New("x"), codes.Internal, "SOMETHING_NEW"},
	} {
		t.Run(tc.err.Error(), func(t *testing.T) {
			r := run(t, server.Config{}, failing(tc.err))
			_, err := r.client(t).Get(t.Context(), &snapshotdv1.GetRequest{Name: "a"})
			if d := checkError(t, err, tc.code, tc.reason); d.Retry != 0 {
				t.Errorf("a retry is advised after %v", d.Retry)
			}
		})
	}
}

func TestAWrongFieldIsNamed(t *testing.T) {
	r := run(t, server.Config{}, failing(snapshot.Invalid("name", "is %d bytes long", 0)))
	_, err := r.client(t).Get(t.Context(), &snapshotdv1.GetRequest{})
	if d := checkError(t, err, codes.InvalidArgument, snapshot.ReasonInvalidArgument); d.Field != "name" {
		t.Errorf("the field is %q", d.Field)
	}
}

// partial is a snapshot that one of two backends holds.
func partial() *snapshot.Snapshot {
	const name = "on-demand-n1-1700000000"
	return snapshot.WithStatus(snapshot.Snapshot{Name: name, Cluster: "prod", Revision: 42}, snapshot.Status{
		State: snapshot.StatePartial, Error: "s3: bucket is on fire", Locations: []snapshot.Location{
			{Backend: "local", State: snapshot.StateReady, URI: "file:///backups/prod/" + name + ".db.zst"},
			{Backend: "s3", State: snapshot.StateFailed, Error: "bucket is on fire", URI: "s3://b/prod/" + name + ".db.zst"},
		},
	})
}

func TestAPartialSaveIsAnErrorThatCarriesTheSnapshot(t *testing.T) {
	r := run(t, server.Config{},
		&fakeCluster{name: "prod", save: func(context.Context, cluster.SaveRequest) (cluster.SaveResult, error) {
			return cluster.SaveResult{Snapshot: partial()},
				snapshot.ReasonBackendUnavailable.New("save").On("s3").Because(errors.New("bucket is on fire"))
		}})
	resp, err := r.client(t).Save(t.Context(), &snapshotdv1.SaveRequest{})
	d := checkError(t, err, codes.Unavailable, snapshot.ReasonBackendUnavailable)
	if resp != nil {
		t.Errorf("there is a response besides the error: %v", resp)
	}
	if d.Backend != "s3" || d.Cluster != "prod" || d.Retry != 10*time.Second {
		t.Errorf("details are %+v", d)
	}
	s := d.Snapshot
	if s.GetState() != snapshotdv1.Snapshot_STATE_PARTIAL || s.GetRevision() != 42 || len(s.GetLocations()) != 2 ||
		s.GetLocations()[1].GetError() != "bucket is on fire" {
		t.Errorf("the snapshot is %v", s)
	}
}

// TestTheLargestErrorFitsIntoSmallTrailers: clients in C++ and Java take 8 KiB of headers by default, and a status that
// is larger reaches them as something else.
func TestTheLargestErrorFitsIntoSmallTrailers(t *testing.T) {
	for name, text := range map[string]string{
		"ASCII": "bucket is on fire, ", "escaped": "100 % of the bücket ", "not UTF-8": "bucket \xff\xfe ",
		"three bytes": "桶着火了",
	} {
		t.Run(name, func(t *testing.T) {
			long := strings.Repeat(text, 5000)
			labels := make(map[string]string)
			for i := range snapshot.MaxLabels {
				labels[fmt.Sprintf("%0*d", snapshot.MaxLabelKey, i)] = strings.Repeat("v", snapshot.MaxLabelValue)
			}
			locations := partial().Locations()
			for i := range 30 {
				locations = append(locations, snapshot.Location{
					Backend: fmt.Sprint("backend-", i), Error: long, State: snapshot.StateFailed,
					URI: "s3://bucket/" + strings.Repeat("p/", 500),
				})
			}
			s := snapshot.WithStatus(snapshot.Snapshot{Name: partial().Name, Cluster: "prod", Labels: labels}, snapshot.Status{
				State: snapshot.StatePartial, Error: long, Locations: locations,
			})
			e := snapshot.ReasonNoSpace.New("save to everything").On("backend-0").Because(errors.New(long)).
				Advise("call the fire brigade")
			e.Field = strings.Repeat("f", 500)
			r := run(t, server.Config{},
				&fakeCluster{name: "prod", save: func(context.Context, cluster.SaveRequest) (cluster.SaveResult, error) {
					return cluster.SaveResult{Snapshot: s}, e
				}})
			_, err := r.client(t, grpc.WithMaxHeaderListSize(8<<10)).Save(t.Context(), &snapshotdv1.SaveRequest{})
			d := checkError(t, err, codes.ResourceExhausted, snapshot.ReasonNoSpace)
			if d.Snapshot.GetName() != s.Name || d.Snapshot.GetState() != snapshotdv1.Snapshot_STATE_PARTIAL {
				t.Errorf("the snapshot is %v", d.Snapshot)
			}
			msg := status.Convert(err).Message()
			if !strings.HasPrefix(msg, "save to everything: ") || !strings.HasSuffix(msg, "(call the fire brigade)") {
				t.Errorf("the message has lost its begin or its end: %q", msg)
			}
		})
	}
}

func TestAPanicEndsOneCallAlone(t *testing.T) {
	var calls int
	r := run(t, server.Config{}, &fakeCluster{name: "prod", get: func(context.Context, string) (*snapshot.Record, error) {
		if calls++; calls == 1 {
			panic("index out of range, password=hunter2")
		}
		return &snapshot.Record{Snapshot: snapshot.Snapshot{Name: "a"}}, nil
	}})
	client := r.client(t)
	_, err := client.Get(t.Context(), &snapshotdv1.GetRequest{Name: "a"})
	checkError(t, err, codes.Internal, snapshot.ReasonInternal)
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the caller learns of the inside: %v", err)
	}
	if len(r.log.with("call panicked")) != 1 || len(r.log.with("errors_test.go")) == 0 {
		t.Error("the log lacks the panic or its stack")
	}
	if _, err := client.Get(t.Context(), &snapshotdv1.GetRequest{Name: "a"}); err != nil {
		t.Errorf("the next call fails: %v", err)
	}
}

func TestAPanicOfOneClusterEndsTheReconcileAlone(t *testing.T) {
	bad := &fakeCluster{name: "bad",
		reconcile: func(context.Context, cluster.ReconcileRequest) ([]cluster.BackendReport, error) {
			panic("no such luck")
		}}
	r := run(t, server.Config{}, bad, reconciling("good", "local"))
	_, err := r.client(t).Reconcile(t.Context(), &snapshotdv1.ReconcileRequest{})
	checkError(t, err, codes.Internal, snapshot.ReasonInternal)
	if len(r.log.with("no such luck")) == 0 {
		t.Error("the log lacks the panic")
	}
	if resp, err := r.client(t).Reconcile(t.Context(), &snapshotdv1.ReconcileRequest{Cluster: "good"}); err != nil ||
		shown(resp) != "good/local" {
		t.Errorf("the next call: %v, %v", resp, err)
	}
}
