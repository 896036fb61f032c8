package cluster_test

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/snapshot/retention"
)

const k3sFile = "etcd-snapshot-server-1-1700000000"

// etcdctl returns the file that etcdctl and K3s make of the fixture's etcd.
func (f *fixture) etcdctl(t *testing.T) []byte {
	t.Helper()
	return f.stored.current().Data
}

// zipped returns an archive of one file, as K3s makes it.
func zipped(t *testing.T, name string, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	e, err := w.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate})
	if err == nil {
		_, err = e.Write(content)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// plant puts a file where the cluster's snapshots are, old enough to be whole.
func (f *fixture) plant(t *testing.T, backend, file string, content []byte) string {
	t.Helper()
	path := filepath.Join(f.dirs[backend], "default", file)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	old := f.clock.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSnapshotsOfOthersAreAdopted(t *testing.T) {
	f := newFixture(t)
	ours := f.mustSave(t)
	db := f.etcdctl(t)
	for file, content := range map[string][]byte{
		k3sFile:                        db,
		"on-demand-a-b-1700000100.zip": zipped(t, "../../../etc/passwd", db),
		"backup.db":                    db,
	} {
		f.plant(t, "one", file, content)
	}
	f.plant(t, "one", ".metadata/"+k3sFile, []byte(`{"cluster": "prod", "n": 5, "long": "`+strings.Repeat("x", 300)+`"}`))
	f.plant(t, "one", "../.metadata/on-demand-a-b-1700000100.zip", []byte(`{"cluster": "above"}`)) // as on K3s' disk

	if dry := f.reconcile(t, cluster.ReconcileRequest{ValidateOnly: true}); dry["one"].Added != 3 || len(f.records(t)) != 1 {
		t.Errorf("dry run: %+v, and %d records", dry["one"], len(f.records(t)))
	}
	if r := f.mustReconcile(t)["one"]; r.Added != 3 || r.Listed != 4 || r.Foreign != 0 {
		t.Fatalf("reconcile: %+v", r)
	}
	records := f.records(t)
	for name, want := range map[string]snapshot.Snapshot{
		k3sFile:                    {Node: "server-1", CreateTime: time.Unix(1_700_000_000, 0).UTC(), Compression: snapshot.CompressionNone},
		"on-demand-a-b-1700000100": {Node: "a-b", CreateTime: time.Unix(1_700_000_100, 0).UTC(), Compression: snapshot.CompressionZip},
		"backup":                   {CreateTime: f.clock.Now().Add(-time.Hour), Compression: snapshot.CompressionNone},
	} {
		rec := records[name]
		if rec == nil {
			t.Errorf("%s is not in the catalog", name)
			continue
		}
		if rec.State() != snapshot.StateReady || rec.Trigger != snapshot.TriggerAdopted || !rec.Pinned || rec.Node != want.Node ||
			rec.CreateTime.Sub(want.CreateTime).Abs() > time.Minute || rec.Compression != want.Compression {
			t.Errorf("%s: %+v", name, rec)
		}
		if rec.TotalKeys < 50 || rec.DBSize+32 != int64(len(db)) || rec.Revision < ours.Revision || rec.SHA256 == "" || rec.Hash == 0 {
			t.Errorf("%s was not inspected: %+v", name, rec.Snapshot)
		}
		got, err := readCopy(t, f.backends["one"], rec)
		if err != nil || !bytes.Equal(got, db) {
			t.Errorf("%s is read as %d bytes, %v", name, len(got), err)
		}
	}
	if labels := records[k3sFile].Labels; len(labels) != 1 || labels["cluster"] != "prod" {
		t.Errorf("labels %v", labels)
	}
	if labels := records["on-demand-a-b-1700000100"].Labels; labels["cluster"] != "above" {
		t.Errorf("labels of the other one %v", labels)
	}

	gets := f.backends["one"].gets.Load()
	for what := range 2 {
		if r := f.mustReconcile(t)["one"]; r.Unchanged != 4 || r.Listed != 4 || r.Added+r.Updated+r.Removed != 0 {
			t.Errorf("run %d after it: %+v", what, r)
		}
	}
	if n := f.backends["one"].gets.Load() - gets; n != 2 { // the marker, twice
		t.Errorf("%d objects were read again", n)
	}
	if !bytes.Equal(read(t, filepath.Join(f.dirs["one"], "default", k3sFile)), db) || slices.ContainsFunc(f.files(t, "one"), func(n string) bool {
		return strings.HasSuffix(n, k3sFile+".json")
	}) {
		t.Error("something was written beside it, or into it")
	}
	if _, err := f.Delete(t.Context(), cluster.DeleteRequest{Name: k3sFile}); snapshot.ReasonOf(err) != snapshot.ReasonPinned {
		t.Errorf("delete: %v", err)
	}
}

func readCopy(t *testing.T, b repository.Backend, rec *snapshot.Record) ([]byte, error) {
	t.Helper()
	r, err := place(b, nil).OpenCopy(t.Context(), rec, age.Identities{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	return io.ReadAll(r)
}

// One snapshot on two backends is one record, if they hold the same; a copy that was removed loses its location.
func TestAdoptedOnTwoBackends(t *testing.T) {
	f := newFixture(t)
	f.mustReconcile(t)
	db := f.etcdctl(t)
	f.plant(t, "one", k3sFile, db)
	f.plant(t, "two", k3sFile, db)
	f.mustReconcile(t)
	if rec := f.records(t)[k3sFile]; rec == nil || rec.State() != snapshot.StateReady || len(rec.Locations()) != 2 {
		t.Fatalf("%+v", rec)
	}
	f.stored.write()
	f.plant(t, "two", k3sFile, f.etcdctl(t))
	changed := filepath.Join(f.dirs["two"], "default", k3sFile)
	if err := os.Chtimes(changed, time.Now(), time.Now()); err != nil {
		t.Fatal(err)
	}
	f.mustReconcile(t)
	rec := f.records(t)[k3sFile]
	if l := rec.Location("two"); rec.State() != snapshot.StatePartial || l.State != snapshot.StateFailed || !strings.Contains(l.Error, "another snapshot") {
		t.Errorf("when one of them is another: %v, %+v", rec.State(), l)
	}
	if err := os.Remove(changed); err != nil {
		t.Fatal(err)
	}
	if r := f.mustReconcile(t); r["two"].Removed != 1 {
		t.Errorf("%+v", r)
	}
	if rec := f.records(t)[k3sFile]; rec.State() != snapshot.StateReady || len(rec.Locations()) != 1 {
		t.Errorf("%+v", rec)
	}
	if err := os.Remove(filepath.Join(f.dirs["one"], "default", k3sFile)); err != nil {
		t.Fatal(err)
	}
	f.mustReconcile(t)
	if rec := f.records(t)[k3sFile]; rec != nil {
		t.Errorf("gone everywhere: %+v", rec)
	}
}

// What is damaged is in the catalog, FAILED, and is read once; what is no snapshot is left in peace.
func TestWhatIsDamagedOrNoSnapshotIsNotReady(t *testing.T) {
	f := newFixture(t)
	f.mustReconcile(t)
	db := f.etcdctl(t)
	flipped := bytes.Clone(db)
	flipped[len(db)/2] ^= 1
	archive := zipped(t, "x", db)
	bomb := zipped(t, "x", append(bytes.Clone(db), make([]byte, 50<<20)...))
	failed := map[string][]byte{
		"flipped-1700000001":    flipped,
		"cut-1700000002":        db[:len(db)-1000],
		"nosum-1700000003":      db[:len(db)-32], // a file of a data directory
		"cutzip-1700000004.zip": archive[:len(archive)-1],
		"bomb-1700000005.zip":   bomb,
		"longer-1700000006":     append(bytes.Clone(db), make([]byte, 512)...),
	}
	foreign := map[string][]byte{
		"notes-1700000010":     []byte("not a snapshot"),
		"text-1700000011.zip":  zipped(t, "x", []byte("not a snapshot either")),
		"rubbish.db":           bytes.Repeat([]byte("rubbish"), 5000),
		"empty-1700000012":     nil,
		"empty-1700000013.zip": nil,
	}
	for _, files := range []map[string][]byte{failed, foreign} {
		for file, content := range files {
			f.plant(t, "one", file, content)
		}
	}
	f.plant(t, "one", "young-1700000020", db)
	now := f.clock.Now()
	if err := os.Chtimes(filepath.Join(f.dirs["one"], "default", "young-1700000020"), now, now); err != nil {
		t.Fatal(err)
	}
	r := f.mustReconcile(t)["one"]
	if int(r.Added) != len(failed) || int(r.Foreign) != len(foreign)+1 {
		t.Errorf("%+v, want %d added and %d foreign", r, len(failed), len(foreign)+1)
	}
	records := f.records(t)
	for file := range failed {
		rec := records[strings.TrimSuffix(file, ".zip")]
		if rec == nil || rec.State() != snapshot.StateFailed || rec.ErrorText() == "" || rec.Location("one").Size == 0 {
			t.Errorf("%s: %+v", file, rec)
		}
	}
	if len(records) != len(failed) {
		t.Errorf("%d records, want %d", len(records), len(failed))
	}
	gets := f.backends["one"].gets.Load()
	f.clock.pass(48 * time.Hour) // the record of a failed save would be forgotten by now
	f.mustReconcile(t)
	// The marker, and the young one, which is old enough now.
	if n := f.backends["one"].gets.Load() - gets; n != 2 {
		t.Errorf("%d objects were read", n)
	}
	if got := f.records(t); got["young-1700000020"] == nil || len(got) != len(failed)+1 {
		t.Errorf("%d records afterwards", len(got))
	}
	if got := len(f.files(t, "one")); got != len(failed)+len(foreign)+1 {
		t.Errorf("%d files are left", got)
	}
}

// A backend that breaks off says nothing about the snapshot; the next run reads it.
func TestAdoptionGoesOnAfterAnError(t *testing.T) {
	f := newFixture(t)
	f.mustReconcile(t)
	for i := range 3 {
		f.plant(t, "one", fmt.Sprintf("etcd-snapshot-n-170000000%d", i), f.etcdctl(t))
	}
	f.backends["one"].get = func(key string) error {
		if strings.HasSuffix(key, "1") {
			return &snapshot.Error{Reason: snapshot.ReasonBackendUnavailable, Backend: "one", Message: "it is down"}
		}
		return nil
	}
	reports := f.reconcile(t, cluster.ReconcileRequest{})
	if snapshot.ReasonOf(reports["one"].Err) != snapshot.ReasonBackendUnavailable || len(f.records(t)) != 2 {
		t.Errorf("%+v, and %d records", reports["one"], len(f.records(t)))
	}
	f.backends["one"].get = nil
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Reconcile(ctx, cluster.ReconcileRequest{}); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("cancelled: %v", err)
	}
	f.mustReconcile(t)
	if len(f.records(t)) != 3 {
		t.Errorf("%d records in the end", len(f.records(t)))
	}
}

// Once it is unpinned, an adopted snapshot can be deleted; a file that took its place is left alone, and so is what K3s
// keeps beside it.
func TestAdoptedCanBeDeleted(t *testing.T) {
	f := newFixture(t)
	f.mustReconcile(t)
	db := f.etcdctl(t)
	path := f.plant(t, "one", k3sFile, db)
	beside := f.plant(t, "one", k3sFile+".json", []byte("{}")) // not a manifest of ours
	if f.mustReconcile(t); len(f.records(t)) != 0 {
		t.Fatalf("it was adopted with something beside it that may be a manifest: %v", f.records(t))
	}
	if err := os.Remove(beside); err != nil {
		t.Fatal(err)
	}
	f.mustReconcile(t)
	if _, err := f.Update(t.Context(), cluster.UpdateRequest{Name: k3sFile, Pinned: new(false)}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, db[:100], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Delete(t.Context(), cluster.DeleteRequest{Name: k3sFile}); snapshot.ReasonOf(err) != snapshot.ReasonConflict {
		t.Errorf("another file: %v", err)
	}
	f.plant(t, "one", k3sFile, db)
	f.plant(t, "one", k3sFile+".json", []byte("{}"))
	if rec, err := f.Delete(t.Context(), cluster.DeleteRequest{Name: k3sFile}); err != nil || rec != nil {
		t.Errorf("delete: %+v, %v", rec, err)
	}
	if got := f.files(t, "one"); !slices.Equal(got, []string{"default/" + k3sFile + ".json"}) {
		t.Errorf("left: %q", got)
	}
}

// The pin of an adopted file is in no manifest. Whoever can write to etcd can take it out of the record, and the file
// stays.
func TestTheCatalogAloneUnpinsNoFileOfAnotherProgram(t *testing.T) {
	f := newFixture(t, keeping(retention.Rules{KeepLast: 1, OnDemand: true, Adopted: true}))
	f.plant(t, "one", k3sFile, f.etcdctl(t))
	f.mustReconcile(t)
	f.scheduled(t, 2)
	f.forged(t, k3sFile, func(rec *snapshot.Record, _ *snapshot.Status, _ *snapshot.Bookkeeping) { rec.Pinned = false })
	if _, err := f.Update(t.Context(), cluster.UpdateRequest{Name: k3sFile, Labels: map[string]string{"a": "b"}}); err != nil {
		t.Fatal(err)
	}
	prune := func() cluster.Decision {
		t.Helper()
		decisions, err := f.Prune(t.Context(), cluster.PruneRequest{Backends: []string{"one"}})
		if err != nil {
			t.Fatal(err)
		}
		return decisions[len(decisions)-1]
	}
	if d := prune(); d.Name != k3sFile || snapshot.ReasonOf(d.Err) != snapshot.ReasonPinned || !strings.Contains(d.Err.Error(), "--unpin") {
		t.Errorf("prune: %+v", d)
	}
	if _, err := f.Delete(t.Context(), cluster.DeleteRequest{Name: k3sFile}); snapshot.ReasonOf(err) != snapshot.ReasonPinned {
		t.Errorf("delete: %v", err)
	}
	for _, pinned := range []bool{false, true, false} {
		if _, err := f.Update(t.Context(), cluster.UpdateRequest{Name: k3sFile, Pinned: &pinned}); err != nil {
			t.Fatal(err)
		}
	}
	if r := f.mustReconcile(t)["one"]; r.Foreign+r.Added+r.Updated > 0 {
		t.Errorf("the note changes something: %+v", r)
	}
	if d := prune(); d.Name != k3sFile || d.Stays || d.Err != nil {
		t.Errorf("prune, once it is unpinned: %+v", d)
	}
	if left := strings.Join(f.files(t, "one"), " "); strings.Contains(left, k3sFile) {
		t.Errorf("left %s", left)
	}
}

// Where only what is signed is believed, what somebody has put there is no snapshot.
func TestNothingIsAdoptedWhereOnlySignedManifestsAreBelieved(t *testing.T) {
	f := newFixture(t, signed(t))
	f.mustSave(t)
	f.plant(t, "one", k3sFile, f.etcdctl(t))
	if r := f.mustReconcile(t)["one"]; r.Foreign != 1 || r.Added != 0 || len(f.records(t)) != 1 {
		t.Errorf("%+v, and %d records", r, len(f.records(t)))
	}
}

// What was no snapshot is not read again as long as it is there; what comes in its place is, whatever its size and
// time.
func TestWhatWasNoSnapshotIsForgottenWhenItIsGone(t *testing.T) {
	f := newFixture(t)
	f.mustSave(t)
	db := f.etcdctl(t)
	path := f.plant(t, "one", "backup.db", make([]byte, len(db)))
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		f.clock.pass(time.Minute)
		if r := f.mustReconcile(t)["one"]; r.Foreign != 1 || r.Added != 0 {
			t.Fatalf("no snapshot: %+v", r)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	f.clock.pass(time.Minute)
	f.mustReconcile(t)
	f.plant(t, "one", "backup.db", db)
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	f.clock.pass(time.Minute)
	if r := f.mustReconcile(t)["one"]; r.Added != 1 || r.Foreign != 0 {
		t.Errorf("a snapshot in its place: %+v", r)
	}
}
