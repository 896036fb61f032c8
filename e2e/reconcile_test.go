//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// counts are the counts of findings and changes in a backend's report.
type counts struct{ listed, unchanged, added, updated, removed, foreign int64 }

// countsOf returns the counts of each backend.
func countsOf(rec reconciliation) map[string]counts {
	all := map[string]counts{}
	for _, b := range rec.Backends {
		all[b.Backend] = counts{b.Listed, b.Unchanged, b.Added, b.Updated, b.Removed, b.Foreign}
	}
	return all
}

// wantCounts compares a reconciliation with the expected one.
func wantCounts(t *testing.T, what string, rec reconciliation, r result, want map[string]counts) {
	t.Helper()
	if r.code != 0 {
		t.Errorf("%s: exit code %d: %s", what, r.code, r.stderr)
	}
	for backend, got := range countsOf(rec) {
		if got != want[backend] {
			t.Errorf("%s: %s is %+v, want %+v", what, backend, got, want[backend])
		}
	}
	if len(rec.Backends) != len(want) {
		t.Errorf("%s: %d backends", what, len(rec.Backends))
	}
}

// reconciled waits for the reconcile that a service begins by itself, so that it does not meet the test's edits.
func (s *service) reconciled() {
	s.t.Helper()
	eventually(s.t, "the first reconcile is over", func() bool {
		return s.scrape()[`etcd_snapshot_reconcile_duration_seconds_count{status="success"}`] > 0
	})
}

// hand edits a backend behind the service's back.
type hand interface {
	put(key string, content []byte)
	remove(key string)
}

type localHand struct {
	t *testing.T
	w *world
}

func (h localHand) path(key string) string { return filepath.Join(h.w.dir, "default", key) }

