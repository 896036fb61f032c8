package cli_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A place that was read without a service says what was checked, and what is in it when nothing was found.
func TestPlaceWithoutAService(t *testing.T) {
	dir := t.TempDir()
	s := stored(t, "v", dir)
	from := "file://" + dir
	if err := os.CopyFS(filepath.Join(dir, "staging"), os.DirFS(filepath.Join(dir, "default"))); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}

	t.Run("what was checked", func(t *testing.T) {
		r := run(t.Context(), nil, "list", "--from", from)
		if r.code != 0 || !strings.Contains(r.stdout, "CHECKED") || !strings.Contains(r.stdout, "manifest, size, first bytes") {
			t.Errorf("exit code %d: %s%s", r.code, r.stdout, r.stderr)
		}
		r = run(t.Context(), nil, "list", "--from", from, "-o", "wide")
		if r.code != 0 || !strings.Contains(r.stdout, from+"/default/"+s.Name) {
			t.Errorf("wide: exit code %d: %s%s", r.code, r.stdout, r.stderr)
		}
	})
	t.Run("another cluster", func(t *testing.T) {
		for _, args := range [][]string{
			{"list"}, {"verify", "latest"}, {"restore", "latest", "--data-dir", filepath.Join(t.TempDir(), "d")},
			{"restore", s.Name, "--data-dir", filepath.Join(t.TempDir(), "d"), "--dry-run"},
		} {
			code := 6
			if args[0] == "list" {
				code = 0
			}
			r := run(t.Context(), nil, append(args, "--from", from, "--cluster", "other")...)
			if want := "there are snapshots of default, staging: choose with --cluster"; r.code != code ||
				!strings.Contains(r.stderr, want) || strings.Contains(r.stderr, "lost+found") {
				t.Errorf("%v: exit code %d, want %d: %s, want %s", args, r.code, code, r.stderr, want)
			}
		}
	})
	t.Run("no cluster", func(t *testing.T) {
		r := run(t.Context(), nil, "list", "--from", from+"/default", "--cluster", "other")
		if want := "there are snapshots outside of any cluster's folder: --prefix ''"; !strings.Contains(r.stderr, want) {
			t.Errorf("exit code %d: %s, want %s", r.code, r.stderr, want)
		}
	})
	t.Run("completion", func(t *testing.T) {
		for _, verb := range []string{"list", "restore", "verify"} {
			r := run(t.Context(), nil, "__complete", verb, "--from", from, "--cluster", "")
			if !strings.HasPrefix(r.stdout, "default\nstaging\n:") {
				t.Errorf("%s: %q", verb, r.stdout)
			}
		}
	})
	t.Run("garbage of the right size", func(t *testing.T) {
		path := filepath.Join(dir, "staging", s.Name+".db.zst")
		info, err := os.Stat(path)
		if err == nil {
			err = os.WriteFile(path, bytes.Repeat([]byte("x"), int(info.Size())), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		r := run(t.Context(), nil, "list", "--from", from, "--cluster", "staging")
		if r.code != 0 || strings.Contains(r.stdout, s.Name) ||
			!strings.Contains(r.stderr, "its data does not begin as its manifest says") {
			t.Errorf("exit code %d: %s%s", r.code, r.stdout, r.stderr)
		}
	})
}
