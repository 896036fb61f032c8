package cli_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/catalog/memory"
	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/cli"
	"github.com/snapshotd/snapshotd/internal/etcd"
	"github.com/snapshotd/snapshotd/internal/etcd/member"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage"
)

// stored saves an etcd with one key to directories, in this order, and returns the snapshot.
func stored(t *testing.T, value string, dirs ...string) *snapshot.Snapshot {
	t.Helper()
	return storedAs(t, value, func(*cluster.Config) {}, dirs...)
}

// storedAs does so with a configuration of its own.
func storedAs(t *testing.T, value string, edit func(*cluster.Config), dirs ...string) *snapshot.Snapshot {
	t.Helper()
	server := embedded.StartEtcd(t)
	if _, err := server.Client(t).Put(t.Context(), "key", value); err != nil {
		t.Fatal(err)
	}
	conn, err := etcd.New(etcd.Config{Endpoints: server.Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	records := memory.New(nil)
	cfg := cluster.Config{
		Name: "default", Node: value, Prefix: "default/", SpoolDir: t.TempDir(),
		Source:  etcd.NewSource(conn, etcd.SourceConfig{}),
		Records: records, Saves: records, History: records, Stores: records,
	}
	for i, dir := range dirs {
		b, err := storage.New(storage.Config{Name: string(rune('a' + i)), URL: "file://" + dir})
		if err != nil {
			t.Fatal(err)
		}
		cfg.Backends = append(cfg.Backends, b)
	}
	edit(&cfg)
	c, err := cluster.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Save(t.Context(), cluster.SaveRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return res.Snapshot
}

// valueIn starts an etcd on a restored directory and returns the value of the key, and the revision.
func valueIn(t *testing.T, dir string) (string, int64) {
	t.Helper()
	s, err := member.Start(t.Context(), member.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close(context.Background()) }()
	c, err := clientv3.New(clientv3.Config{Endpoints: s.Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	got, err := c.Get(t.Context(), "key")
	if err != nil || len(got.Kvs) != 1 {
		t.Fatalf("%v, %v", got, err)
	}
	return string(got.Kvs[0].Value), got.Header.Revision
}

func damage(t *testing.T, dir, name string) {
	t.Helper()
	path := filepath.Join(dir, "default", name+".db.zst")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestRestoreLooksAtTheMemberBeforeItReads(t *testing.T) {
	nowhere := "file://" + filepath.Join(t.TempDir(), "missing")
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"--initial-cluster", "m1=http://a:2380"},
			`--name: --initial-cluster has no member "default"; it is m1=http://a:2380`},
		{[]string{"--initial-cluster", "m1=http://127.0.0.1:2380", "--name", "m1"},
			"--initial-advertise-peer-urls: it must be what --initial-cluster has"},
		{[]string{"--initial-cluster", "m1"}, "--initial-cluster: "},
		{[]string{"--initial-cluster", "m1", "--dry-run", "-o", "json"}, `--initial-cluster: "m1" is not NAME=URL`},
		{[]string{"--initial-advertise-peer-urls", "a:2380"}, "--initial-advertise-peer-urls: URL scheme must be http"},
		{[]string{"--initial-advertise-peer-urls", "a:2380", "--dry-run"}, "--initial-advertise-peer-urls: URL scheme must be http"},
		{[]string{"--initial-cluster", "m1=10.0.0.1:2380", "--dry-run"}, "--initial-cluster: "},
		{[]string{"--initial-cluster", "m1=http://10.0.0.1", "--dry-run"}, "--initial-cluster: "},
		{[]string{"--initial-cluster", "m1=http://a:2380,m2=ftp://b:2380", "--dry-run"}, "--initial-cluster: "},
		{[]string{"--initial-cluster", "m1=http://a:2380,m2=http://a:2380", "--dry-run"}, "--initial-cluster: http://a:2380 is there twice"},
		{[]string{"--initial-cluster", "default=http://localhost:2380,m2=http://localhost:2380"},
			"--initial-cluster: http://localhost:2380 is there twice"},
		{[]string{"--initial-cluster", ",", "--dry-run"}, "--initial-cluster: it names no member"},
		{[]string{"--initial-cluster", "m1=http://a:2380,m2=http://b:2380", "--name", "m9", "--dry-run"},
			`--name: --initial-cluster has no member "m9"`},
		{[]string{"--initial-cluster", "m1=http://127.0.0.1:2380", "--name", "m1", "--initial-advertise-peer-urls", "http://127.0.0.1:2381",
			"--dry-run"}, "--initial-advertise-peer-urls: it must be what --initial-cluster has"},
		{[]string{"--initial-cluster", "m1=http://127.0.0.1:2380", "--initial-advertise-peer-urls", "http://127.0.0.1:2380", "--dry-run"},
			`--name: --initial-cluster has no member "default"`},
	} {
		args := append([]string{
			"restore", "latest", "--from", nowhere, "--data-dir", filepath.Join(t.TempDir(), "d"),
		}, tc.args...)
		if r := run(t.Context(), nil, args...); r.code != 2 || !strings.Contains(r.stderr, tc.want) || r.stdout != "" {
			t.Errorf("%v: exit code %d: %s%s, want %s", tc.args, r.code, r.stdout, r.stderr, tc.want)
		}
	}
}

// A dry run goes on with what the runs accept, although the flags of one member are not given.
func TestDryRunAcceptsTheMembersOfACluster(t *testing.T) {
	nowhere := "file://" + filepath.Join(t.TempDir(), "missing")
	for _, args := range [][]string{
		{},
		{"--name", "m1"},
		{"--initial-advertise-peer-urls", "http://a:2380,http://a:2381"},
		{"--initial-cluster", "m1=http://a:2380,m2=https://b:2380,m1=http://a:2381"},
		{"--initial-cluster", "m1=http://a:2380,,m2=http://b:2380,"},
		{"--initial-cluster", "m1=http://a:2380,m2=http://b:2380", "--name", "m2"},
		{"--initial-cluster", "m1=http://a:2380,m2=http://b:2380", "--name", "m2", "--initial-advertise-peer-urls", "http://b:2380"},
	} {
		all := append([]string{"restore", "latest", "--from", nowhere, "--data-dir", filepath.Join(t.TempDir(), "d"), "--dry-run"}, args...)
		if r := run(t.Context(), nil, all...); r.code != 1 || !strings.Contains(r.stderr, "missing") {
			t.Errorf("%v: exit code %d: %s", args, r.code, r.stderr)
		}
	}
}

func TestRestoreNeedsTheDirectoryAlone(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	s := stored(t, "v1", one, two)
	from, and := "file://"+one, "file://"+two
	parent := t.TempDir()
	target := func(name string) string { return filepath.Join(parent, name) }

	plan := run(t.Context(), nil, "restore", s.Name, "--from", from, "--data-dir", target("plan"), "--dry-run",
		"--initial-cluster", "m1=http://a:2380,m2=http://b:2380", "--for-kubernetes")
	if plan.code != 0 || strings.Count(plan.stdout, "snapshotd restore "+s.Name) != 2 ||
		!strings.Contains(plan.stdout, "--name m2 --initial-advertise-peer-urls http://b:2380") {
		t.Errorf("plan: exit code %d: %s%s", plan.code, plan.stdout, plan.stderr)
	}
	if _, err := os.Stat(target("plan")); err == nil {
		t.Error("a dry run has made the directory")
	}
	if r := run(t.Context(), nil, "restore", "latest", "--from", from, "--data-dir", target("a")); r.code != 0 ||
		!strings.Contains(r.stdout, s.Name) {
		t.Fatalf("exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	if v, rev := valueIn(t, target("a")); v != "v1" || rev != s.Revision {
		t.Errorf("restored %q at revision %d, want v1 at %d", v, rev, s.Revision)
	}
	if r := run(t.Context(), nil, "restore", s.Name, "--from", from, "--data-dir", target("it's"), "--dry-run", "-o",
		"json"); !strings.Contains(r.stdout, `"state": "STATE_READY"`) {
		t.Errorf("as JSON: exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	if r := run(t.Context(), nil, "restore", s.Name, "--from", from, "--data-dir", target("it's"),
		"--dry-run"); !strings.Contains(r.stdout, ` --data-dir '`+parent+`/it'\''s' `) {
		t.Errorf("a directory that a shell reads otherwise: exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	if r := run(t.Context(), nil, "restore", s.Name, "--from", from, "--data-dir", target("k"), "--wal-dir", target("wal"),
		"--for-kubernetes"); r.code != 0 {
		t.Fatalf("exit code %d: %s", r.code, r.stderr)
	}
	if entries, err := os.ReadDir(target("wal")); err != nil || len(entries) == 0 {
		t.Errorf("the WAL: %v, %v", entries, err)
	}
	if r := run(t.Context(), nil, "restore", s.Name, "--from", from, "--data-dir", target("in"), "--wal-dir",
		target("in/wal")); r.code != 0 {
		t.Errorf("a WAL in the data directory: exit code %d: %s", r.code, r.stderr)
	}
	if entries, err := os.ReadDir(target("in/wal")); err != nil || len(entries) == 0 {
		t.Errorf("the WAL in the data directory: %v, %v", entries, err)
	}
	for data, wal := range map[string]string{"same": "same", "wal2/data": "wal2"} {
		if r := run(t.Context(), nil, "restore", s.Name, "--from", from, "--data-dir", target(data), "--wal-dir",
			target(wal)); r.code != 1 || !strings.Contains(r.stderr, "--wal-dir") {
			t.Errorf("a data directory in that of the WAL: exit code %d: %s", r.code, r.stderr)
		}
	}

	if r := run(t.Context(), nil, "list", "--from", from); r.code != 0 || !strings.Contains(r.stdout, s.Name) ||
		!strings.Contains(r.stdout, "READY") {
		t.Errorf("list: exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	if r := run(t.Context(), nil, "list", "--from", from, "--cluster", "other"); r.code != 0 ||
		!strings.HasPrefix(r.stderr, "there are no snapshots in "+from+"/other/; ") || strings.Count(r.stdout, "\n") != 1 {
		t.Errorf("list of nothing: exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	for _, args := range [][]string{{"list", "--cluster", "../x"}, {"verify", "latest", "--prefix", "x"},
		{"restore", "latest", "--data-dir", target("p"), "--cluster", "a//b"}} {
		if r := run(t.Context(), nil, append(args, "--from", from)...); r.code != 2 || !strings.Contains(r.stderr,
			"is no prefix of keys; it is empty, or names that each end with '/'") {
			t.Errorf("%v: exit code %d: %s%s", args, r.code, r.stdout, r.stderr)
		}
	}
	for _, args := range [][]string{{"list", "--from", from}, {"verify", s.Name, "--from", from},
		{"restore", "latest", "--from", from, "--data-dir", target("e"), "--dry-run"}} {
		if r := run(t.Context(), map[string]string{"SNAPSHOTD_OUTPUT": "json"}, args...); r.code != 0 ||
			!strings.HasPrefix(r.stdout, "{") {
			t.Errorf("%v as JSON: exit code %d: %s%s", args, r.code, r.stdout, r.stderr)
		}
		if r := run(t.Context(), map[string]string{"SNAPSHOTD_CLUSTER": "another"}, args...); strings.Contains(r.stdout,
			s.Name) {
			t.Errorf("%v in another cluster: exit code %d: %s", args, r.code, r.stdout)
		}
	}
	if r := run(t.Context(), nil, "list", "--from", from, "--state", "ready"); r.code != 2 {
		t.Errorf("list with a filter of the service: exit code %d: %s", r.code, r.stderr)
	}
	if err := os.Truncate(filepath.Join(two, "default", s.Name+".db.zst"), 10); err != nil {
		t.Fatal(err)
	}
	if r := run(t.Context(), nil, "list", "--from", and); r.code != 0 || strings.Contains(r.stdout, s.Name) ||
		!strings.Contains(r.stderr, "10 bytes instead of") {
		t.Errorf("list of one that is cut off: exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	whole, err := os.ReadFile(filepath.Join(one, "default", s.Name+".db.zst"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(two, "default", s.Name+".db.zst"), whole, 0o600); err != nil {
		t.Fatal(err)
	}

	damage(t, one, s.Name)
	for _, tc := range []struct {
		what, args string
		code       int
		stderr     string
	}{
		{"into what is there", "latest --from " + and + " --data-dir " + target("a"), 1, "is not empty"},
		{"no such name", "nothing --from " + and + " --data-dir " + target("b"), 6, "there is no snapshot"},
		{"before there was any", "--at 2020-01-01 --from " + and + " --data-dir " + target("b"), 6, "there is no snapshot"},
		{"another cluster", "latest --from " + and + " --cluster x --data-dir " + target("b"), 6, "--cluster"},
		{"a damaged copy", s.Name + " --from " + from + " --data-dir " + target("b"), 4, "damaged"},
		{"no directory", "latest --from file://" + target("gone") + " --data-dir " + target("b"), 1,
			`backend "file://` + target("gone") + `": list default/: the directory`},
		{"half of a pair", "latest --from " + and + " --data-dir " + target("b") + " --mark-compacted", 2, "--bump-revision"},
		{"nothing said", "--from " + and + " --data-dir " + target("b"), 2, "which snapshot"},
		{"a path", "latest --from /srv/etcd --data-dir " + target("b"), 2,
			`--from: backend "/srv/etcd": its URL has no scheme; write it as file:///srv/etcd`},
		{"a URL of nothing", "latest --from gopher://x --data-dir " + target("b"), 2, "--from"},
	} {
		r := run(t.Context(), nil, append([]string{"restore"}, strings.Fields(tc.args)...)...)
		if r.code != tc.code || !strings.Contains(r.stderr, tc.stderr) {
			t.Errorf("%s: exit code %d, stderr %q", tc.what, r.code, r.stderr)
		}
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) != 4 { // a, k, wal, in
		t.Errorf("left: %v, %v", left, err)
	}

	r := run(t.Context(), nil, "restore", "latest", "--from", from, "--from", and, "--data-dir", target("c"))
	if r.code != 0 || !strings.Contains(r.stderr, "warning: left out:") || !strings.Contains(r.stdout, and) {
		t.Fatalf("from the second: exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	if v, _ := valueIn(t, target("c")); v != "v1" {
		t.Errorf("restored %q", v)
	}
}

// An empty directory may be a mount point, or the only place where the user may write: it is filled, and stays the same
// directory.
func TestRestoreSaysThatASnapshotIsOfTheFuture(t *testing.T) {
	dir := t.TempDir()
	s := stored(t, "v1", dir)
	for at, warned := range map[time.Time]bool{s.CreateTime.Add(-2 * time.Hour): true, s.CreateTime: false} {
		var stdout, stderr bytes.Buffer
		sys := cli.System{
			Stdout: &stdout, Stderr: &stderr, Getenv: func(string) string { return "" }, Now: func() time.Time { return at },
		}
		code := cli.Run(t.Context(), sys, []string{
			"restore", "latest", "--from", "file://" + dir, "--data-dir", t.TempDir(), "--dry-run",
		})
		if got := strings.Contains(stderr.String(), "which is in the future"); code != 0 || got != warned {
			t.Errorf("at %v: exit code %d: %s", at, code, stderr.String())
		}
	}
}

func TestRestoreIntoAnEmptyDirectory(t *testing.T) {
	from, parent := t.TempDir(), t.TempDir()
	stored(t, "v1", from)
	target := func(name string) string { return filepath.Join(parent, name) }
	for _, dir := range []string{"data", "data/lost+found", "data/.restoring-1", "wal", "real"} {
		if err := os.Mkdir(target(dir), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"link": "real", "dangling": "gone"} {
		if err := os.Symlink(to, target(link)); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.Stat(target("data"))
	if err != nil {
		t.Fatal(err)
	}
	restore := func(args ...string) result {
		return run(t.Context(), nil, append([]string{"restore", "latest", "--from", "file://" + from}, args...)...)
	}
	if r := restore("--data-dir", target("data"), "--wal-dir", target("wal")); r.code != 0 {
		t.Fatalf("exit code %d: %s", r.code, r.stderr)
	}
	if after, err := os.Stat(target("data")); err != nil || !os.SameFile(before, after) {
		t.Errorf("the directory is another one: %v", err)
	}
	if _, err := os.Stat(target("data/.restoring-1")); err == nil {
		t.Error("what a dead restore has left is still there")
	}
	if logs, err := filepath.Glob(target("wal/*.wal")); err != nil || len(logs) == 0 {
		t.Errorf("the WAL: %v, %v", logs, err)
	}
	if r := restore("--data-dir", target("data")); r.code != 1 || !strings.Contains(r.stderr, "is not empty") {
		t.Errorf("a second time: exit code %d: %s", r.code, r.stderr)
	}
	if r := restore("--data-dir", target("link"), "--wal-dir", target("real/wal")); r.code != 0 {
		t.Fatalf("through a link: exit code %d: %s", r.code, r.stderr)
	}
	if left, err := os.ReadDir(target("real")); err != nil || len(left) != 2 { // member and wal
		t.Errorf("left: %v, %v", left, err)
	}
	if r := restore("--data-dir", target("dangling")); r.code != 1 || !strings.Contains(r.stderr, "symbolic link") {
		t.Errorf("through a link to nothing: exit code %d: %s", r.code, r.stderr)
	}
	t.Chdir(target("real"))
	for _, dir := range []string{"member", "wal"} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	if r := restore("--data-dir", "."); r.code != 0 {
		t.Fatalf("into the current directory: exit code %d: %s", r.code, r.stderr)
	}
	if v, _ := valueIn(t, "."); v != "v1" {
		t.Errorf("restored %q", v)
	}
}

// The newest one is damaged: the one before it is taken, and said.
func TestRestoreLatestIsTheNewestThatIsWhole(t *testing.T) {
	dir, parent := t.TempDir(), t.TempDir()
	older := stored(t, "v1", dir)
	newer := stored(t, "v2", dir)
	if older.CreateTime.Unix() == newer.CreateTime.Unix() {
		newer = stored(t, "v3", dir)
	}
	damage(t, dir, newer.Name)
	target := filepath.Join(parent, "data")
	r := run(t.Context(), nil, "restore", "latest", "--from", "file://"+dir, "--data-dir", target)
	if r.code != 0 || !strings.Contains(r.stderr, newer.Name) || strings.Contains(r.stdout, newer.Name) {
		t.Fatalf("exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	if v, _ := valueIn(t, target); v == newer.Node {
		t.Errorf("restored %q", v)
	}
}

// A database that was copied from a data directory has no checksum at its end: it is restored when that is asked for by
// name.
func TestRestoreOfADatabaseWithoutItsChecksum(t *testing.T) {
	dir, parent := t.TempDir(), t.TempDir()
	s := stored(t, "v1", dir)
	from := "file://" + dir
	seed := filepath.Join(parent, "seed")
	if r := run(t.Context(), nil, "restore", s.Name, "--from", from, "--data-dir", seed); r.code != 0 {
		t.Fatalf("exit code %d: %s", r.code, r.stderr)
	}
	raw, err := os.ReadFile(filepath.Join(seed, "member", "snap", "db"))
	if err != nil {
		t.Fatal(err)
	}
	put := func(name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "default", name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("raw.db", raw)
	torn := append([]byte(nil), raw...)
	for i := 2 * 4096; i < len(torn); i++ { // all pages but those that say where the others are
		torn[i] ^= 0xff
	}
	put("torn.db", torn)
	target := filepath.Join(parent, "data")
	for _, tc := range []struct {
		what, args string
		code       int
		stderr     string
	}{
		{"not asked for", "raw", 4, "without the checksum"},
		{"of whichever is the newest", "latest --skip-hash-check", 2, "give the NAME"},
		{"that cannot be read through", "torn --skip-hash-check", 4, "cannot be read through"},
	} {
		r := run(t.Context(), nil,
			append([]string{"restore", "--from", from, "--data-dir", target}, strings.Fields(tc.args)...)...)
		if r.code != tc.code || !strings.Contains(r.stderr, tc.stderr) {
			t.Errorf("%s: exit code %d, stderr %q", tc.what, r.code, r.stderr)
		}
	}
	if _, err := os.Stat(target); err == nil {
		t.Fatal("what failed has left a data directory")
	}
	r := run(t.Context(), nil, "restore", "raw", "--from", from, "--data-dir", target, "--skip-hash-check",
		"--initial-memory-map-size", "1048576")
	if r.code != 0 || !strings.Contains(r.stderr, "NO CHECKSUM IS COMPARED") ||
		!strings.Contains(r.stdout, "holds      revision") {
		t.Fatalf("exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	if v, rev := valueIn(t, target); v != "v1" || rev != s.Revision {
		t.Errorf("restored %q at revision %d, want v1 at %d", v, rev, s.Revision)
	}

	// The checksums of an own snapshot's manifest are not compared either, and the plan has the flag for every member.
	manifest := filepath.Join(dir, "default", s.Name+".json")
	doc, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(manifest, []byte(strings.ReplaceAll(string(doc), s.SHA256, strings.Repeat("0", 64))),
		0o600); err != nil {
		t.Fatal(err)
	}
	again := filepath.Join(parent, "again")
	if r := run(t.Context(), nil, "restore", s.Name, "--from", from, "--data-dir", again); r.code != 4 {
		t.Errorf("with another checksum in its manifest: exit code %d: %s", r.code, r.stderr)
	}
	plan := run(t.Context(), nil, "restore", s.Name, "--from", from, "--data-dir", again, "--skip-hash-check", "--dry-run")
	if plan.code != 0 || strings.Count(plan.stdout, " --skip-hash-check") != 1 ||
		!strings.Contains(plan.stdout, "takes      about") {
		t.Errorf("plan: exit code %d: %s%s", plan.code, plan.stdout, plan.stderr)
	}
	if r := run(t.Context(), nil, "restore", s.Name, "--from", from, "--data-dir", again,
		"--skip-hash-check"); r.code != 0 {
		t.Errorf("with its checksum skipped: exit code %d: %s", r.code, r.stderr)
	}
}
