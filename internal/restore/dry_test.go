package restore_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/internal/restore"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/snapshot"
)

// mounted returns a file system in memory of so many bytes, which is read-only if there are none.
func mounted(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	var flags uintptr
	if size == "" {
		flags, size = syscall.MS_RDONLY, "1m"
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", flags, "size="+size); err != nil {
		t.Skipf("a file system cannot be mounted: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, 0) })
	return dir
}

// A dry run that approves what the run refuses is of no use, and neither is the opposite. Neither of them leaves
// anything behind when it refuses.
func TestADryRunRefusesWhatTheRunRefuses(t *testing.T) {
	for what, tc := range map[string]struct {
		prepare func(t *testing.T, o *restore.Options, dir string)
		says    string // in both errors; empty when both go well
	}{
		"nothing is wrong":              {func(*testing.T, *restore.Options, string) {}, ""},
		"a slash at the end":            {func(_ *testing.T, o *restore.Options, _ string) { o.DataDir += "/" }, ""},
		"an empty directory":            {func(t *testing.T, o *restore.Options, _ string) { mkdir(t, o.DataDir) }, ""},
		"a link to an empty directory":  {func(t *testing.T, o *restore.Options, dir string) { link(t, mkdir(t, dir+"/x"), o.DataDir) }, ""},
		"a link to a missing directory": {func(t *testing.T, o *restore.Options, dir string) { link(t, dir+"/x", o.DataDir) }, "symbolic link"},
		"a link to itself":              {func(t *testing.T, o *restore.Options, _ string) { link(t, o.DataDir, o.DataDir) }, "--data-dir"},
		"a file":                        {func(t *testing.T, o *restore.Options, _ string) { touch(t, o.DataDir) }, "--data-dir"},
		"a pipe":                        {func(t *testing.T, o *restore.Options, _ string) { pipe(t, o.DataDir) }, "--data-dir"},
		"a directory that is not empty": {func(t *testing.T, o *restore.Options, _ string) { touch(t, mkdir(t, o.DataDir)+"/x") }, "is not empty"},
		"no directory above":            {func(_ *testing.T, o *restore.Options, dir string) { o.DataDir = dir + "/x/y" }, "make the directory above it first"},
		"a file above":                  {func(t *testing.T, o *restore.Options, dir string) { touch(t, dir+"/x"); o.DataDir = dir + "/x/y" }, "--data-dir"},
		"a small disk":                  {func(t *testing.T, o *restore.Options, _ string) { o.DataDir = mounted(t, "1m") }, "bytes are needed"},
		"below a small disk":            {func(t *testing.T, o *restore.Options, _ string) { o.DataDir = mounted(t, "1m") + "/data" }, "bytes are needed"},
		"a large disk":                  {func(t *testing.T, o *restore.Options, _ string) { o.DataDir = mounted(t, "200m") }, ""},
		"a read-only disk":              {func(t *testing.T, o *restore.Options, _ string) { o.DataDir = mounted(t, "") }, "read-only file system"},
		"below a read-only disk":        {func(t *testing.T, o *restore.Options, _ string) { o.DataDir = mounted(t, "") + "/data" }, "read-only file system"},
		"a WAL on another disk":         {func(t *testing.T, o *restore.Options, _ string) { o.WALDir = mounted(t, "200m") + "/wal" }, ""},
		"a WAL on a small disk":         {func(t *testing.T, o *restore.Options, _ string) { o.WALDir = mounted(t, "1m") + "/wal" }, "--wal-dir"},
		"a WAL on a read-only disk":     {func(t *testing.T, o *restore.Options, _ string) { o.WALDir = mounted(t, "") }, "--wal-dir"},
		"a WAL in the data directory":   {func(_ *testing.T, o *restore.Options, _ string) { o.WALDir = o.DataDir + "/wal" }, ""},
		"the data directory as the WAL's": {func(_ *testing.T, o *restore.Options, _ string) { o.WALDir = o.DataDir + "/../data" },
			"is the data directory"},
		"the data directory in the WAL's": {func(_ *testing.T, o *restore.Options, dir string) { o.WALDir = dir }, "is in"},
		"no such snapshot":                {func(_ *testing.T, o *restore.Options, _ string) { o.Choice = restore.Choice{Name: "x", Now: now} }, "there is no"},
		"a time before all": {func(_ *testing.T, o *restore.Options, _ string) {
			o.Choice = restore.Choice{At: now.AddDate(-1, 0, 0), Now: now}
		}, "there is no"},
	} {
		t.Run(what, func(t *testing.T) {
			b := memory.New("one", snapshot.BackendLocal)
			store(t, b, time.Hour)
			o := newest(t, b)
			dir := t.TempDir()
			o.DataDir = filepath.Join(dir, "data")
			tc.prepare(t, &o, dir)
			before := tree(t, dir, o.DataDir)
			_, planned := restore.Plan(t.Context(), o)
			if after := tree(t, dir, o.DataDir); after != before {
				t.Errorf("the dry run has made of\n%s\n%s", before, after)
			}
			_, ran := restore.Run(t.Context(), o)
			for how, err := range map[string]error{"dry run": planned, "run": ran} {
				if tc.says == "" && err != nil || tc.says != "" && (err == nil || !strings.Contains(err.Error(), tc.says)) {
					t.Errorf("%s: %v, want %q", how, err, tc.says)
				}
			}
			if snapshot.ReasonOf(planned) != snapshot.ReasonOf(ran) {
				t.Errorf("the dry run says %v, and the run %v", planned, ran)
			}
			if after := tree(t, dir, o.DataDir); ran != nil && after != before {
				t.Errorf("the run has made of\n%s\n%s", before, after)
			}
		})
	}
}

// An archive of another program says how large it is only in its content.
func TestADryRunLooksIntoAnArchive(t *testing.T) {
	b := memory.New("one", snapshot.BackendLocal)
	data := testenv.Stored(t, 0).Data
	b.Set("default/etcd-snapshot-n-1700000000.zip", zipped(t, "etcd-snapshot", data))
	o := newest(t, b)
	o.DataDir = mounted(t, "65069056") // room for the archive and a member, and not for its database
	_, planned := restore.Plan(t.Context(), o)
	if snapshot.ReasonOf(planned) != snapshot.ReasonNoSpace {
		t.Errorf("the dry run: %v", planned)
	}
}

// --at gives nothing that claims to be of the future, either.
func TestATimeOfTheFutureGivesNothingOfTheFuture(t *testing.T) {
	b := memory.New("one", snapshot.BackendLocal)
	good := store(t, b, time.Hour)
	store(t, b, -48*time.Hour)
	o := newest(t, b)
	o.Choice = restore.Choice{At: now.AddDate(1, 0, 0), Now: now}
	for _, run := range []func(context.Context, restore.Options) (restore.Result, error){restore.Plan, restore.Run} {
		if res, err := run(t.Context(), o); err != nil || res.Snapshot.Name != good || len(res.Skipped) != 1 {
			t.Errorf("%+v, %v", res, err)
		}
	}
}

func mkdir(t *testing.T, dir string) string {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func touch(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

func pipe(t *testing.T, path string) {
	t.Helper()
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
}

// tree returns all paths in and below directories.
func tree(t *testing.T, dirs ...string) string {
	t.Helper()
	var all []string
	for _, dir := range dirs {
		_ = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
			all = append(all, path)
			return nil // what is not there has no entries
		})
	}
	return strings.Join(all, "\n")
}
