//go:build e2e

package e2e

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// TestASegmentThatRotsAndOneThatIsLostAreReplaced changes a byte of one segment in a directory, and removes another one
// there. The service puts both back from the bucket, and the directory alone leads to any revision again. All is signed,
// and encrypted for somebody whose identity the service does not have.
func TestASegmentThatRotsAndOneThatIsLostAreReplaced(t *testing.T) {
	w := newWorld(t, 0)
	keys := t.TempDir()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	secrets := signingFiles(t, public, private)
	secrets["identity"] = []byte(id.String() + "\n")
	for name, content := range secrets {
		if err := os.WriteFile(filepath.Join(keys, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := journaled(t, t.TempDir(), []string{w.etcd.Endpoints()[0]}, map[string]string{"local": "file://" + w.dir, "s3": w.s3URL("")},
		fmt.Sprintf("encryption: {recipients: [%s]}", id.Recipient()), fmt.Sprintf("signing: {key_file: %q}", filepath.Join(keys, "signing.pem")),
		"journal: {enabled: true, upload_interval: 1s}", `scrub: {cron: "* * * * *", share: 100}`)
	s := start(t, w.options(), "--config", file)
	client := w.etcd.Client(t)
	var last int64
	var all []string
	eventually(t, "the journal has some segments, and a snapshot before them", func() bool {
		for i := range 10 {
			resp, err := client.Put(t.Context(), fmt.Sprintf("/copies/%03d", i), fmt.Sprint(last))
			if err != nil {
				t.Fatal(err)
			}
			last = resp.Header.Revision
		}
		line := s.window().timeline("")
		all = w.stored(t)
		return len(all) >= 6 && line.last() >= last && line.Ranges[0].RestorableFromRevision != 0
	})
	rotten, lost := all[len(all)-4], all[len(all)-3]
	want := map[string][]byte{}
	for _, key := range []string{rotten + sealed, rotten + ".json", lost + sealed, lost + ".json"} {
		want[key] = w.object(t, key) // encrypted for each backend by itself
	}
	bad, err := os.ReadFile(filepath.Join(w.dir, rotten+sealed))
	if err != nil {
		t.Fatal(err)
	}
	bad[len(bad)/2] ^= 1
	replaceFile(t, filepath.Join(w.dir, rotten+sealed), string(bad))
	for _, suffix := range []string{sealed, ".json"} {
		if err := os.Remove(filepath.Join(w.dir, lost+suffix)); err != nil {
			t.Fatal(err)
		}
	}
	if gaps := s.window().Window.Gaps; len(gaps) > 0 {
		t.Errorf("the bucket has all, and there are gaps: %+v", gaps)
	}
	since := time.Now()
	eventually(t, "the directory has what the bucket has", func() bool {
		for key, content := range want {
			if got, err := os.ReadFile(filepath.Join(w.dir, key)); err != nil || !bytes.Equal(got, content) {
				return false
			}
		}
		return s.scrape()[`snapshotd_journal_copied_total{backend="local",cluster="default"}`] == 2
	})
	t.Logf("both are there after %s", time.Since(since).Round(time.Second))
	for name, value := range s.scrape() {
		if (strings.HasPrefix(name, "snapshotd_journal_damaged{") || strings.HasPrefix(name, "snapshotd_journal_lacking{")) && value != 0 {
			t.Errorf("%s is %v", name, value)
		}
	}
	for _, line := range []string{"segment of the journal is damaged", "damaged segment of the journal was replaced"} {
		if !strings.Contains(s.log.String(), line) {
			t.Errorf("the log does not say: %s", line)
		}
	}
	w.repairedNow(t, s, lost)
	s.end()
	dir := filepath.Join(t.TempDir(), "restored")
	out := w.must(t, program(t, ""), "restore", "--revision", fmt.Sprint(last), "--from", "file://"+w.dir, "--cluster", "default", "--data-dir", dir,
		"--identity", filepath.Join(keys, "identity"), "--signing-public-key-file", filepath.Join(keys, "signing.pub"))
	restored := testenv.StartRestored(t, dir)
	resp, err := restored.Client(t).Get(t.Context(), "/copies/009")
	if err != nil || resp.Header.Revision != last {
		t.Errorf("restored from the directory, etcd is at revision %v and not at %d (%v)\n%s", resp, last, err, out)
	}
}

// repairedNow removes the lost segment once more: a caller need not wait for the leader.
func (w *world) repairedNow(t *testing.T, s *service, lost string) {
	t.Helper()
	for _, suffix := range []string{sealed, ".json"} {
		if err := os.Remove(filepath.Join(w.dir, lost+suffix)); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct{ args, says string }{
		{"", "revisions that another backend has and it lacks: "}, {"--repair --dry-run", "segments to copy: 1 "},
		{"--repair", "segments copied: 1 "},
	} {
		if _, err := os.Stat(filepath.Join(w.dir, lost+sealed)); !os.IsNotExist(err) {
			t.Errorf("the lost segment is there before reconcile %s: %v", step.args, err)
		}
		out := s.must(append([]string{"reconcile"}, strings.Fields(step.args)...)...)
		if !strings.Contains(out, "journal on local of cluster default: "+step.says) {
			t.Errorf("reconcile %s does not say %q:\n%s", step.args, step.says, out)
		}
	}
	got, err := os.ReadFile(filepath.Join(w.dir, lost+sealed))
	if err != nil || !bytes.Equal(got, w.object(t, lost+sealed)) {
		t.Errorf("the directory does not have the segment of the bucket: %v", err)
	}
}

// sealed is the suffix of the data of a segment that is encrypted.
const sealed = ".seg.age"

// stored returns the encrypted segments that both backends hold, by their keys without a suffix, in ascending order.
func (w *world) stored(t *testing.T) (all []string) {
	t.Helper()
	there := w.objects(t)
	for _, file := range w.files(t) {
		key, err := filepath.Rel(w.dir, file)
		if err != nil {
			t.Fatal(err)
		}
		if name, found := strings.CutSuffix(key, sealed); found && slices.Contains(there, "etcd/"+name+".json") {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}
