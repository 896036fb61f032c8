package catalog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/catalog/conformance"
	"github.com/snapshotd/snapshotd/internal/etcd/member"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	catalogv1 "github.com/snapshotd/snapshotd/proto/snapshotd/catalog/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

func wantUnavailable(t *testing.T, err error, parts ...string) {
	t.Helper()
	e, ok := errors.AsType[*snapshot.Error](err)
	if !ok || e.Reason != snapshot.ReasonCatalogUnavailable {
		t.Fatalf("error %v, want one with ReasonCatalogUnavailable", err)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q does not say %q", err, p)
		}
	}
}

func create(t *testing.T, c *catalog.Catalog, n int) {
	t.Helper()
	for i := range n {
		if err := c.Create(t.Context(), conformance.Record(fmt.Sprintf("s%04d", i), time.Duration(i)*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
}

func compact(t *testing.T, client *clientv3.Client) {
	t.Helper()
	resp, err := client.Put(t.Context(), "x", "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Compact(t.Context(), resp.Header.Revision); err != nil {
		t.Fatal(err)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client), Cluster: "blue", Prefix: "/elsewhere/"})
	r := conformance.Record("a", 0)
	if err := c.Create(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if err := c.PutStore(t.Context(), "local", snapshot.Store{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Lock(t.Context(), "me"); err != nil {
		t.Fatal(err)
	}
	all, err := client.Get(t.Context(), "", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, kv := range all.Kvs {
		got = append(got, string(kv.Key))
	}
	want := fmt.Sprintf("/elsewhere/blue/by-time/%016x/a /elsewhere/blue/lock/save "+
		"/elsewhere/blue/requests/request%%2Fof%%20a /elsewhere/blue/snapshots/a.~ /elsewhere/blue/stores/local",
		^uint64(r.CreateTime.UnixNano()))
	if strings.Join(got, " ") != want {
		t.Errorf("keys\n%s\nwant\n%s", strings.Join(got, " "), want)
	}
	if err := c.Remove(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	left, err := client.Get(t.Context(), "/elsewhere/blue/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil || left.Count != 2 {
		t.Errorf("%d keys are left, %v, want the lock and the store", left.Count, err)
	}
}

// Replicas of other versions read and compare the stored bytes.
func TestRecordIsStoredInTheSameBytes(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client)})
	r := conformance.Record("a", 0)
	r.Proof, r.Earlier, r.JournalProof, r.Alarms, r.OldestRevision = nil, nil, nil, nil, 0 // later versions have added them
	if err := c.Create(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/record.binpb")
	if err != nil {
		t.Fatal(err)
	}
	var m catalogv1.Record
	if err := proto.Unmarshal(want, &m); err != nil {
		t.Fatal(err)
	}
	m.ProvenTime, m.TimelineEnded = nil, true // a later version has added this one
	if want, err = (proto.MarshalOptions{Deterministic: true}).Marshal(&m); err != nil {
		t.Fatal(err)
	}
	got, err := client.Get(t.Context(), "/snapshotd/v1/default/snapshots/a.~")
	if err != nil || !bytes.Equal(got.Kvs[0].Value, want) {
		t.Errorf("stored (%v)\n%q\nwant\n%q", err, got.Kvs[0].Value, want)
	}
}

// An etcd that was restored from an older snapshot does not know the revision yet.
func TestPageTokenExpiresWithARestore(t *testing.T) {
	t.Parallel()
	c := open(t, catalog.Config{Connect: connect(embedded.StartEtcd(t).Client(t))})
	create(t, c, 3)
	p, err := c.List(t.Context(), snapshot.Query{PageSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	c = open(t, catalog.Config{Connect: connect(embedded.StartEtcd(t).Client(t))})
	_, err = c.List(t.Context(), snapshot.Query{PageSize: 1, PageToken: p.NextPageToken})
	if snapshot.ReasonOf(err) != snapshot.ReasonPageTokenExpired {
		t.Errorf("after a restore: %v, want PAGE_TOKEN_EXPIRED", err)
	}
}

func TestScanGoesOnAfterACompaction(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client)})
	const n = 1100 // more than two chunks
	create(t, c, n)
	var got []string
	for r, err := range c.Scan(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, r.Name); len(got)%500 == 250 {
			compact(t, client)
		}
	}
	for i, name := range got {
		if name != fmt.Sprintf("s%04d", i) {
			t.Fatalf("record %d is %s", i, name)
		}
	}
	if len(got) != n {
		t.Errorf("the scan yields %d records of %d", len(got), n)
	}
}

// lossy loses the answers of some transactions that etcd has carried out.
type lossy struct {
	clientv3.KV
	lose int // how many more
}

type lossyTxn struct {
	clientv3.Txn
	kv *lossy
}

func (l *lossy) Txn(ctx context.Context) clientv3.Txn { return &lossyTxn{l.KV.Txn(ctx), l} }

func (x *lossyTxn) If(c ...clientv3.Cmp) clientv3.Txn  { x.Txn = x.Txn.If(c...); return x }
func (x *lossyTxn) Then(o ...clientv3.Op) clientv3.Txn { x.Txn = x.Txn.Then(o...); return x }
func (x *lossyTxn) Else(o ...clientv3.Op) clientv3.Txn { x.Txn = x.Txn.Else(o...); return x }

func (x *lossyTxn) Commit() (*clientv3.TxnResponse, error) {
	resp, err := x.Txn.Commit()
	if err == nil && x.kv.lose > 0 {
		x.kv.lose--
		return nil, status.Error(codes.Unavailable, "error reading from server: EOF")
	}
	return resp, err
}

// A transaction whose answer is lost is made again, and the change of the first attempt is known as ours.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	kv := &lossy{KV: client.KV}
	client.KV = kv
	c := open(t, catalog.Config{Connect: connect(client)})
	step := func(what string, do func() error) {
		t.Helper()
		kv.lose = 2
		if err := do(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	r := conformance.Record("a", 0)
	step("create", func() error { return c.Create(t.Context(), r) })
	got, err := c.Get(t.Context(), "a")
	if err != nil || got.Version != r.Version {
		t.Errorf("version %d after a create, want %d (%v)", r.Version, got.Version, err)
	}
	r.Node = "changed"
	step("update", func() error { return c.Update(t.Context(), r) })
	got, err = c.Get(t.Context(), "a")
	if err != nil || got.Version != r.Version || got.Node != "changed" {
		t.Errorf("version %d after an update, want %d (%v)", r.Version, got.Version, err)
	}
	step("lock", func() error {
		lock, err := c.Lock(t.Context(), "me")
		if err == nil {
			lock.Unlock(t.Context())
		}
		return err
	})
	step("store", func() error { return c.PutStore(t.Context(), "local", snapshot.Store{ID: "x"}) })
	step("remove", func() error { return c.Remove(t.Context(), r) })
	begun := snapshot.NewSave(conformance.Record("begun", 0).Snapshot, "id", "", nil)
	step("begin", func() error { return c.Begin(t.Context(), begun, nil) })
	if got, err := c.ByRequestID(t.Context(), begun.RequestID); err != nil || got.Version != begun.Version {
		t.Errorf("version %d after a begin, want that of %+v (%v)", begun.Version, got, err)
	}

	other := conformance.Record("a", time.Hour)
	if err := c.Create(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	kv.lose = 1
	if err := c.Create(t.Context(), conformance.Record("a", 0)); err != nil && !errors.Is(err, snapshot.ErrExists) {
		t.Errorf("a create of what somebody else has made: %v", err)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	server := embedded.StartEtcd(t, func(c *member.Config) { c.Quota = 1 << 20 })
	client := server.Client(t)
	c := open(t, catalog.Config{Connect: connect(client), Timeout: 2 * time.Second})
	create(t, c, 1)
	for i, err := 0, error(nil); !errors.Is(err, rpctypes.ErrNoSpace); i++ { // etcd learns its size at its next commit
		_, err = client.Put(t.Context(), fmt.Sprint(i), strings.Repeat("x", 100<<10))
	}
	wantUnavailable(t, c.Create(t.Context(), conformance.Record("b", 0)),
		`create the record of "b"`, `"default"`, "quota", "alarm disarm")
	_, err := c.Lock(t.Context(), "me")
	wantUnavailable(t, err, "quota")
	if _, err := c.Get(t.Context(), "s0000"); err != nil {
		t.Errorf("reading needs no space: %v", err)
	}

	getWithout := func(err error) error { // the error of a Get whose client cannot be made
		connect := func(context.Context) (*clientv3.Client, error) { return nil, err }
		_, err = open(t, catalog.Config{Connect: connect}).Get(t.Context(), "a")
		return err
	}
	wantUnavailable(t, getWithout(errors.New("no way")), "no way")
	const dial = "dial tcp 10.0.0.1:2379: connect: connection refused"
	refused := status.Error(codes.Unavailable, `connection error: desc = "transport: Error while dialing: `+dial+`"`)
	wantUnavailable(t, getWithout(refused),
		`"default": no member of etcd can be reached: `+dial+` (check that etcd runs`)

	server.Close(t)
	_, err = c.Get(t.Context(), "s0000")
	wantUnavailable(t, err)
}
