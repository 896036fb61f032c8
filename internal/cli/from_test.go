package cli_test

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/storage"
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
	t.Run("a time before all snapshots of the cluster", func(t *testing.T) {
		r := run(t.Context(), nil, "restore", "--at", "2020-01-01", "--from", from, "--cluster", "default",
			"--data-dir", filepath.Join(t.TempDir(), "d"), "--dry-run")
		if r.code != 6 || !strings.Contains(r.stderr, "there are others of default") || strings.Contains(r.stderr, "staging") {
			t.Errorf("exit code %d: %s", r.code, r.stderr)
		}
	})
	t.Run("a variable that is not set", func(t *testing.T) {
		for _, args := range [][]string{{"list"}, {"verify", "latest"}} {
			if r := run(t.Context(), nil, append(args, "--from", "")...); r.code != 2 || !strings.Contains(r.stderr, "--from") {
				t.Errorf("%v: exit code %d: %s", args, r.code, r.stderr)
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

// A snapshot in a cold storage class hides no other one in a list, and the list says that it is not complete.
func TestListFromNamesWhatCannotBeRead(t *testing.T) {
	server := testenv.StartS3(t)
	for _, v := range server.Env() {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	server.MakeBucket("backups")
	bucket, err := storage.New(storage.Config{Name: "s3", URL: server.URL("backups", "")})
	if err != nil {
		t.Fatal(err)
	}
	toBucket := func(cfg *cluster.Config) { cfg.Backends = []repository.Backend{bucket} }
	one, two := storedAs(t, "v1", toBucket), storedAs(t, "v2", toBucket)
	proxy := testenv.StartHTTPProxy(t, server.Addr(), nil)
	proxy.Set(testenv.When(func(r *http.Request) bool {
		return strings.HasSuffix(r.URL.Path, one.Name+".db.zst") && r.Method == http.MethodGet
	},
		testenv.Refuses(http.StatusForbidden, "InvalidObjectState")))
	for _, format := range []string{"table", "json"} {
		r := run(t.Context(), nil, "list", "--from", server.URLAt(proxy.Addr(), "backups", ""), "-o", format)
		if r.code != 1 || strings.Contains(r.stdout, one.Name) || !strings.Contains(r.stdout, two.Name) {
			t.Errorf("%s: exit code %d: %s", format, r.code, r.stdout)
		}
		for _, want := range []string{"warning: not read: ", one.Name, "InvalidObjectState", "error: the list of s3://backups", "is not complete"} {
			if !strings.Contains(r.stderr, want) {
				t.Errorf("%s: %s, want %s", format, r.stderr, want)
			}
		}
	}
	if r := run(t.Context(), nil, "__complete", "restore", "--from", server.URLAt(proxy.Addr(), "backups", ""), ""); !strings.Contains(r.stdout, two.Name) {
		t.Errorf("completion: %s%s", r.stdout, r.stderr)
	}
}
