//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// TestTheJournalIsFollowedAndRestored kills a service that follows a cluster, again and again, and restores a revision
// that no snapshot has.
func TestTheJournalIsFollowedAndRestored(t *testing.T) {
	w := newWorld(t, 0)
	file := filepath.Join(t.TempDir(), "snapshotd.yaml")
	doc := fmt.Sprintf("node_name: node-1\ndata_dir: %s\nclusters:\n  - etcd: {endpoints: [%q]}\n    backends: [{name: local, url: "+
		"\"file://%s\"}, {name: s3, url: %q}]\n    lock_ttl: 2s\n    journal: {enabled: true, upload_interval: 1s}\n",
		filepath.Dir(file), w.etcd.Endpoints()[0], w.dir, w.s3URL(""))
	if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	client := w.etcd.Client(t)
	var last, wanted int64
	put := func(n int) {
		t.Helper()
		for i := range n {
			resp, err := client.Put(t.Context(), fmt.Sprintf("/journal/%03d", i), fmt.Sprint(last))
			if err != nil {
				t.Fatal(err)
			}
			last = resp.Header.Revision
		}
	}
	var found window
	for round := range 4 {
		s := start(t, w.options(), "--config", file)
		put(50)
		if round == 2 {
			wanted = last
		}
		eventually(t, "the changes are on all backends", func() bool {
			found = s.window()
			line := found.timeline("")
			return line.last() >= last && line.Ranges[0].RestorableFromRevision != 0
		})
		for name, value := range s.scrape() {
			if strings.HasPrefix(name, "snapshotd_journal_rpo_seconds") && (value < 0 || value > 60) {
				t.Errorf("%s is %v", name, value)
			}
		}
		put(50)
		s.kill()
		put(50)
	}
	if lines := found.Window.Timelines; len(lines) != 1 || len(lines[0].Ranges) != 1 || len(found.Window.Gaps)+len(found.Window.Unread) > 0 {
		t.Fatalf("the window is %+v", found.Window)
	}
	for name, url := range map[string]string{"directory": "file://" + w.dir, "bucket": w.s3URL("")} {
		dir := filepath.Join(t.TempDir(), name)
		out := w.must(t, program(t, ""), "restore", "--revision", fmt.Sprint(wanted), "--from", url, "--cluster", "default", "--data-dir", dir)
		restored := testenv.StartRestored(t, dir)
		resp, err := restored.Client(t).Get(t.Context(), "/journal/000")
		if err != nil || resp.Header.Revision != wanted {
			t.Errorf("restored from the %s, etcd is at revision %v and not at %d (%v)\n%s", name, resp, wanted, err, out)
		}
	}
}
