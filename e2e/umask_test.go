//go:build e2e

package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// TestFilesAreTheirOwnersAloneWhateverTheUmask: files of the service and of the commands have mode 0600, directories
// 0700. A umask of 0 would open those of libraries to everybody, and one of 0777 would close all of them to the owner.
func TestFilesAreTheirOwnersAloneWhateverTheUmask(t *testing.T) {
	for _, umask := range []string{"0000", "0022", "0777"} {
		t.Run(umask, func(t *testing.T) {
			root := t.TempDir()
			in := func(name string) string { return filepath.Join(root, name) }
			mine := map[string]bool{root: true, in("snapshotd.yaml"): true}
			for _, dir := range []string{in("backend"), in("records")} { // which no part of the program makes
				mine[dir] = true
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			etcd := testenv.StartCluster(t, 1)
			replaceFile(t, in("snapshotd.yaml"), fmt.Sprintf(`
data_dir: %s/data
node_name: node-1
audit_file: %s/audit.jsonl
audit_url: file://%s/records
access: {tokens_file: %s/tokens.json, rules: [{role: admin, local: true}]}
clusters:
  - name: default
    etcd: {endpoints: [%q]}
    journal: {enabled: true, upload_interval: 1s}
    backends: [{name: local, url: "file://%s/backend"}]
`, root, root, root, root, etcd.Endpoints()[0], root))
			cli := func(args ...string) result {
				t.Helper()
				r := command(t.Context(), t, "sh", append([]string{"-c", under(umask), program(t, "")}, args...)...)
				if r.code != 0 {
					t.Fatalf("snapshotd %v: exit code %d\n%s%s", args, r.code, r.stdout, r.stderr)
				}
				return r
			}
			plant(strings.TrimSpace(cli("token", "create", "ci", "--tokens-file", in("tokens.json")).stdout))
			s := start(t, options{umask: umask}, "--config", in("snapshotd.yaml"))
			s.hasBase()
			name := s.save()
			s.must("verify", name, "--level", "drill")
			eventually(t, "the journal is on the backend", func() bool {
				found, err := filepath.Glob(in("backend/default/journal/*/*/*.seg*"))
				return err == nil && len(found) > 0
			})
			cli("download", name, "--output", in("downloaded"), "--addr", s.grpc)
			cli("restore", name, "--from", "file://"+in("backend"), "--cluster", "default", "--data-dir", in("restored"))
			checkModes(t, root, mine)
		})
	}
}

// hasBase waits for the snapshot that a journal begins with: nothing else is saved meanwhile.
func (s *service) hasBase() {
	s.t.Helper()
	eventually(s.t, "the base of the journal is saved", func() bool {
		all := s.list()
		return len(all) > 0 && all[0].State == "STATE_READY"
	})
}

// checkModes checks the modes of all files and directories but those that the test has made.
func checkModes(t *testing.T, root string, mine map[string]bool) {
	t.Helper()
	seen := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		var info fs.FileInfo
		if err == nil {
			info, err = d.Info()
		}
		switch {
		case os.IsNotExist(err) || err == nil && mine[path]:
			return nil // one of the spool, or of the journal, may be gone by now
		case err != nil:
			return err
		}
		seen++
		want := fs.FileMode(0o600)
		if info.IsDir() {
			want = fs.ModeDir | 0o700
		}
		if info.Mode() != want {
			t.Errorf("%s has the mode %v, want %v", strings.TrimPrefix(path, root), info.Mode(), want)
		}
		return nil
	})
	if err != nil || seen < 20 {
		t.Errorf("%d files were looked at: %v", seen, err)
	}
}
