//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// TestSaveWorksWithoutQuorum kills two members of three: the one that is left is saved, the response says that the
// catalog was not written, and reconcile adds the snapshot when the members are back.
func TestSaveWorksWithoutQuorum(t *testing.T) {
	w := &world{etcd: testenv.StartCluster(t, 3), dir: t.TempDir()}
	s := start(t, options{}, "--etcd-endpoints", strings.Join(w.etcd.Endpoints(), ","), "--data-dir", t.TempDir(),
		"--node-name", "node-1", "--backend", "local=file://"+w.dir)
	s.must("save", "--name-prefix", "healthy")
	leader := w.etcd.Leader(t, nil)
	var followers []string
	for i := range 3 {
		if i != leader {
			followers = append(followers, fmt.Sprintf("%016x", w.etcd.Status(t, i).Header.MemberId))
		}
	}
	var healthy struct{ Snapshot struct{ EtcdMemberId string } }
	doc := s.must("get", s.list()[0].Name, "-o", "json")
	decode(t, doc, &healthy)
	if !slices.Contains(followers, healthy.Snapshot.EtcdMemberId) {
		t.Errorf("no follower of %v was read: %s", followers, doc)
	}

	w.etcd.Kill(leader)
	w.etcd.Kill((leader + 1) % 3)
	r := s.run("save", "--name-prefix", "disaster")
	if r.code != 0 || !strings.Contains(r.stderr, "the catalog was not written") {
		t.Fatalf("save without quorum: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	t.Logf("save without quorum:\n%s%s", r.stdout, r.stderr)
	if got := len(w.files(t)); got != 4 {
		t.Errorf("%d files", got)
	}

	w.etcd.Restart(t, leader)
	w.etcd.Restart(t, (leader+1)%3)
	eventually(t, "reconcile adds the snapshot", func() bool { return s.run("reconcile").code == 0 && len(s.list()) == 2 })
	for _, sn := range s.list() {
		if sn.State != "STATE_READY" {
			t.Errorf("in the catalog: %+v", sn)
		}
	}
}
