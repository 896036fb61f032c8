package cli_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestVersionAsAFlag(t *testing.T) {
	want := run(t.Context(), nil, "version")
	if r := run(t.Context(), nil, "--version"); r.code != 0 || r.stderr != "" || r.stdout != want.stdout ||
		!strings.HasPrefix(r.stdout, "snapshotd ") {
		t.Errorf("exit code %d: %s%s, want %s", r.code, r.stdout, r.stderr, want.stdout)
	}
}

// The program copies itself, where an image has no other program that could.
func TestInstall(t *testing.T) {
	dir := t.TempDir()
	file, inDir := filepath.Join(dir, "tool"), filepath.Join(dir, "snapshotd")
	if err := os.WriteFile(inDir, []byte("an older one"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, made := range map[string]string{file: file, dir: inDir} {
		if r := run(t.Context(), nil, "install", path); r.code != 0 || r.stdout != made+"\n" {
			t.Errorf("%s: exit code %d: %s%s", path, r.code, r.stdout, r.stderr)
		}
		if info, err := os.Stat(made); err != nil || info.Mode() != 0o755 {
			t.Errorf("%s: %v, %v", made, info, err)
		}
		cmd := exec.Command(made, "version")
		cmd.Env = append(os.Environ(), beSnapshotd+"=1")
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.HasPrefix(out, []byte("snapshotd ")) {
			t.Errorf("%s does not run: %v, %s", made, err, out)
		}
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 2 {
		t.Errorf("something else was left: %v, %v", all, err)
	}
	for _, args := range [][]string{{"install"}, {"install", dir, dir}} {
		if r := run(t.Context(), nil, args...); r.code != 2 {
			t.Errorf("%q: exit code %d: %s", args, r.code, r.stderr)
		}
	}
	if r := run(t.Context(), nil, "install", filepath.Join(dir, "missing", "x")); r.code != 1 ||
		!strings.Contains(r.stderr, "no such file or directory") {
		t.Errorf("into a directory that is not there: exit code %d: %s", r.code, r.stderr)
	}
}