func (h localHand) put(key string, content []byte) {
	h.t.Helper()
	if err := os.WriteFile(h.path(key), content, 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h localHand) remove(key string) {
	h.t.Helper()
	if err := os.Remove(h.path(key)); err != nil {
		h.t.Fatal(err)
	}
}

type s3Hand struct {
	t *testing.T
	w *world
}

func (h s3Hand) put(key string, content []byte) {
	h.t.Helper()
	_, err := h.w.s3.Client().PutObject(h.t.Context(), &s3.PutObjectInput{
		Bucket: aws.String(h.w.bucket), Key: aws.String("etcd/default/" + key), Body: bytes.NewReader(content),
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h s3Hand) remove(key string) {
	h.t.Helper()
	_, err := h.w.s3.Client().DeleteObject(h.t.Context(), &s3.DeleteObjectInput{
		Bucket: aws.String(h.w.bucket), Key: aws.String("etcd/default/" + key),
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

// removePair removes a snapshot from a backend.
func removePair(h hand, name string) {
	h.remove(name + ".db.zst")
	h.remove(name + ".json")
}

// copyOf returns the data of a snapshot, and its manifest under another name and with yesterday's date: a record
// younger than a minute would not be removed.
func (w *world) copyOf(t *testing.T, name, as string) (data, manifest []byte) {
	t.Helper()
	var doc map[string]any
	decode(t, string(w.object(t, "default/"+name+".json")), &doc)
	doc["name"], doc["createTime"] = as, time.Now().Add(-24*time.Hour).UTC()
	manifest, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return w.object(t, "default/"+name+".db.zst"), manifest
}

// TestReconcileRepairsTheCatalogExactlyAfterHandEdits deletes, renames, damages and adds files and objects, and
// compares each count and each location with these changes. A dry run reports the same and changes nothing; a second
// run finds nothing.
func TestReconcileRepairsTheCatalogExactlyAfterHandEdits(t *testing.T) {
	w := newWorld(t, 0)
	s := start(t, w.options(), w.args(t, "")...)
	s.reconciled()
	local, remote := localHand{t, w}, s3Hand{t, w}
	whole, noLocal, noS3, renamed, bare, short := s.save(), s.save(), s.save(), s.save(), s.save(), s.save()
	const old, added, addedLocal = "old-node-1-1700000000", "added-node-1-1700000001", "added-node-1-1700000002"
	give := func(name string, hands ...hand) {
		data, manifest := w.copyOf(t, whole, name)
		for _, h := range hands {
			h.put(name+".db.zst", data)
			h.put(name+".json", manifest)
		}
	}
	give(old, local, remote)
	rec, r := s.reconcile()
	six := counts{listed: 7, unchanged: 6, added: 1}
	wantCounts(t, "with an old copy", rec, r, map[string]counts{"local": six, "s3": six})

	removePair(local, noLocal)
	removePair(remote, noS3)
	data, manifest := w.object(t, "default/"+renamed+".db.zst"), w.object(t, "default/"+renamed+".json")
	removePair(remote, renamed)
	remote.put("elsewhere.db.zst", data)
	remote.put("elsewhere.json", manifest)
	remote.remove(bare + ".json")
	local.put(short+".db.zst", data[:len(data)/2])
	removePair(local, old)
	removePair(remote, old)
	give(added, local, remote)
	give(addedLocal, local)
	local.put("notes.txt", []byte("mine"))
	remote.put("notes.txt", []byte("mine"))

	before := s.must("list", "-o", "json")
	want := map[string]counts{
		"local": {listed: 7, unchanged: 4, added: 2, updated: 1, removed: 2, foreign: 1},
		"s3":    {listed: 4, unchanged: 3, added: 1, updated: 1, removed: 3, foreign: 3},
	}
	rec, r = s.reconcile("--dry-run")
	wantCounts(t, "dry run", rec, r, want)
	if after := s.must("list", "-o", "json"); after != before {
		t.Errorf("the dry run has changed the catalog:\n%s\nbefore\n%s", after, before)
	}
	rec, r = s.reconcile()
	wantCounts(t, "after hand edits", rec, r, want)
	both := "READY: local READY, s3 READY"
	wantLocations := map[string]string{
		whole: both, noLocal: "READY: s3 READY", noS3: "READY: local READY", renamed: "READY: local READY",
		bare: "PARTIAL: local READY, s3 FAILED", short: "PARTIAL: local FAILED, s3 READY",
		added: both, addedLocal: "PARTIAL: local READY, s3 FAILED", // its manifest names both
	}
	got := s.locations()
	for name, want := range wantLocations {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	if len(got) != len(wantLocations) {
		t.Errorf("%d records, want %d: %v", len(got), len(wantLocations), got)
	}

	before = s.must("list", "-o", "json")
	rec, r = s.reconcile()
	wantCounts(t, "second run", rec, r, map[string]counts{
		"local": {listed: 7, unchanged: 7, foreign: 1}, "s3": {listed: 4, unchanged: 6, foreign: 3},
	})
	if after := s.must("list", "-o", "json"); after != before {
		t.Errorf("the second run has changed the catalog:\n%s\nbefore\n%s", after, before)
	}
}

// ownDirs returns directories that belong to the user of the service, which is not root: root may read everything.
func ownDirs(t *testing.T, o *options, names ...string) []string {
	t.Helper()
	base, err := os.MkdirTemp("", "snapshotd-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	root := os.Getuid() == 0
	if root {
		o.uid = 65534
	}
	dirs := []string{base}
	for _, name := range names {
		dir := filepath.Join(base, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, dir)
	}
	for _, dir := range dirs {
		if !root {
			break
		}
		if err := os.Chown(dir, o.uid, o.uid); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Dir(program(t, o.tags)), 0o755); err != nil {
		t.Fatal(err)
	}
	return dirs[1:]
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// TestDirectoryThatCannotBeReadLosesNoRecord takes the directory away in each way that happens: no right to read it or
// its files, not mounted, and an empty directory where the disk should be mounted.
func TestDirectoryThatCannotBeReadLosesNoRecord(t *testing.T) {
	w := newWorld(t, 0)
	o := w.options()
	dirs := ownDirs(t, &o, "snapshots", "data", "empty")
	w.dir = dirs[0]
	empty := dirs[2]
	away := w.dir + ".away"
	s := start(t, o, "--etcd-endpoints", w.etcd.Endpoints()[0], "--data-dir", dirs[1], "--node-name", "node-1",
		"--backend", "local=file://"+w.dir, "--backend", "s3="+w.s3URL(""))
	s.reconciled()
	for range 3 {
		s.save()
	}
	before := s.must("list", "-o", "json")
	denied := []string{"permission denied", "give its owner the permission with chmod"}
	for _, c := range []struct {
		name        string
		spoil, mend func()
		says        []string
	}{
		{"the directory may not be read",
			func() { chmod(t, w.dir, 0) }, func() { chmod(t, w.dir, 0o700) }, denied},
		{"the directory of the cluster may not be read",
			func() { chmod(t, filepath.Join(w.dir, "default"), 0) }, func() { chmod(t, filepath.Join(w.dir, "default"), 0o700) },
			denied},
		{"the directory is gone",
			func() { rename(t, w.dir, away) }, func() { rename(t, away, w.dir) },
			[]string{"does not exist", "mount or create it"}},
		{"an empty directory is in its place",
			func() { rename(t, w.dir, away); rename(t, empty, w.dir) },
			func() { rename(t, w.dir, empty); rename(t, away, w.dir) },
			[]string{"not the store that it was", "mount the directory"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.spoil()
			rec, r := s.reconcile()
			written, _ := os.ReadDir(empty)
			if c.name == "an empty directory is in its place" {
				written, _ = os.ReadDir(w.dir)
			}
			c.mend()
			t.Logf("%s", r.stderr)
			if r.code != 3 {
				t.Errorf("exit code %d", r.code)
			}
			for _, words := range append(c.says, "local of cluster default", "nothing that they hold was forgotten") {
				if !strings.Contains(r.stderr, words) {
					t.Errorf("it does not say %q", words)
				}
			}
			if got := countsOf(rec)["s3"]; got != (counts{listed: 3, unchanged: 3}) {
				t.Errorf("s3: %+v", got)
			}
			if len(written) > 0 {
				t.Errorf("written into the empty directory: %v", written)
			}
			if after := s.must("list", "-o", "json"); after != before {
				t.Errorf("the catalog has changed:\n%s\nbefore\n%s", after, before)
			}
			rec, r = s.reconcile()
			three := counts{listed: 3, unchanged: 3}
			wantCounts(t, "when it is back", rec, r, map[string]counts{"local": three, "s3": three})
		})
	}
}

// listingFault answers listings in place of the server, while one is set.
type listingFault struct {
	answer atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
}

func (f *listingFault) serve(w http.ResponseWriter, r *http.Request) bool {
	answer := f.answer.Load()
	return answer != nil && testenv.S3Operation(r) == "ListObjectsV2" && (*answer)(w, r)
}

// s3Error answers as S3 does when it refuses.
func s3Error(status int, code string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>by the test</Message></Error>", code)
		return true
	}
}

// onSecondPage lets the first page of a listing through.
func onSecondPage(answer func(http.ResponseWriter, *http.Request) bool) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		return r.URL.Query().Has("continuation-token") && answer(w, r)
	}
}

// TestBucketThatCannotBeListedLosesNoRecord lets the listing fail, at once or after its first page. There are snapshots
// on both pages.
func TestBucketThatCannotBeListedLosesNoRecord(t *testing.T) {
	w := newWorld(t, 0)
	fault := &listingFault{}
	proxy := testenv.StartHTTPProxy(t, w.s3.Addr(), fault.serve)
	s := start(t, w.options(), w.args(t, proxy.Addr())...)
	s.reconciled()
	for _, prefix := range []string{"early", "late", "early", "late"} {
		s.save("--name-prefix", prefix)
	}
	const foreign = 1200
	w.strew(t, "foreign", foreign)
	before := s.must("list", "-o", "json")
	want := map[string]counts{"local": {listed: 4, unchanged: 4}, "s3": {listed: 4, unchanged: 4, foreign: foreign}}
	pages := proxy.Counts()["ListObjectsV2"]
	rec, r := s.reconcile()
	wantCounts(t, "before", rec, r, want)
	if pages = proxy.Counts()["ListObjectsV2"] - pages; pages != 2 {
		t.Fatalf("the listing has %d pages", pages)
	}
	drop := func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }
	for _, c := range []struct {
		name   string
		answer func(http.ResponseWriter, *http.Request) bool
		says   []string
	}{
		{"403", s3Error(http.StatusForbidden, "AccessDenied"), []string{
			"403 AccessDenied", "the credentials need s3:ListBucket",
		}},
		{"404", s3Error(http.StatusNotFound, "NoSuchBucket"), []string{
			"404 NoSuchBucket", "create it, or correct the bucket",
		}},
		{"500", s3Error(http.StatusInternalServerError, "InternalError"), []string{"500 InternalError"}},
		{"403 on the second page", onSecondPage(s3Error(http.StatusForbidden, "AccessDenied")), []string{"403 AccessDenied"}},
		{"404 on the second page", onSecondPage(s3Error(http.StatusNotFound, "NoSuchBucket")), []string{"404 NoSuchBucket"}},
		{"500 on the second page", onSecondPage(s3Error(http.StatusInternalServerError, "InternalError")),
			[]string{"500 InternalError"}},
		{"the connection ends before the second page", onSecondPage(drop), []string{"EOF"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fault.answer.Store(&c.answer)
			rec, r := s.reconcile()
			fault.answer.Store(nil)
			t.Logf("%s", r.stderr)
			if r.code != 3 {
				t.Errorf("exit code %d", r.code)
			}
			for _, words := range append(c.says, "s3 of cluster default", "nothing that they hold was forgotten") {
				if !strings.Contains(r.stderr, words) {
					t.Errorf("it does not say %q", words)
				}
			}
			got := countsOf(rec)
			if b := got["s3"]; b.added+b.updated+b.removed > 0 || got["local"] != want["local"] {
				t.Errorf("reported: %+v", got)
			}
			if after := s.must("list", "-o", "json"); after != before {
				t.Errorf("the catalog has changed:\n%s\nbefore\n%s", after, before)
			}
			rec, r = s.reconcile()
			wantCounts(t, "when it can be listed again", rec, r, want)
			if after := s.must("list", "-o", "json"); after != before {
				t.Errorf("the next run has changed the catalog:\n%s\nbefore\n%s", after, before)
			}
		})
	}
}

// strew puts small objects that are no snapshots into the bucket, straight into the server's directory.
func (w *world) strew(t *testing.T, prefix string, n int) {
	t.Helper()
	dir := filepath.Join(w.s3.Dir(), w.bucket, "etcd", "default")
	for i := range n {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%05d.txt", prefix, i)), []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
