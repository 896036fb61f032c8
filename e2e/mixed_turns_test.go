//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/internal/testenv"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

func (m *mixed) saveAndRead(t *testing.T, a, b *mixedReplica) {
	labels := map[string]string{"by": a.name}
	request := &snapshotdv1.SaveRequest{NamePrefix: "by-" + a.name, RequestId: a.name, Labels: labels}
	saved, err := a.client().Save(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	name := saved.GetSnapshot().GetName()
	if again, err := b.client().Save(t.Context(), request); err != nil || again.GetSnapshot().GetName() != name {
		t.Errorf("the same request to the %s one: %s, %v", b.name, again.GetSnapshot().GetName(), err)
	}
	m.undisturbed(t, b)
	m.undisturbed(t, a)
	for _, level := range []string{"checksum", "structure", "drill"} {
		b.must("verify", name, "--level", level)
	}
	m.same(t)
	a.must("verify", name, "--level", "drill")
	m.undisturbed(t, b)
	sn := m.find(t, name)
	if sn == nil || sn.State != "STATE_READY" || sn.Verification.Level != "LEVEL_DRILL" || sn.Labels["by"] != a.name {
		t.Fatalf("%s: %+v", name, sn)
	}
	m.restored(t, b, *sn)
}

// restored restores a snapshot with a replica's program, from each place, and compares the result with the live etcd.
func (m *mixed) restored(t *testing.T, r *mixedReplica, sn snap) {
	t.Helper()
	want := liveHash(t, m.client, m.etcd.Endpoints()[0], sn.Revision)
	for _, from := range []string{"file://" + m.dir, m.s3URL("")} {
		data := filepath.Join(t.TempDir(), "data")
		m.must(t, r.path, "restore", sn.Name, "--from", from, "--data-dir", data,
			"--signing-public-key-file", filepath.Join(m.signing, "signing.pub"))
		if got := restoredHash(t, data); got != want {
			t.Errorf("%s from %s by the %s one: HashKV is %d, and was %d", sn.Name, from, r.name, got, want)
		}
	}
}

func (m *mixed) saveAndUpdate(t *testing.T, a, b *mixedReplica) {
	name := a.save()
	b.must("update", name, "--pin", "--label", "by="+b.name, "--label", "keep=yes")
	m.undisturbed(t, a)
	if r := a.run("delete", name); r.code == 0 {
		t.Errorf("the %s one has deleted what the %s one had pinned", a.name, b.name)
	}
	if sn := m.find(t, name); sn == nil || sn.Labels["by"] != b.name || sn.Labels["keep"] != "yes" {
		t.Errorf("updated by the %s one: %+v", b.name, sn)
	}
	a.must("update", name, "--unpin", "--label", "by="+a.name, "--remove-label", "keep")
	m.undisturbed(t, b)
	sn := m.find(t, name)
	if sn == nil || len(sn.Labels) != 1 || sn.Labels["by"] != a.name {
		t.Fatalf("updated by the %s one: %+v", a.name, sn)
	}
	b.must("verify", name)
	m.restored(t, b, *sn)
}

func (m *mixed) saveAndDelete(t *testing.T, a, b *mixedReplica) {
	name := a.save()
	b.must("delete", name, "--backend", "local")
	if sn := m.find(t, name); sn == nil || len(sn.Locations) != 1 || sn.Locations[0].Backend != "s3" {
		t.Errorf("deleted from one backend: %+v", sn)
	}
	a.must("reconcile", "--repair")
	if sn := m.find(t, name); sn == nil || len(sn.Locations) != 2 || sn.State != "STATE_READY" {
		t.Errorf("repaired: %+v", sn)
	}
	b.must("delete", name)
	if r := a.run("get", name); r.code != 6 || m.find(t, name) != nil {
		t.Errorf("deleted: exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	for _, path := range append(m.files(t), m.objects(t)...) {
		if strings.Contains(path, name) {
			t.Errorf("%s is left", path)
		}
	}
	m.undisturbed(t, a)
}

func (m *mixed) saveAndRepair(t *testing.T, a, b *mixedReplica) {
	m.faults.Set(testenv.Answers(0, http.StatusServiceUnavailable, "SlowDown"))
	r := a.run("save", "-o", "json")
	m.faults.Set(nil)
	if r.code != 3 {
		t.Fatalf("save without S3: exit code %d: %s", r.code, r.stderr)
	}
	name := decodeSave(t, r.stdout).Name
	if sn := m.find(t, name); sn == nil || sn.State != "STATE_PARTIAL" {
		t.Errorf("saved without S3: %+v", sn)
	}
	b.must("reconcile", "--repair")
	sn := m.find(t, name)
	if sn == nil || sn.State != "STATE_READY" {
		t.Fatalf("repaired: %+v", sn)
	}
	m.undisturbed(t, a)
	a.must("verify", name, "--backend", "s3", "--level", "structure")
	m.restored(t, a, *sn)
}

// holdPuts holds the requests that put objects with a suffix into a bucket. Reached is closed when the first one is
// held; drop ends them, and none of them reaches the bucket.
func holdPuts(faults *testenv.HTTPProxy, suffix string) (reached chan struct{}, drop func()) {
	reached, dropped := make(chan struct{}), make(chan struct{})
	var once sync.Once
	faults.Set(func(w http.ResponseWriter, r *http.Request, forward http.HandlerFunc) {
		if r.Method != http.MethodPut || !strings.HasSuffix(r.URL.Path, suffix) {
			forward(w, r)
			return
		}
		once.Do(func() { close(reached) })
		<-dropped
	})
	return reached, func() {
		faults.Set(nil)
		close(dropped)
	}
}

func (m *mixed) dieAndSettle(t *testing.T, a, b *mixedReplica) {
	for _, suffix := range []string{".db.zst", ".json"} {
		reached, drop := holdPuts(m.faults, suffix)
		var saving sync.WaitGroup
		saving.Go(func() { a.run("save", "--name-prefix", "dying") })
		<-reached
		if r := b.run("save"); r.code != 5 {
			t.Errorf("while the %s one saves, the %s one says: exit code %d: %s", a.name, b.name, r.code, r.stderr)
		}
		m.same(t)
		a.kill()
		drop()
		saving.Wait()
		eventually(t, "the interrupted save is settled", func() bool {
			if r := b.run("reconcile", "--repair"); r.code != 0 {
				return false
			}
			return !slices.ContainsFunc(b.list(), snap.unsettled)
		})
		a.start(t, "")
		m.same(t)
	}
	m.settled(t, a.service)
	a.save()
	b.save()
	m.same(t)
}

func (m *mixed) adoptAndDelete(t *testing.T, a, b *mixedReplica) {
	name := fmt.Sprintf("etcd-snapshot-server-1-%d", 1_700_000_000+len(m.same(t)))
	sn := m.same(t)[0]
	db := filepath.Join(t.TempDir(), "db")
	m.must(t, b.path, "download", sn.Name, "--decoded", "--output", db, "--addr", b.grpc)
	content, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(m.dir, "default", name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	hourAgo := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, hourAgo, hourAgo); err != nil {
		t.Fatal(err)
	}
	a.must("reconcile", "--backend", "local")
	if adopted := m.find(t, name); adopted == nil || adopted.State != "STATE_READY" || adopted.Sha256 != sn.Sha256 {
		t.Fatalf("adopted: %+v", adopted)
	}
	m.undisturbed(t, b)
	b.must("verify", name, "--level", "structure")
	b.must("update", name, "--unpin")
	b.must("delete", name)
	if _, err := os.Stat(path); !os.IsNotExist(err) || m.find(t, name) != nil {
		t.Errorf("it is still there: %v", err)
	}
}
