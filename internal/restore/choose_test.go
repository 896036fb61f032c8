package restore_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/internal/restore"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/snapshot"
)

// faulty is a backend of which some objects cannot be read.
type faulty struct {
	*memory.Backend
	get  func(key string) error
	hide string // a listing does not show keys that end so
}

func (f *faulty) List(ctx context.Context, prefix string) iter.Seq2[repository.Object, error] {
	return func(yield func(repository.Object, error) bool) {
		for o, err := range f.Backend.List(ctx, prefix) {
			if hidden := err == nil && f.hide != "" && strings.HasSuffix(o.Key, f.hide); !hidden && !yield(o, err) {
				return
			}
		}
	}
}

func (f *faulty) Get(ctx context.Context, key string, r repository.Range) (io.ReadCloser, error) {
	if f.get != nil {
		if err := f.get(key); err != nil {
			return nil, err
		}
	}
	return f.Backend.Get(ctx, key, r)
}

var now = time.Date(2026, 7, 15, 12, 0, 0, 0, time.UTC)

// store puts a snapshot that was taken some time ago on a backend, and returns its name.
func store(t *testing.T, b *memory.Backend, age time.Duration) string {
	t.Helper()
	return storeData(t, b, age, testenv.Stored(t, 0).Data, nil)
}

// storeData puts a snapshot with any data on a backend; forge changes the manifest.
func storeData(t *testing.T, b *memory.Backend, age time.Duration, data []byte, forge func(*snapshot.Snapshot)) string {
	t.Helper()
	db := data[:len(data)-repository.ChecksumSize]
	sum := func(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:]) }
	created := now.Add(-age)
	s := snapshot.Snapshot{
		Name: fmt.Sprintf("on-demand-node-1-%d", created.Unix()), Cluster: "default", Trigger: snapshot.TriggerManual, CreateTime: created,
		Node: "node-1", Revision: 52, TotalKeys: 51, DBSize: int64(len(db)), SHA256: sum(db), Compression: snapshot.CompressionNone,
		StoredSize: int64(len(data)), StoredSHA256: sum(data),
	}
	if found, err := inspect(t, data); err == nil {
		s.Revision, s.TotalKeys, s.Hash, s.Alarms = found.Revision, found.TotalKeys, found.Hash, found.Alarms
	}
	if forge != nil {
		forge(&s)
	}
	rec := snapshot.NewSave(s, "", "", nil)
	doc, err := repository.EncodeManifest(rec, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.Set("default/"+rec.DataKey(), data)
	b.Set("default/"+snapshot.ManifestKey(rec.Name), doc)
	return rec.Name
}

