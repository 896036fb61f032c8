package conformance

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Record returns a PARTIAL record with every field set, whose creation is age before a fixed time.
func Record(name string, age time.Duration) *snapshot.Record {
	created := time.Date(2026, 3, 14, 15, 9, 26, 535897932, time.UTC).Add(-age)
	s := snapshot.WithStatus(snapshot.Snapshot{
		Name: name, Cluster: "default", Labels: map[string]string{"team": "a", "kind": "test"}, Pinned: true,
		Trigger: snapshot.TriggerScheduled, CreateTime: created, Duration: 1500 * time.Millisecond, Node: "node-1",
		EtcdVersion: "3.7.3", StorageVersion: "3.7.0",
		EtcdClusterID: "00000000000000cd", EtcdMemberID: "00000000000000ef",
		Revision: 42, OldestRevision: 12, TotalKeys: 7, DBSize: 1 << 40, SHA256: "aa", Hash: 1<<32 - 1,
		Compression: snapshot.CompressionZstd, EncryptionRecipients: []string{"age1x"},
		Alarms: []string{"NOSPACE 00000000000000ef"}, StoredSize: 1 << 39, StoredSHA256: "bb",
		Verification: &snapshot.Verification{
			Level: snapshot.LevelDrill, Error: "damaged", Time: created, Duration: time.Second,
			Backends: []string{"local"}, HashKV: 1<<32 - 1, Live: "the same", StoredOnly: true,
		},
		Earlier: []snapshot.Verification{
			{
				Level: snapshot.LevelChecksum, Passed: true, Time: created.Add(-time.Minute), Duration: time.Second,
				Backends: []string{"s3"},
			},
			{
				Level: snapshot.LevelStructure, Error: "bad", Time: created.Add(-time.Hour),
				Backends: []string{"local", "s3"}, StoredOnly: true,
			},
		},
		Proof: &snapshot.Verification{
			Level: snapshot.LevelDrill, Passed: true, Time: created.Add(-time.Hour), Duration: time.Minute,
			Backends: []string{"s3"}, HashKV: 7, Live: "the same", Disarmed: []string{"NOSPACE 00000000000000ef"},
		},
		JournalProof: &snapshot.Verification{
			Level: snapshot.LevelDrill, Error: "another history", Time: created.Add(time.Minute), Duration: time.Second,
			Backends: []string{"s3"}, HashKV: 9, Live: "from another one",
		},
	}, snapshot.Status{State: snapshot.StatePartial, Error: "disk full", Locations: []snapshot.Location{
		{
			Backend: "local", Kind: snapshot.BackendLocal, URI: "file:///x", Size: 5,
			State: snapshot.StateReady, UpdateTime: created,
		},
		{
			Backend: "s3", Kind: snapshot.BackendS3, URI: "s3://b/x",
			State: snapshot.StateFailed, Error: "gone", UpdateTime: created,
		},
	}})
	r := snapshot.WithBookkeeping(s, snapshot.Bookkeeping{
		Owner:    "node-1/owner",
		Failures: []snapshot.Failure{{Backend: "s3", Reason: snapshot.ReasonBackendUnavailable, Message: "gone"}},
		Repairs: []snapshot.Repair{
			{Backend: "s3", Attempts: 3, Next: time.Unix(1700000000, 5).UTC(), Error: "still gone"},
		},
		Damaged: []string{"local"}, SupersededBy: "another", FallbackNode: "node-1", TimelineEnded: true,
	})
	r.RequestID, r.File = "request/of "+name, "x.zip"
	r.Seen = map[string]time.Time{"local": created, "s3": created.Add(time.Hour)}
	return r
}

// saving returns the record of a save that begins.
func saving(name string, age time.Duration, requestID, owner string) *snapshot.Record {
	return snapshot.NewSave(Record(name, age).Snapshot, requestID, owner, nil)
}

func mustCreate(t *testing.T, c Catalog, recs ...*snapshot.Record) {
	t.Helper()
	for _, r := range recs {
		if err := c.Records.Create(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
}

func mustGet(t *testing.T, c Catalog, name string) *snapshot.Record {
	t.Helper()
	r, err := c.Records.Get(t.Context(), name)
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

// shown returns all of a record as text.
func shown(r *snapshot.Record) string {
	flat := *snapshot.WithStatus(r.Snapshot, snapshot.Status{})
	var v, proof, journal snapshot.Verification
	if flat.Verification != nil {
		v, flat.Verification = *flat.Verification, nil
	}
	if flat.Proof != nil {
		proof, flat.Proof = *flat.Proof, nil
	}
	if flat.JournalProof != nil {
		journal, flat.JournalProof = *flat.JournalProof, nil
	}
	return fmt.Sprintf("%+v\nverified %+v\nproof %+v\njournal %+v\nstatus %v %q %+v\nbookkeeping %+v\nrecord %q %q %v %d",
		flat, v, proof, journal, r.State(), r.ErrorText(), r.Locations(), r.Bookkeeping(), r.RequestID, r.File, r.Seen,
		r.Version)
}
