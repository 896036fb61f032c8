package catalogtest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Record returns a record with every field set, whose creation is age before a fixed time.
func Record(name string, age time.Duration) *snapshot.Record {
	created := time.Date(2026, 3, 14, 15, 9, 26, 535897932, time.UTC).Add(-age)
	return &snapshot.Record{
		Snapshot: snapshot.Snapshot{
			Name: name, Cluster: "default", State: snapshot.StatePartial, Error: "disk full",
			Labels: map[string]string{"team": "a", "kind": "test"}, Pinned: true, Trigger: snapshot.TriggerScheduled,
			CreateTime: created, Duration: 1500 * time.Millisecond, Node: "node-1",
			EtcdVersion: "3.7.3", StorageVersion: "3.7.0", EtcdClusterID: "00000000000000cd", EtcdMemberID: "00000000000000ef",
			Revision: 42, TotalKeys: 7, DBSize: 1 << 40, SHA256: "aa", Hash: 1<<32 - 1,
			Compression: snapshot.CompressionZstd, StoredSize: 1 << 39, StoredSHA256: "bb",
			Locations: []snapshot.Location{
				{Backend: "local", Kind: snapshot.BackendLocal, URI: "file:///x", Size: 5, State: snapshot.StateReady, UpdateTime: created},
				{Backend: "s3", Kind: snapshot.BackendS3, URI: "s3://b/x", State: snapshot.StateFailed, Error: "gone", UpdateTime: created},
			},
			Verification: &snapshot.Verification{
				Level: snapshot.LevelDrill, Error: "damaged", Time: created, Duration: time.Second, Backends: []string{"local"}, HashKV: 1<<32 - 1, Live: "the same", StoredOnly: true,
			},
		},
		RequestID: "request/of " + name,
		Owner:     "node-1/owner",
		Failures:  []snapshot.Failure{{Backend: "s3", Reason: snapshot.ReasonBackendUnavailable, Message: "gone"}},
		Repairs:   []snapshot.Repair{{Backend: "s3", Attempts: 3, Next: time.Unix(1700000000, 5).UTC(), Error: "still gone"}},
		Damaged:   []string{"local"},
		File:      "x.zip",
		Seen:      map[string]time.Time{"local": created},
		Proven:    created,
		KeptOn:    "node-1",
	}
}

func mustCreate(t *testing.T, c snapshot.Catalog, recs ...*snapshot.Record) {
	t.Helper()
	for _, r := range recs {
		if err := c.Create(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
}

func mustGet(t *testing.T, c snapshot.Catalog, name string) *snapshot.Record {
	t.Helper()
	r, err := c.Get(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantErr(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("error %v, want %v", got, want)
	}
}

func same(t *testing.T, got, want *snapshot.Record) {
	t.Helper()
	if g, w := shown(got), shown(want); g != w {
		t.Fatalf("record\n%s\nwant\n%s", g, w)
	}
}

// shown is all of a record.
func shown(r *snapshot.Record) string {
	flat := *r
	var v snapshot.Verification
	if r.Verification != nil {
		v, flat.Verification = *r.Verification, nil
	}
	return fmt.Sprintf("%+v %+v", flat, v)
}