func TestOnlyDamageGoesBackToAnOlderSnapshot(t *testing.T) {
	t.Parallel()
	denied := snapshot.ReasonBackendAccessDenied.New("get it").On("one")
	away := snapshot.ReasonBackendUnavailable.New("get it").On("one")
	for _, tc := range []struct {
		name   string
		spoil  func(b *faulty, newest string)
		older  bool // it is accepted
		named  bool // the newest is asked for by its name
		took   bool // the older one is taken
		reason snapshot.Reason
	}{
		{name: "damaged manifest", spoil: func(b *faulty, newest string) { b.Set("default/"+newest+".json", []byte("{")) }, took: true},
		{name: "data is missing", spoil: func(b *faulty, newest string) { b.Remove("default/" + newest + ".db") }, took: true},
		{name: "data is missing, by its name", spoil: func(b *faulty, newest string) { b.Remove("default/" + newest + ".db") }, named: true,
			reason: snapshot.ReasonSnapshotUnreadable},
		{name: "data is not listed", spoil: func(b *faulty, newest string) { b.hide = newest + ".db" }, reason: snapshot.ReasonBackendUnavailable},
		{name: "manifest is not listed", spoil: func(b *faulty, newest string) { b.hide = newest + ".json" }, reason: snapshot.ReasonBackendUnavailable},
		{name: "data denied", spoil: func(b *faulty, newest string) { b.get = failOn(newest+".db", denied) }, reason: snapshot.ReasonBackendAccessDenied},
		{name: "data away", spoil: func(b *faulty, newest string) { b.get = failOn(newest+".db", away) }, reason: snapshot.ReasonBackendUnavailable},
		{name: "manifest denied", spoil: func(b *faulty, newest string) { b.get = failOn(newest+".json", denied) }, reason: snapshot.ReasonBackendAccessDenied},
		{name: "accepted", spoil: func(b *faulty, newest string) { b.get = failOn(newest+".db", denied) }, older: true, took: true},
		{name: "by its name", spoil: func(b *faulty, newest string) { b.get = failOn(newest+".db", denied) }, named: true, reason: snapshot.ReasonBackendAccessDenied},
		{name: "damaged, by its name", spoil: func(b *faulty, newest string) { b.Set("default/"+newest+".json", []byte("{")) }, named: true,
			reason: snapshot.ReasonSnapshotUnreadable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := &faulty{Backend: memory.New("one", snapshot.BackendLocal)}
			older, newest := store(t, b.Backend, 2*time.Hour), store(t, b.Backend, time.Hour)
			tc.spoil(b, newest)
			choice := restore.Choice{Latest: true, AcceptOlder: tc.older, Now: now}
			if tc.named {
				choice = restore.Choice{Name: newest, Now: now}
			}
			res, err := plan(t, choice, b)
			if tc.took {
				if err != nil || res.Snapshot.Name != older || len(res.Skipped) == 0 {
					t.Fatalf("%+v, %v", res, err)
				}
				return
			}
			if snapshot.ReasonOf(err) != tc.reason {
				t.Errorf("%v, want %s", err, tc.reason)
			}
		})
	}
}

func failOn(suffix string, err error) func(string) error {
	return func(key string) error {
		if strings.HasSuffix(key, suffix) {
			return err
		}
		return nil
	}
}

func plan(t *testing.T, c restore.Choice, backends ...repository.Backend) (restore.Result, error) {
	t.Helper()
	var repos []*repository.Repository
	for _, b := range backends {
		repos = append(repos, repository.New(repository.Config{Backend: b, Prefix: "default/"}))
	}
	return restore.Plan(t.Context(), restore.Options{Repositories: repos, Choice: c, DataDir: filepath.Join(t.TempDir(), "data")})
}

// A backend that cannot be listed may have a newer snapshot than the others.
func TestBackendThatCannotBeListedEndsARestoreOfTheLatest(t *testing.T) {
	t.Parallel()
	good, gone := memory.New("good", snapshot.BackendLocal), memory.New("gone", snapshot.BackendS3)
	name := store(t, good, time.Hour)
	gone.Vanish()
	if _, err := plan(t, restore.Choice{Latest: true, Now: now}, good, gone); snapshot.ReasonOf(err) != snapshot.ReasonBackendNotFound ||
		!strings.Contains(err.Error(), "--accept-older") {
		t.Errorf("latest: %v", err)
	}
	for _, c := range []restore.Choice{{Latest: true, AcceptOlder: true, Now: now}, {Name: name, Now: now}} {
		if res, err := plan(t, c, good, gone); err != nil || res.Snapshot.Name != name {
			t.Errorf("%+v: %+v, %v", c, res, err)
		}
	}
}

func TestTheLatestIsNeverOfTheFuture(t *testing.T) {
	t.Parallel()
	b := memory.New("one", snapshot.BackendLocal)
	name, future := store(t, b, time.Hour), store(t, b, -48*time.Hour)
	if res, err := plan(t, restore.Choice{Latest: true, Now: now}, b); err != nil || res.Snapshot.Name != name || len(res.Skipped) != 1 {
		t.Errorf("latest: %+v, %v", res, err)
	}
	if res, err := plan(t, restore.Choice{Name: future, Now: now}, b); err != nil || res.Snapshot.Name != future {
		t.Errorf("by its name: %+v, %v", res, err)
	}
}
