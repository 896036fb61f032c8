package daemon

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	"github.com/snapshotd/snapshotd/snapshot"
)

// What a reconcile of one replica has found is known to all, until another one finds otherwise.
func TestWhatAReconcileHasFoundIsNoted(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := catalog.New(catalog.Config{Cluster: "default", Connect: func(context.Context) (*clientv3.Client, error) { return client, nil }})
	var n noting
	s3 := map[string]snapshot.ReconcileFailure{"s3": {Error: "access denied", Whole: true}}
	for _, tc := range []struct {
		what   string
		events []snapshot.Event
		want   snapshot.ReconcileNote
	}{
		{"nothing has happened", nil, snapshot.ReconcileNote{}},
		{"a reconcile", []snapshot.Event{
			{Type: snapshot.EventCounted, Newest: []string{"b"}}, {Type: snapshot.EventProven, Name: "c"},
			{
				Type: snapshot.EventReconciled, Unseen: map[string]bool{"s3": true},
				Backends: map[string]error{"local": nil, "s3": errors.New("access denied")},
			},
		}, snapshot.ReconcileNote{Damaged: []string{"b"}, Proven: "c", Failed: s3}},
		{"verifications, and a reconcile that was cancelled", []snapshot.Event{
			{Type: snapshot.EventVerified, Name: "a", Verification: &snapshot.Verification{}},
			{Type: snapshot.EventVerified, Name: "b", Verification: &snapshot.Verification{}},
			{Type: snapshot.EventVerified, Name: "d", Verification: &snapshot.Verification{Passed: true}},
			{Type: snapshot.EventReconciled},
		}, snapshot.ReconcileNote{Damaged: []string{"a", "b"}, Proven: "c", Failed: s3}},
		{"all is mended", []snapshot.Event{
			{Type: snapshot.EventCounted}, {Type: snapshot.EventProven, Name: "d"},
			{Type: snapshot.EventReconciled, Backends: map[string]error{"s3": nil}},
		}, snapshot.ReconcileNote{Proven: "d"}},
	} {
		for _, ev := range tc.events {
			n.Observe(t.Context(), ev)
		}
		down := func(context.Context, func(*snapshot.ReconcileNote)) error { return errors.New("etcd is down") }
		if err := n.write(t.Context(), down); (err != nil) != (len(tc.events) > 0) {
			t.Errorf("%s, while etcd is down: %v", tc.what, err)
		}
		if tc.want.Failed == nil {
			tc.want.Failed = map[string]snapshot.ReconcileFailure{}
		}
		// This replica knows it at once, the others when it was written.
		if got, err := (facts{catalog: c, noting: &n}).Reconciled(t.Context()); err != nil || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s, before it is noted: it is %+v, want %+v; %v", tc.what, got, tc.want, err)
		}
		if err := n.write(t.Context(), c.AmendReconciled); err != nil {
			t.Fatal(err)
		}
		other := facts{catalog: c, noting: &noting{}}
		if got, err := other.Reconciled(t.Context()); err != nil || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: it is %+v, want %+v; %v", tc.what, got, tc.want, err)
		}
	}
}

// A finding that could not be written for long does not take the place of what another replica has found since.
func TestWhatIsFoundLaterStays(t *testing.T) {
	now := time.Now()
	at := func(ago time.Duration, ev snapshot.Event) snapshot.Event { ev.Time = now.Add(-ago); return ev }
	denied := map[string]error{"s3": errors.New("access denied")}
	var written snapshot.ReconcileNote
	amend := func(_ context.Context, change func(*snapshot.ReconcileNote)) error {
		if written.Failed == nil {
			written.Failed = map[string]snapshot.ReconcileFailure{}
		}
		change(&written)
		return nil
	}
	var early, late noting
	for _, ev := range []snapshot.Event{
		at(time.Hour, snapshot.Event{Type: snapshot.EventCounted}),
		at(time.Hour, snapshot.Event{Type: snapshot.EventProven, Name: "old"}),
		at(time.Hour, snapshot.Event{Type: snapshot.EventVerified, Name: "mended", Verification: &snapshot.Verification{}}),
		at(time.Hour, snapshot.Event{Type: snapshot.EventReconciled, Backends: map[string]error{"s3": nil}}),
	} {
		early.Observe(t.Context(), ev)
	}
	for _, ev := range []snapshot.Event{
		at(time.Minute, snapshot.Event{Type: snapshot.EventCounted, Newest: []string{"a"}}),
		at(time.Minute, snapshot.Event{Type: snapshot.EventProven, Name: "new"}),
		at(time.Minute, snapshot.Event{Type: snapshot.EventReconciled, Backends: denied}),
	} {
		late.Observe(t.Context(), ev)
	}
	for _, n := range []*noting{&late, &early} {
		if err := n.write(t.Context(), amend); err != nil {
			t.Fatal(err)
		}
	}
	want := snapshot.ReconcileNote{
		Damaged: []string{"a"}, Proven: "new", Counted: now.Add(-time.Minute),
		Failed: map[string]snapshot.ReconcileFailure{"s3": {Time: now.Add(-time.Minute), Error: "access denied"}},
	}
	if !reflect.DeepEqual(written, want) {
		t.Errorf("it is %+v, want %+v", written, want)
	}

	// What a clock of the future has noted is replaced.
	written.Counted = now.Add(time.Hour)
	written.Failed["s3"] = snapshot.ReconcileFailure{Time: now.Add(time.Hour), Error: "access denied"}
	late.Observe(t.Context(), at(0, snapshot.Event{Type: snapshot.EventCounted, Newest: []string{"b"}}))
	late.Observe(t.Context(), at(0, snapshot.Event{Type: snapshot.EventReconciled, Backends: map[string]error{"s3": nil}}))
	if err := late.write(t.Context(), amend); err != nil || !reflect.DeepEqual(written.Damaged, []string{"b"}) || len(written.Failed) > 0 {
		t.Errorf("it is %+v, %v", written, err)
	}
}

// That the catalog was away is nothing to tell of a backend when it is back.
func TestAReconcileWithoutItsCatalogTellsNothingOfTheBackends(t *testing.T) {
	var n noting
	away := snapshot.ReasonCatalogUnavailable.New("read the catalog")
	n.Observe(t.Context(), snapshot.Event{
		Type: snapshot.EventReconciled, Backends: map[string]error{"s3": errors.Join(away)}, Unseen: map[string]bool{"s3": true},
	})
	note := snapshot.ReconcileNote{Failed: map[string]snapshot.ReconcileFailure{}}
	if n.unwritten(&note); len(note.Failed) > 0 {
		t.Errorf("it tells %+v", note.Failed)
	}
}
