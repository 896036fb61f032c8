package catalog_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/catalog/conformance"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	catalogv1 "github.com/snapshotd/snapshotd/proto/snapshotd/catalog/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// newer returns a field of a newer version.
func newer(text string) []byte {
	b := protowire.AppendTag(nil, 1000, protowire.BytesType)
	b = protowire.AppendString(b, text)
	b = protowire.AppendTag(b, 1001, protowire.VarintType)
	return protowire.AppendVarint(b, 1<<63)
}

// parts are the messages of a stored record, by name.
func parts(m *catalogv1.Record) map[string]proto.Message {
	s := m.GetSnapshot()
	all := map[string]proto.Message{"record": m, "snapshot": s}
	for _, l := range s.GetLocations() {
		all["location on "+l.GetBackend()] = l
	}
	for _, p := range m.GetRepairs() {
		all["repair of "+p.GetBackend()] = p
	}
	for _, f := range m.GetFailures() {
		all["failure "+f.GetMessage()] = f
	}
	if s.GetVerification() != nil {
		all["verification"] = s.GetVerification()
	}
	if s.GetProof() != nil {
		all["proof"] = s.GetProof()
	}
	return all
}

// A replica that does not know the fields of a newer one leaves them as they are, whatever it changes.
func TestFieldsOfANewerVersionSurviveEveryChange(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client)})
	now := time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)
	failed := errors.New("disk full")
	s3 := func(s snapshot.State) snapshot.Location { return snapshot.Location{Backend: "s3", State: s, Size: 5} }
	tape := snapshot.Location{Backend: "tape", State: snapshot.StateReady, Size: 5}
	checked := snapshot.Verification{Level: snapshot.LevelChecksum, Passed: true, Time: now}
	minute := func(int) time.Duration { return time.Minute }
	settled := []string{"repair of s3", "failure gone"}
	type record = snapshot.Record
	changes := map[string]struct {
		change func(r *record)
		gone   []string // parts of which there are none any more, or others
	}{
		"nothing":            {func(*record) {}, nil},
		"labels":             {func(r *record) { r.Labels, r.Pinned = map[string]string{"x": "y"}, false }, nil},
		"written":            {func(r *record) { r.Written("s3", nil, now) }, settled},
		"failed again":       {func(r *record) { r.Written("s3", failed, now) }, settled[1:]},
		"aborted":            {func(r *record) { r.Abort(failed, now) }, settled[1:]},
		"concluded":          {func(r *record) { r.Conclude(time.Second, failed) }, nil},
		"interrupted":        {func(r *record) { r.ConcludeInterrupted(r.AssumeNothing()) }, settled[1:]},
		"yielded":            {func(r *record) { r.Yield("other", failed, now) }, nil},
		"copy removed":       {func(r *record) { r.CopyRemoved("s3") }, nil},
		"reinstated":         {func(r *record) { r.Reinstate() }, nil},
		"found elsewhere":    {func(r *record) { r.Found(tape) }, nil},
		"found":              {func(r *record) { r.Found(s3(snapshot.StateReady)) }, settled},
		"missed":             {func(r *record) { r.Missed(s3(snapshot.StateFailed), snapshot.ReasonCopyMissing) }, nil},
		"described":          {func(r *record) { r.Describe(conformance.Record("a", 0)) }, settled},
		"dropped":            {func(r *record) { r.DropBackend("s3") }, append([]string{"location on s3"}, settled...)},
		"whole one dropped":  {func(r *record) { r.DropBackend("local") }, []string{"location on local"}},
		"deleting":           {func(r *record) { r.Deleting("local", now) }, nil},
		"removal failed":     {func(r *record) { r.RemovalFailed("local", failed) }, nil},
		"copy failed":        {func(r *record) { r.CopyFailed("local", failed, true, now) }, nil},
		"repair failed":      {func(r *record) { r.RepairFailed("s3", failed, now, minute) }, nil},
		"repaired":           {func(r *record) { r.Repaired(s3(0), []string{"s3", "local"}) }, settled},
		"repaired elsewhere": {func(r *record) { r.Repaired(tape, []string{"tape", "s3", "local"}) }, nil},
		"fallback":           {func(r *record) { r.SetFallback("node-2") }, nil},
		"verified":           {func(r *record) { r.Verified(checked, false) }, []string{"verification"}},
		"request changed":    {func(r *record) { r.RequestID = "another" }, nil},
		"time changed":       {func(r *record) { r.CreateTime = now }, nil},
	}
	for what, ch := range changes {
		before := seed(t, c, client)
		r, err := c.Get(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		r = r.Copy()
		ch.change(r)
		if err := c.Update(t.Context(), r); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		kept(t, what, before, stored(t, client, "a"), ch.gone)
		if err := c.Remove(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}

	before := seed(t, c, client) // and in the transaction in which another save takes the request over
	r, err := c.Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	r.Node = "changed"
	heir := snapshot.NewSave(conformance.Record("heir", 0).Snapshot, r.RequestID, "", nil)
	if err := c.Begin(t.Context(), heir, r); err != nil {
		t.Fatal(err)
	}
	after := stored(t, client, "a")
	if kept(t, "begin", before, after, nil); after.GetSnapshot().GetNode() != "changed" {
		t.Error("begin does not write the older record")
	}
}

// seed creates the record of a newer version.
func seed(t *testing.T, c *catalog.Catalog, client *clientv3.Client) *catalogv1.Record {
	t.Helper()
	if err := c.Create(t.Context(), conformance.Record("a", 0)); err != nil {
		t.Fatal(err)
	}
	put(t, client, recordKey("a"), edited(t, client, "a", func(m *catalogv1.Record) {
		m.Snapshot.Verification.State = 7
		for name, part := range parts(m) {
			part.ProtoReflect().SetUnknown(newer(name))
		}
	}))
	return stored(t, client, "a")
}

func stored(t *testing.T, client *clientv3.Client, name string) *catalogv1.Record {
	t.Helper()
	v, _ := value(t, client, recordKey(name))
	m := &catalogv1.Record{}
	if err := proto.Unmarshal([]byte(v), m); err != nil {
		t.Fatal(err)
	}
	return m
}

// kept checks that all parts have their unknown fields still, but those that are gone.
func kept(t *testing.T, what string, before, after *catalogv1.Record, gone []string) {
	t.Helper()
	now := parts(after)
	for name := range parts(before) {
		part, ok := now[name]
		var got string
		if ok {
			got = string(part.ProtoReflect().GetUnknown())
		}
		if want := string(newer(name)); slices.Contains(gone, name) {
			if got != "" {
				t.Errorf("%s: the %s has fields of another one: %q", what, name, got)
			}
		} else if got != want {
			t.Errorf("%s: the unknown fields of the %s are %q, want %q", what, name, got, want)
		}
	}
	if !slices.Contains(gone, "verification") && after.GetSnapshot().GetVerification().GetState() != 7 {
		t.Errorf("%s: the verdict became %v", what, after.GetSnapshot().GetVerification().GetState())
	}
}

func TestStoreOfANewerVersionIsKept(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client)})
	if err := c.PutStore(t.Context(), "local", snapshot.Store{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	key := prefix + "stores/local"
	v, _ := value(t, client, key)
	put(t, client, key, v+string(newer("store")))
	s, err := c.Store(t.Context(), "local")
	if err != nil {
		t.Fatal(err)
	}
	s.Initialized = true
	if err := c.PutStore(t.Context(), "local", s); err != nil {
		t.Fatal(err)
	}
	v, _ = value(t, client, key)
	var m catalogv1.Store
	err = proto.Unmarshal([]byte(v), &m)
	if err != nil || !m.GetInitialized() || string(m.ProtoReflect().GetUnknown()) != string(newer("store")) {
		t.Errorf("stored is %q (%v)", v, err)
	}
}
