package drill_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/etcd/drill"
	"github.com/snapshotd/snapshotd/internal/etcd/member"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	"github.com/snapshotd/snapshotd/repository"
)

// syncAfterDrill is the verb of a process that drills in vain, and then syncs a file that cannot be synced.
const syncAfterDrill = "sync-after-drill"

// watched is the end of the name of a file whose drill looks at itself.
const watched = ".watched"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == syncAfterDrill {
		_ = drill.Main(context.Background(), []string{"not-there.db", os.TempDir(), "1"}, io.Discard)
		_, w, _ := os.Pipe()
		if err := w.Sync(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 1 && os.Args[1] == drill.Verb {
		done := make(chan struct{})
		var watcher sync.WaitGroup
		if strings.HasSuffix(os.Args[2], watched) {
			watcher.Go(func() { watchMyself(os.Args[2], done) })
		}
		err := drill.Main(context.Background(), os.Args[2:], os.Stdout)
		close(done)
		watcher.Wait()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	m.Run()
}

// saved is a snapshot, and the facts that its etcd reported about itself.
type saved struct {
	file     string
	revision int64
	hash     *clientv3.HashKVResponse
	keys     int64
}

func save(t *testing.T, e *embedded.Etcd, c *clientv3.Client) saved {
	t.Helper()
	all, err := c.Get(t.Context(), "", clientv3.WithFromKey(), clientv3.WithCountOnly())
	if err != nil {
		t.Fatal(err)
	}
	s := saved{file: filepath.Join(t.TempDir(), "snapshot.db"), revision: all.Header.Revision, keys: all.Count}
	if s.hash, err = c.HashKV(t.Context(), e.Endpoints()[0], s.revision); err != nil {
		t.Fatal(err)
	}
	r, err := c.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	f, err := os.Create(s.file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, r); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return s
}

// fill writes keys, overwrites, deletes and compacts, with a short lease among them.
func fill(t *testing.T, c *clientv3.Client) {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 100 {
		resp, err := c.Put(ctx, fmt.Sprint("/registry/", i%40), fmt.Sprint(i))
		must(err)
		if i == 50 {
			_, err = c.Compact(ctx, resp.Header.Revision)
			must(err)
		}
	}
	_, err := c.Delete(ctx, "/registry/7")
	must(err)
	lease, err := c.Grant(ctx, 1) // the last of all, so that it is there still
	must(err)
	_, err = c.Put(ctx, "/soon/gone", "", clientv3.WithLease(lease.ID))
	must(err)
}

func TestDrillSaysWhatTheLiveEtcdSaid(t *testing.T) {
	e := embedded.StartEtcd(t)
	c := e.Client(t)
	fill(t, c)
	s := save(t, e, c)
	got, err := drill.Run(t.Context(), drill.Options{File: s.file, Revision: s.revision})
	if err != nil {
		t.Fatal(err)
	}
	if got.HashKV != s.hash.Hash || got.CompactRevision != s.hash.CompactRevision || got.TotalKeys != s.keys ||
		got.Revision < s.revision {
		t.Errorf("the restored etcd says %+v; the live one said %v and %d keys", got, s.hash, s.keys)
	}
	if left, err := os.ReadDir(filepath.Dir(s.file)); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// Users and alarms come back with the snapshot, and are no reason to call it bad.
func TestDrillOfAnEtcdWithUsersAndAlarms(t *testing.T) {
	e := embedded.StartEtcd(t, func(c *member.Config) { c.Quota = 1 << 20 })
	c := e.Client(t)
	fill(t, c)
	for i := 0; ; i++ {
		if _, err := c.Put(t.Context(), fmt.Sprint("/large/", i), string(make([]byte, 100<<10))); err != nil {
			break // no space: the alarm is raised
		}
	}
	if a, err := c.AlarmList(t.Context()); err != nil || len(a.Alarms) == 0 {
		t.Fatalf("there is no alarm: %v, %v", a, err)
	}
	s := save(t, e, c)
	got, err := drill.Run(t.Context(), drill.Options{File: s.file, Revision: s.revision})
	if err != nil || got.HashKV != s.hash.Hash || len(got.Disarmed) != 1 || !strings.HasPrefix(got.Disarmed[0], "NOSPACE ") {
		t.Errorf("with an alarm: %+v, %v", got, err)
	}

	users := embedded.StartEtcd(t)
	c = users.Client(t)
	fill(t, c)
	s = save(t, users, c)
	for _, do := range []func() error{
		func() error { _, err := c.UserAdd(t.Context(), "root", "secret"); return err },
		func() error { _, err := c.UserGrantRole(t.Context(), "root", "root"); return err },
		func() error { _, err := c.AuthEnable(t.Context()); return err },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	root, err := clientv3.New(clientv3.Config{
		Endpoints: users.Endpoints(), Username: "root", Password: "secret", DialTimeout: 10 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	s = save(t, users, root)
	got, err = drill.Run(t.Context(), drill.Options{File: s.file, Revision: s.revision})
	if err != nil || got.HashKV != s.hash.Hash || got.TotalKeys != s.keys {
		t.Errorf("with users: %+v, %v", got, err)
	}
}

func TestDrillFindsWhatCannotBeRestored(t *testing.T) {
	e := embedded.StartEtcd(t)
	c := e.Client(t)
	fill(t, c)
	s := save(t, e, c)
	whole, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	for what, tc := range map[string]struct {
		revision int64
		edit     func([]byte) []byte
	}{
		"a revision that is not in it": {s.revision + 1000, func(b []byte) []byte { return b }},
		"its meta pages are rubbish":   {s.revision, func(b []byte) []byte { clear(b[:8<<10]); return b }},
		"it is rubbish":                {s.revision, func([]byte) []byte { return make([]byte, 64<<10+32) }},
		"it is empty":                  {s.revision, func([]byte) []byte { return nil }},
	} {
		dir := t.TempDir()
		bad := filepath.Join(dir, "bad.db")
		if err := os.WriteFile(bad, tc.edit(bytes.Clone(whole)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := drill.Run(t.Context(), drill.Options{File: bad, Revision: tc.revision}); !errors.Is(err,
			repository.ErrNotRestorable) {
			t.Errorf("%s: %v", what, err)
		}
		if left, err := filepath.Glob(filepath.Join(dir, "*-*")); err != nil || len(left) > 0 {
			t.Errorf("%s: left behind: %v, %v", what, left, err)
		}
	}
}

func TestCancelledDrillLeavesNothing(t *testing.T) {
	e := embedded.StartEtcd(t)
	c := e.Client(t)
	fill(t, c)
	s := save(t, e, c)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := drill.Run(ctx, drill.Options{File: s.file, Revision: s.revision}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(s.file), "*-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A fresh etcd is at revision 1 and has no record of it, so that its snapshot says 0.
func TestDrillOfAFreshEtcd(t *testing.T) {
	e := embedded.StartEtcd(t)
	s := save(t, e, e.Client(t))
	for _, revision := range []int64{0, 1} {
		file := filepath.Join(t.TempDir(), "snapshot.db")
		db, err := os.ReadFile(s.file)
		if err == nil {
			err = os.WriteFile(file, db, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := drill.Run(t.Context(), drill.Options{File: file, Revision: revision})
		if err != nil || got.TotalKeys != 0 || got.HashKV != s.hash.Hash || got.HashRevision != 1 {
			t.Errorf("at revision %d: %+v, %v", revision, got, err)
		}
	}
}

// What was deleted and compacted leaves no record, and etcd cannot be asked for the revision of the newest one.
func TestDrillOfAnEtcdThatWasCompactedBeyondItsNewestRecord(t *testing.T) {
	e := embedded.StartEtcd(t)
	c := e.Client(t)
	for _, key := range []string{"a", "b"} {
		if _, err := c.Put(t.Context(), key, ""); err != nil {
			t.Fatal(err)
		}
	}
	gone, err := c.Delete(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	last := gone.Header.Revision
	if _, err := c.Compact(t.Context(), last, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	s := save(t, e, c)
	got, err := drill.Run(t.Context(), drill.Options{File: s.file, Revision: last - 2})
	if err != nil || got.TotalKeys != 1 || got.HashRevision != last {
		t.Errorf("compacted at %d: %+v, %v", last, got, err)
	}
}
