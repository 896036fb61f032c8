package catalog_test

import (
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	catalogv1 "github.com/snapshotd/snapshotd/proto/snapshotd/catalog/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

const reconciledKey = prefix + "reconciled"

// What one replica notes is read by all, and a note that changes nothing is not written.
func TestWhatAReconcileHasFoundIsKnownToAllReplicas(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	one, two := open(t, catalog.Config{Connect: connect(client)}), open(t, catalog.Config{Connect: connect(client)})
	amend := func(change func(*snapshot.ReconcileNote)) {
		t.Helper()
		if err := one.AmendReconciled(t.Context(), change); err != nil {
			t.Fatal(err)
		}
	}
	amend(func(*snapshot.ReconcileNote) {})
	if resp, err := client.Get(t.Context(), reconciledKey); err != nil || len(resp.Kvs) != 0 {
		t.Errorf("nothing was found, and it is written: %v", err)
	}
	want := snapshot.ReconcileNote{
		Damaged: []string{"b", "a"}, Proven: "c",
		Failed: map[string]snapshot.ReconcileFailure{"s3": {Error: "access denied", Whole: true}},
	}
	for range 2 {
		amend(func(n *snapshot.ReconcileNote) { *n = want })
	}
	if got, err := two.Reconciled(t.Context()); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("the other replica reads %+v, %v", got, err)
	}
	if resp, err := client.Get(t.Context(), reconciledKey); err != nil || resp.Kvs[0].Version != 1 {
		t.Errorf("it was written again: %v", err)
	}
	amend(func(n *snapshot.ReconcileNote) { delete(n.Failed, "s3") })
	if got, err := two.Reconciled(t.Context()); err != nil || len(got.Failed) != 0 || got.Proven != "c" {
		t.Errorf("after a change it is %+v, %v", got, err)
	}
}

// Whoever can write to etcd can put anything there: it is left out, and replaced.
func TestANoteAboutAReconcileThatIsDamagedIsNone(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client)})
	hostile := func(m *catalogv1.Reconciled) string {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, damage := range []string{
		"rubbish", strings.Repeat("x", 1<<20), hostile(&catalogv1.Reconciled{Proven: "--from=file:///elsewhere"}),
		hostile(&catalogv1.Reconciled{Damaged: []string{"a", "../b"}}),
	} {
		put(t, client, reconciledKey, damage)
		if note, err := c.Reconciled(t.Context()); err != nil || note.Proven != "" || len(note.Damaged)+len(note.Failed) > 0 {
			t.Errorf("%.20q is %+v, %v", damage, note, err)
		}
		if err := c.AmendReconciled(t.Context(), func(*snapshot.ReconcileNote) {}); err != nil {
			t.Fatal(err)
		}
		if resp, err := client.Get(t.Context(), reconciledKey); err != nil || len(resp.Kvs[0].Value) > 0 {
			t.Errorf("%.20q is not replaced: %v", damage, err)
		}
	}
}
