//go:build e2e

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/etcd/member"
)

// TestRestoreFromTheBucketAlone destroys everything but the bucket, and kills a restore at each of its steps before one
// goes through.
func TestRestoreFromTheBucketAlone(t *testing.T) {
	w := newWorld(t, 8<<20)
	s := start(t, w.options(), w.args(t, "")...)
	name := s.save()
	var saved snap
	for _, sn := range s.list() {
		saved = sn
	}
	live, err := w.etcd.Client(t).HashKV(t.Context(), w.etcd.Endpoints()[0], saved.Revision)
	if err != nil {
		t.Fatal(err)
	}
	s.kill()

	parent := t.TempDir()
	data, wal := filepath.Join(parent, "data"), filepath.Join(parent, "wal")
	restore := func(fault string, args ...string) ([]byte, error) {
		args = append([]string{"restore", "latest", "--from", w.s3URL(""), "--data-dir", data}, args...)
		cmd := exec.Command(program(t, "faultpoints"), args...)
		cmd.Env = append(append(os.Environ(), w.s3.Env()...), "SNAPSHOTD_FAULT_POINT="+fault)
		return cmd.CombinedOutput()
	}
	for _, step := range []string{"restore-fetched", "restore-built"} {
		if out, err := restore(step); err == nil {
			t.Fatalf("killed at %s, it went through: %s", step, out)
		}
		if _, err := os.Stat(data); err == nil {
			t.Fatalf("killed at %s, it left a data directory", step)
		}
	}
	if out, err := restore("restore-wal-placed", "--wal-dir", wal); err == nil {
		t.Fatalf("it went through: %s", out)
	}
	if out, err := restore("", "--wal-dir", wal); err == nil ||
		!strings.Contains(string(out), "--wal-dir: "+wal+" is not empty") {
		t.Errorf("beside the WAL that a killed restore has left: %v: %s", err, out)
	}
	if out, err := restore(""); err != nil || !strings.Contains(string(out), name) {
		t.Fatalf("%v: %s", err, out)
	}
	left, err := filepath.Glob(filepath.Join(parent, ".*"))
	if err != nil || len(left) > 1 { // the WAL's working directory of the one that was killed
		t.Errorf("left: %q, %v", left, err)
	}
	e, err := member.Start(t.Context(), member.Config{Dir: data})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close(context.Background()) }()
	c, err := clientv3.New(clientv3.Config{Endpoints: e.Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	got, err := c.HashKV(t.Context(), e.Endpoints()[0], saved.Revision)
	if err != nil || got.Hash != live.Hash {
		t.Errorf("HashKV is %v, %v, and was %d", got, err, live.Hash)
	}
}
