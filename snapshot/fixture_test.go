package snapshot_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/internal/etcd"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage"
)

// fixture is a cluster on the real things: an etcd, which is saved and holds the catalog, and two directories. Faults are
// put in front of them.
type fixture struct {
	*snapshot.Cluster
	cfg      snapshot.Config
	etcd     *testenv.Etcd
	dirs     map[string]string
	source   *hookedSource
	catalog  *hookedCatalog
	backends map[string]*hookedBackend
	seen     *observations
	clock    *clock
	oldest   string
}

// newFixture returns a cluster with two backends, "one" and "two", each a directory of its own.
func newFixture(t *testing.T, edit ...func(*snapshot.Config)) *fixture {
	t.Helper()
	f := &fixture{
		etcd: testenv.StartEtcd(t), dirs: map[string]string{}, backends: map[string]*hookedBackend{},
		seen: &observations{}, clock: &clock{now: time.Now()},
	}
	conn, err := etcd.New(etcd.Config{Endpoints: f.etcd.Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	client, err := conn.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		if _, err := client.Put(t.Context(), fmt.Sprintf("/registry/things/%d", i), strings.Repeat("x", 1000)); err != nil {
			t.Fatal(err)
		}
	}
	f.source = &hookedSource{Source: etcd.NewSource(conn, etcd.SourceConfig{})}
	f.catalog = &hookedCatalog{Catalog: catalog.New(catalog.Config{Connect: conn.Client, Cluster: "default"})}
	f.cfg = snapshot.Config{
		Name: "default", Node: "node-1", Prefix: "default/", SpoolDir: t.TempDir(),
		Source: f.source, Catalog: f.catalog, Observer: f.seen, Now: f.clock.Now,
	}
	for _, name := range []string{"one", "two"} {
		f.dirs[name] = t.TempDir()
		b, err := storage.New(storage.Config{Name: name, URL: "file://" + f.dirs[name]})
		if err != nil {
			t.Fatal(err)
		}
		f.backends[name] = &hookedBackend{Backend: b}
		f.cfg.Backends = append(f.cfg.Backends, f.backends[name])
	}
	for _, e := range edit {
		e(&f.cfg)
	}
	f.Cluster = f.replica(t)
	return f
}

// replica returns another service on the same configuration.
func (f *fixture) replica(t *testing.T, edit ...func(*snapshot.Config)) *snapshot.Cluster {
	t.Helper()
	cfg := f.cfg
	cfg.SpoolDir = t.TempDir()
	for _, e := range edit {
		e(&cfg)
	}
	c, err := snapshot.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (f *fixture) client(t *testing.T) *clientv3.Client {
	t.Helper()
	return f.etcd.Client(t)
}

// mustSave saves and returns the snapshot.
func (f *fixture) mustSave(t *testing.T) *snapshot.Snapshot {
	t.Helper()
	res, err := f.Save(t.Context(), snapshot.SaveRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return res.Snapshot
}

// mustReconcile reconciles and returns the reports by backend; no backend may have failed.
func (f *fixture) mustReconcile(t *testing.T) map[string]snapshot.BackendReport {
	t.Helper()
	reports := f.reconcile(t, snapshot.ReconcileRequest{})
	for _, r := range reports {
		if r.Err != nil {
			t.Fatalf("backend %s: %v", r.Backend, r.Err)
		}
	}
	return reports
}

func (f *fixture) reconcile(t *testing.T, req snapshot.ReconcileRequest) map[string]snapshot.BackendReport {
	t.Helper()
	reports, err := f.Reconcile(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]snapshot.BackendReport{}
	for _, r := range reports {
		byName[r.Backend] = r
	}
	return byName
}

// records returns all records by name.
func (f *fixture) records(t *testing.T) map[string]*snapshot.Record {
	t.Helper()
	all := map[string]*snapshot.Record{}
	for rec, err := range f.catalog.Scan(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all[rec.Name] = rec
	}
	return all
}

// forget removes records behind the service's back, as a catalog restored from yesterday does.
func (f *fixture) forget(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		rec, err := f.catalog.Catalog.Get(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.catalog.Catalog.Remove(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
	}
}

// files returns the names of all files of a backend but the marker, temporary ones included.
func (f *fixture) files(t *testing.T, backend string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(f.dirs[backend], func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != snapshot.MarkerKey {
			rel, _ := filepath.Rel(f.dirs[backend], path)
			names = append(names, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// path returns where an object of a snapshot is.
func (f *fixture) path(backend, name, suffix string) string {
	return filepath.Join(f.dirs[backend], "default", name+suffix)
}

// clock is the time as the cluster sees it.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// observations are what an observer was told, one line each.
type observations struct {
	mu      sync.Mutex
	lines   []string
	waiting map[string]snapshot.Waiting
}

func (o *observations) note(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lines = append(o.lines, fmt.Sprintf(format, args...))
}

// take returns what was noted since the last call, sorted.
func (o *observations) take() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	lines := o.lines
	o.lines = nil
	slices.Sort(lines)
	return lines
}

func status(err error) string {
	if err != nil {
		return "error"
	}
	return "success"
}

func (o *observations) Saved(_ context.Context, _ *snapshot.Snapshot, _ time.Duration, err error) {
	o.note("save %s", status(err))
}
func (o *observations) SaveRejected(context.Context, string) { o.note("rejected") }
func (o *observations) Wrote(_ context.Context, k snapshot.BackendKind, _ time.Duration, err error) {
	o.note("write %s %s", k, status(err))
}
func (o *observations) Reconciled(_ context.Context, _ string, _ time.Duration, err error) {
	o.note("reconcile %s", status(err))
}
func (o *observations) Listed(_ context.Context, k snapshot.BackendKind, _ time.Duration, err error) {
	o.note("list %s %s", k, status(err))
}
func (o *observations) Counted(_ context.Context, _ string, m map[snapshot.State]int64) {
	o.note("counted %v", m)
}
func (o *observations) Swept(_ context.Context, _, b string, n int64) { o.note("swept %s %d", b, n) }
func (o *observations) Repaired(_ context.Context, _, b string, err error) {
	o.note("repair %s %s", b, status(err))
}
func (o *observations) Waiting(_ context.Context, _ string, by map[string]snapshot.Waiting) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiting = by
}

func (o *observations) Verified(_ context.Context, s *snapshot.Snapshot, v snapshot.Verification) {
	o.note("verified %s %v", v.Level, v.Passed)
}

func (o *observations) Proven(context.Context, string, int64, time.Time) {}

func (o *observations) Deleted(_ context.Context, _, b string) { o.note("deleted %s", b) }

// hookedSource puts something between the cluster and its source.
type hookedSource struct {
	snapshot.Source
	open func(*snapshot.Stream) (*snapshot.Stream, error)
}

func (s *hookedSource) Snapshot(ctx context.Context) (*snapshot.Stream, error) {
	stream, err := s.Source.Snapshot(ctx)
	if err != nil || s.open == nil {
		return stream, err
	}
	return s.open(stream)
}

// reading replaces what a stream reads.
type reading struct {
	io.ReadCloser
	read func(p []byte) (int, error)
}

func (r reading) Read(p []byte) (int, error) { return r.read(p) }

// hookedBackend puts something between the cluster and a backend.
type hookedBackend struct {
	snapshot.Backend
	put  func(ctx context.Context, key string, r io.Reader) error // nil, or returns nil, to go on
	get  func(key string) error
	list func(o snapshot.Object) error
	del  func(key string) error
	stat func(o *snapshot.Object)
	gets atomic.Int64
}

func (b *hookedBackend) Stat(ctx context.Context, key string) (snapshot.Object, error) {
	o, err := b.Backend.Stat(ctx, key)
	if err == nil && b.stat != nil {
		b.stat(&o)
	}
	return o, err
}

func (b *hookedBackend) Metadata(ctx context.Context, key string) (io.ReadCloser, error) {
	return b.Backend.(snapshot.MetadataReader).Metadata(ctx, key)
}

func (b *hookedBackend) Delete(ctx context.Context, key string) error {
	if b.del != nil {
		if err := b.del(key); err != nil {
			return err
		}
	}
	return b.Backend.Delete(ctx, key)
}

func (b *hookedBackend) Put(ctx context.Context, key string, r io.Reader, opts snapshot.PutOptions) error {
	if b.put != nil {
		if err := b.put(ctx, key, r); err != nil {
			return err
		}
	}
	return b.Backend.Put(ctx, key, r, opts)
}

func (b *hookedBackend) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	b.gets.Add(1)
	if b.get != nil {
		if err := b.get(key); err != nil {
			return nil, err
		}
	}
	return b.Backend.Get(ctx, key)
}

func (b *hookedBackend) List(ctx context.Context, prefix string) iter.Seq2[snapshot.Object, error] {
	return func(yield func(snapshot.Object, error) bool) {
		for o, err := range b.Backend.List(ctx, prefix) {
			if err == nil && b.list != nil {
				if err = b.list(o); err != nil {
					yield(snapshot.Object{}, err)
					return
				}
			}
			if !yield(o, err) {
				return
			}
		}
	}
}

// hookedCatalog puts something between the cluster and its catalog.
type hookedCatalog struct {
	snapshot.Catalog
	fail   func(op string) error
	mu     sync.Mutex
	writes []string
}

var errCatalogDown = &snapshot.Error{Reason: snapshot.ReasonCatalogUnavailable, Message: "etcd has no leader"}

func (c *hookedCatalog) before(op string) error {
	if c.fail != nil {
		return c.fail(op)
	}
	return nil
}

func (c *hookedCatalog) write(op string) error {
	c.mu.Lock()
	c.writes = append(c.writes, op)
	c.mu.Unlock()
	return c.before(op)
}

func (c *hookedCatalog) Get(ctx context.Context, name string) (*snapshot.Record, error) {
	return hooked(c.before("get"), func() (*snapshot.Record, error) { return c.Catalog.Get(ctx, name) })
}

func (c *hookedCatalog) ByRequestID(ctx context.Context, id string) (*snapshot.Record, error) {
	return hooked(c.before("request"), func() (*snapshot.Record, error) { return c.Catalog.ByRequestID(ctx, id) })
}

func (c *hookedCatalog) Lock(ctx context.Context, owner string) (snapshot.Lock, error) {
	return hooked(c.before("lock"), func() (snapshot.Lock, error) { return c.Catalog.Lock(ctx, owner) })
}

func (c *hookedCatalog) LockOwner(ctx context.Context) (string, error) {
	return hooked(c.before("owner"), func() (string, error) { return c.Catalog.LockOwner(ctx) })
}

func (c *hookedCatalog) Store(ctx context.Context, backend string) (snapshot.Store, error) {
	return hooked(c.before("store"), func() (snapshot.Store, error) { return c.Catalog.Store(ctx, backend) })
}

func (c *hookedCatalog) Create(ctx context.Context, r *snapshot.Record) error {
	if err := c.write("create"); err != nil {
		return err
	}
	return c.Catalog.Create(ctx, r)
}

func (c *hookedCatalog) Begin(ctx context.Context, r, old *snapshot.Record) error {
	if err := c.write("create"); err != nil {
		return err
	}
	return c.Catalog.Begin(ctx, r, old)
}

func (c *hookedCatalog) Update(ctx context.Context, r *snapshot.Record) error {
	if err := c.write("update"); err != nil {
		return err
	}
	return c.Catalog.Update(ctx, r)
}

func (c *hookedCatalog) Remove(ctx context.Context, r *snapshot.Record) error {
	if err := c.write("remove"); err != nil {
		return err
	}
	return c.Catalog.Remove(ctx, r)
}

func hooked[T any](err error, next func() (T, error)) (T, error) {
	if err != nil {
		var none T
		return none, err
	}
	return next()
}

// addBackend gives the cluster one more backend, and makes it anew.
func (f *fixture) addBackend(t *testing.T, name, dir string) {
	t.Helper()
	b, err := storage.New(storage.Config{Name: name, URL: "file://" + dir})
	if err != nil {
		t.Fatal(err)
	}
	f.dirs[name], f.backends[name] = dir, &hookedBackend{Backend: b}
	f.cfg.Backends = append(f.cfg.Backends, f.backends[name])
	f.Cluster = f.replica(t)
}
