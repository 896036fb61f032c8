package cluster_test

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/snapshot"
)

// A file under the exact name of a K3s snapshot that cannot be one is a snapshot that failed: whoever counts on it must
// hear of it. It is read once, stays in the catalog as long as it is there, and its bytes are left alone.
func TestFilesOfK3sThatFailedAreRecorded(t *testing.T) {
	f := newFixture(t)
	f.mustReconcile(t)
	db := f.etcdctl(t)
	archive := zipped(t, "x", db)
	flipped := bytes.Clone(db)
	flipped[len(db)/2] ^= 1
	files := map[string]struct {
		content []byte
		why     string
	}{
		"etcd-snapshot-n-1700000001":     {nil, "it is empty"},
		"etcd-snapshot-n-1700000002":     {bytes.Repeat([]byte("x"), 1000), "it ends after 1000 bytes"},
		"etcd-snapshot-n-1700000003":     {bytes.Repeat([]byte("x"), 100_000), "it does not begin like a database of etcd"},
		"etcd-snapshot-n-1700000004":     {db[:len(db)-1000], "it ended after"},
		"etcd-snapshot-n-1700000005":     {flipped, "sha256"},
		"etcd-snapshot-n-1700000006.zip": {nil, "not a whole zip archive"},
		"etcd-snapshot-n-1700000007.zip": {bytes.Repeat([]byte("x"), 1000), "not a whole zip archive"},
		"etcd-snapshot-n-1700000008.zip": {archive[:40], "not a whole zip archive"},
		"etcd-snapshot-n-1700000009.zip": {archive[:len(archive)/2], "not a whole zip archive"},
		"etcd-snapshot-n-1700000010.zip": {archive[:len(archive)-1], "not a whole zip archive"},
	}
	for file, x := range files {
		f.plant(t, "one", file, x.content)
	}
	f.plant(t, "one", "notes-1700000010", nil)
	f.plant(t, "one", "empty.db", nil)
	if dry := f.reconcile(t, cluster.ReconcileRequest{ValidateOnly: true})["one"]; int(dry.Added) != len(files) || dry.Foreign != 2 || dry.Err != nil {
		t.Errorf("dry run: %+v", dry)
	}
	if r := f.mustReconcile(t)["one"]; int(r.Added) != len(files) || r.Foreign != 2 {
		t.Errorf("%+v", r)
	}
	for _, pause := range []time.Duration{0, 2 * time.Minute, 48 * time.Hour} {
		gets := f.backends["one"].gets.Load()
		f.clock.pass(pause)
		if r := f.mustReconcile(t)["one"]; int(r.Unchanged) != len(files) || r.Added+r.Updated+r.Removed != 0 || r.Foreign != 2 {
			t.Errorf("after %s: %+v", pause, r)
		}
		if n := f.backends["one"].gets.Load() - gets; n != 1 { // the marker
			t.Errorf("%d objects were read again", n)
		}
		for file, x := range files {
			rec := f.records(t)[strings.TrimSuffix(file, ".zip")]
			if rec == nil || rec.State() != snapshot.StateFailed || rec.Trigger != snapshot.TriggerAdopted || !rec.Pinned {
				t.Fatalf("%s: %+v", file, rec)
			}
			if l := rec.Location("one"); l.State != snapshot.StateFailed || l.Size != int64(len(x.content)) || !strings.Contains(l.Error, x.why) {
				t.Errorf("%s: %+v", file, l)
			}
		}
	}
	if n := len(f.files(t, "one")); n != len(files)+2 {
		t.Errorf("%d files are left", n)
	}
}

