//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// TestARevisionOfTwoHistories restores an etcd from an earlier snapshot, under the same cluster id, and lets it go on: the
// same revisions are there twice, in the journal and in snapshots. A number alone never restores one of them; a snapshot's
// name and a time say which.
func TestARevisionOfTwoHistories(t *testing.T) {
	for _, variable := range testenv.S3Env() {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
	w := newWorld(t, 0)
	client := w.etcd.Client(t)
	put := func(value string, n int) (last int64) {
		t.Helper()
		eventually(t, "etcd takes changes", func() bool {
			_, err := client.Get(t.Context(), "x")
			return err == nil
		})
		for range n {
			resp, err := client.Put(t.Context(), "/history", value)
			if err != nil {
				t.Fatal(err)
			}
			last = resp.Header.Revision
		}
		return last
	}
	file := journaled(t, t.TempDir(), w.etcd.Endpoints(), map[string]string{"s3": w.s3URL("")},
		"lock_ttl: 2s", "journal: {enabled: true, upload_interval: 1s}")
	put("both", 20)
	s := start(t, w.options(), "--config", file)
	s.follows(2)
	base := s.save()
	both := put("both", 5)
	first := put("first", 40)
	stored := func(line func(window) bool) (found window) {
		t.Helper()
		eventually(t, "the journal is on the backend", func() bool { found = s.window(); return line(found) })
		return found
	}
	stored(func(found window) bool { return found.timeline("").last() >= first })
	early := s.save()
	inFirst := time.Now()
	put("first", 1)

	// The member is restored to the first snapshot: same name, token and peers, so the same cluster id.
	w.etcd.Kill(0)
	dir := w.etcd.DataDir(0)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	initial := w.etcd.Initial()[0]
	name, peer, _ := strings.Cut(initial, "=")
	w.must(t, program(t, ""), "restore", base, "--from", w.s3URL(""), "--data-dir", dir, "--name", name,
		"--initial-cluster", initial, "--initial-advertise-peer-urls", peer, "--initial-cluster-token", t.Name())
	w.etcd.Restart(t, 0)
	second := put("second", 80)
	after := stored(func(found window) bool {
		return len(found.Window.Timelines) == 2 && found.timeline("").last() >= second && found.timeline("").Ranges[0].RestorableFromRevision > 0
	}).timeline("")
	if !strings.HasPrefix(after.Reason, "restored") && !strings.HasPrefix(after.Reason, "different") {
		t.Errorf("the second timeline has begun because of %q", after.Reason)
	}
	late := s.save()
	if out := s.run("status").stdout; !strings.Contains(out, "etcd has another history since") || !strings.Contains(out, "snapshotd window") {
		t.Errorf("the status does not tell it:\n%s", out)
	}
	inSecond := time.Now()
	put("second", 1)
	stored(func(found window) bool { return found.timeline("").last() > second })
	s.kill()

	target := both + 30 // "first" in one history, and "second" in the other
	restored := func(choice ...string) (value string, out result) {
		t.Helper()
		data := filepath.Join(t.TempDir(), "etcd")
		out = command(t.Context(), t, program(t, ""), append([]string{"restore", "--from", w.s3URL(""), "--data-dir", data}, choice...)...)
		if out.code != 0 {
			if _, err := os.Stat(data); err == nil {
				t.Errorf("restore %v has failed, and there is a data directory", choice)
			}
			return "", out
		}
		resp, err := testenv.StartRestored(t, data).Client(t).Get(t.Context(), "/history")
		if err != nil || len(resp.Kvs) != 1 {
			t.Fatalf("restore %v: %v, %v", choice, resp, err)
		}
		return string(resp.Kvs[0].Value), out
	}
	number := fmt.Sprint(target)
	if value, out := restored("--revision", number); out.code == 0 || !strings.Contains(out.stderr, "more than one history") {
		t.Errorf("the number alone restores %q, exit code %d: %s", value, out.code, out.stderr)
	}
	for want, choices := range map[string][][]string{
		"first":  {{base, "--revision", number}, {early, "--revision", number}, {"--at", inFirst.UTC().Format(time.RFC3339Nano)}},
		"second": {{late, "--revision", number}, {"--at", inSecond.UTC().Format(time.RFC3339Nano)}, {"--at", "0s"}},
	} {
		for _, choice := range choices {
			if value, out := restored(choice...); value != want {
				t.Errorf("restore %v leads to %q, want %q: %s%s", choice, value, want, out.stdout, out.stderr)
			}
		}
	}
}
