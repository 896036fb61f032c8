package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestVerifyProvesWhatIsStored(t *testing.T) {
	t.Setenv(beSnapshotd, "1") // a drill starts this program once more
	dir, temp := t.TempDir(), t.TempDir()
	s := stored(t, "v1", dir)
	from := "file://" + dir
	verify := func(level string) result {
		t.Helper()
		return run(t.Context(), nil, "verify", s.Name, "--from", from, "--level", level, "--temp-dir", temp)
	}
	for level, want := range map[string]string{"checksum": "checksums are right", "structure": "every page and key was read", "drill": "HashKV"} {
		if r := verify(level); r.code != 0 || !strings.Contains(r.stdout, want) {
			t.Errorf("%s: exit code %d: %s%s", level, r.code, r.stdout, r.stderr)
		}
	}
	if r := run(t.Context(), nil, "verify", "latest", "--from", from, "-o", "json"); r.code != 0 || !strings.Contains(r.stdout, s.SHA256) {
		t.Errorf("latest: exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	if r := run(t.Context(), nil, "verify", "x", "--from", from); r.code != 6 {
		t.Errorf("no such name: exit code %d: %s", r.code, r.stderr)
	}
	if r := verify("deeply"); r.code != 2 || !strings.Contains(r.stderr, "--level") {
		t.Errorf("no such level: exit code %d: %s", r.code, r.stderr)
	}

	// The bytes are right, and the manifest says something else of them.
	manifest := filepath.Join(dir, "default", s.Name+".json")
	doc, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(manifest, []byte(strings.Replace(string(doc), `"revision": "`, `"revision": "1`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := verify("checksum"); r.code != 0 {
		t.Errorf("checksum of what only the manifest lies about: exit code %d: %s", r.code, r.stderr)
	}
	for _, level := range []string{"structure", "drill"} {
		if r := verify(level); r.code != 4 || !strings.Contains(r.stderr, "its manifest says") {
			t.Errorf("%s of what only the manifest lies about: exit code %d: %s", level, r.code, r.stderr)
		}
	}
	damage(t, dir, s.Name)
	for _, level := range []string{"checksum", "structure", "drill"} {
		if r := verify(level); r.code != 4 || !strings.Contains(r.stderr, "damaged") {
			t.Errorf("%s of a damaged one: exit code %d: %s", level, r.code, r.stderr)
		}
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