// What becomes of an empty file: a good one in its place is READY, and one that is gone is forgotten.
func TestEmptyFileOfK3sIsReplacedAndRemoved(t *testing.T) {
	f := newFixture(t)
	f.mustReconcile(t)
	path := f.plant(t, "one", k3sFile, nil)
	f.clock.pass(time.Hour)
	f.mustReconcile(t)
	if rec := f.records(t)[k3sFile]; rec == nil || rec.State() != snapshot.StateFailed {
		t.Fatalf("empty: %+v", rec)
	}
	f.plant(t, "one", k3sFile, f.etcdctl(t))
	if r := f.mustReconcile(t)["one"]; r.Updated != 1 {
		t.Errorf("replaced: %+v", r)
	}
	if rec := f.records(t)[k3sFile]; rec.State() != snapshot.StateReady || rec.Revision == 0 {
		t.Errorf("replaced: %+v", rec)
	}
	f.plant(t, "one", k3sFile, nil)
	f.mustReconcile(t)
	if rec := f.records(t)[k3sFile]; rec.State() != snapshot.StateFailed {
		t.Errorf("empty again: %+v", rec)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		f.mustReconcile(t)
	}
	if n := len(f.records(t)); n != 0 {
		t.Errorf("gone: %d records", n)
	}
}

// Deleting the record of an empty file deletes the file: otherwise the next reconciliation would bring it back.
func TestEmptyFileOfK3sCanBeDeleted(t *testing.T) {
	f := newFixture(t)
	f.mustReconcile(t)
	f.plant(t, "one", k3sFile, nil)
	f.mustReconcile(t)
	if _, err := f.Update(t.Context(), cluster.UpdateRequest{Name: k3sFile, Pinned: new(false)}); err != nil {
		t.Fatal(err)
	}
	elsewhere := f.replica(t, func(c *cluster.Config) { c.Backends = c.Backends[1:] })
	if _, err := elsewhere.Delete(t.Context(), cluster.DeleteRequest{Name: k3sFile}); snapshot.ReasonOf(err) != snapshot.ReasonBackendNotFound {
		t.Errorf("where its backend is not configured: %v", err)
	}
	if rec, err := f.Delete(t.Context(), cluster.DeleteRequest{Name: k3sFile}); err != nil || rec != nil {
		t.Errorf("%+v, %v", rec, err)
	}
	if files := f.files(t, "one"); len(files) != 0 {
		t.Errorf("left: %q", files)
	}
	f.mustReconcile(t)
	if n := len(f.records(t)); n != 0 {
		t.Errorf("%d records", n)
	}
}

// A file that failed on one backend does not hide a good one in another form on the other.
func TestGoodFormOfAFileOfK3sIsAdopted(t *testing.T) {
	f := newFixture(t)
	f.mustReconcile(t)
	f.plant(t, "one", k3sFile, nil)
	f.plant(t, "two", k3sFile+".zip", zipped(t, "x", f.etcdctl(t)))
	f.mustReconcile(t)
	rec := f.records(t)[k3sFile]
	if rec == nil || rec.State() != snapshot.StateReady || rec.File != k3sFile+".zip" || len(rec.ReadyOn()) != 1 {
		t.Fatalf("%+v", rec)
	}
	f.mustReconcile(t)
	if again := f.records(t)[k3sFile]; again.State() != snapshot.StateReady || len(again.Locations()) != 1 {
		t.Errorf("and then %+v", again)
	}
}

// A size that somebody wrote into the catalog is never small enough for a disk, nor the length of a download below
// zero.
func TestSizesInTheCatalogDoNotOverflow(t *testing.T) {
	f := newFixture(t, func(c *cluster.Config) { c.Driller = &fakeDriller{} })
	f.mustReconcile(t)
	f.plant(t, "one", k3sFile, f.etcdctl(t))
	f.mustReconcile(t)
	rec := f.records(t)[k3sFile]
	rec.DBSize = math.MaxInt64
	if err := f.catalog.Update(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	_, err := f.Verify(t.Context(), cluster.VerifyRequest{Name: k3sFile, Level: snapshot.LevelDrill})
	if snapshot.ReasonOf(err) != snapshot.ReasonNoSpace {
		t.Errorf("drill: %v", err)
	}
	d, err := f.Download(t.Context(), cluster.DownloadRequest{Name: k3sFile, Decoded: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	if d.Size <= 0 {
		t.Errorf("a download of %d bytes", d.Size)
	}
	if _, err := os.Stat(filepath.Join(f.dirs["one"], "default", k3sFile)); err != nil {
		t.Error(err)
	}
}
