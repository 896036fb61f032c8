package cluster_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	filippo "filippo.io/age"

	catalogmemory "github.com/snapshotd/snapshotd/catalog/memory"
	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/signing"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage"
)

// fixture is a cluster of which a stored snapshot of a real etcd is saved to two directories, with a catalog in memory.
// Faults are put in front of them.
type fixture struct {
	*cluster.Cluster
	cfg      cluster.Config
	dirs     map[string]string
	stored   *storedSource
	source   *hookedSource
	catalog  *hookedCatalog
	backends map[string]*hookedBackend
	seen     *observations
	events   *shown
	clock    *clock
	oldest   string
}

// newFixture returns a cluster with two backends, "one" and "two", each a directory of its own.
func newFixture(t *testing.T, edit ...func(*cluster.Config)) *fixture {
	t.Helper()
	f := &fixture{
		dirs: map[string]string{}, backends: map[string]*hookedBackend{},
		seen: &observations{}, events: &shown{}, clock: &clock{now: time.Now()}, stored: &storedSource{t: t},
	}
	f.source = &hookedSource{Source: f.stored}
	f.catalog = &hookedCatalog{Catalog: catalogmemory.New(f.clock.Now)}
	f.cfg = cluster.Config{
		Name: "default", Node: "node-1", Prefix: "default/", SpoolDir: t.TempDir(), Source: f.source,
		Observer: snapshot.Observers{f.seen, f.events}, Now: f.clock.Now,
	}
	f.useCatalog(f.catalog)
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

// useCatalog makes the cluster use a catalog for all that it needs of one.
func (f *fixture) useCatalog(c *hookedCatalog) { setCatalog(&f.cfg, c) }

func setCatalog(cfg *cluster.Config, c *hookedCatalog) {
	cfg.Records, cfg.Saves, cfg.History, cfg.Stores = c, c, c, c
}

// storedSource gives a stored snapshot.
type storedSource struct {
	t         *testing.T
	n         atomic.Int32 // which one
	clusterID string       // instead of that of the stored one
}

// write is a change of the saved etcd: the next snapshot has a higher revision.
func (s *storedSource) write() { s.n.Add(1) }

func (s *storedSource) current() testenv.StoredSnapshot { return testenv.Stored(s.t, int(s.n.Load())) }

func (s *storedSource) Snapshot(context.Context) (*cluster.Stream, error) {
	st := s.current()
	st.ClusterID = cmp.Or(s.clusterID, st.ClusterID)
	return &cluster.Stream{
		ReadCloser: io.NopCloser(bytes.NewReader(st.Data)), Size: int64(len(st.Data)),
		Member: cluster.Member{
			ClusterID: st.ClusterID, MemberID: st.MemberID, Endpoint: "http://stored", Version: st.Version, StorageVersion: st.StorageVersion,
		},
	}, nil
}

// ClusterID implements [cluster.Identifier].
func (s *storedSource) ClusterID(context.Context) (string, error) {
	return cmp.Or(s.clusterID, s.current().ClusterID), nil
}

// replica returns another service on the same configuration.
func (f *fixture) replica(t *testing.T, edit ...func(*cluster.Config)) *cluster.Cluster {
	t.Helper()
	cfg := f.cfg
	cfg.SpoolDir = t.TempDir()
	for _, e := range edit {
		e(&cfg)
	}
	c, err := cluster.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// mustSave saves and returns the snapshot.
func (f *fixture) mustSave(t *testing.T) *snapshot.Snapshot {
	t.Helper()
	res, err := f.Save(t.Context(), cluster.SaveRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return res.Snapshot
}

// mustReconcile reconciles and returns the reports by backend; no backend may have failed.
func (f *fixture) mustReconcile(t *testing.T) map[string]cluster.BackendReport {
	t.Helper()
	reports := f.reconcile(t, cluster.ReconcileRequest{})
	for _, r := range reports {
		if r.Err != nil {
			t.Fatalf("backend %s: %v", r.Backend, r.Err)
		}
	}
	return reports
}

func (f *fixture) reconcile(t *testing.T, req cluster.ReconcileRequest) map[string]cluster.BackendReport {
	t.Helper()
	reports, err := f.Reconcile(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]cluster.BackendReport{}
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

// observations are the events of an observer, one line each.
type observations struct {
	mu      sync.Mutex
	lines   []string
	waiting map[string]snapshot.RepairQueue
	damaged map[string][]string
	failed  map[string][]string // by the last verification
	unread  int64
	newest  []string         // of these
	results map[string]error // of the last reconcile, by backend
	unseen  map[string]bool  // of these, the backends that failed as a whole
	proven  time.Time        // when the newest proof was, as it was told last

	provenName string // of the snapshot
}

func (o *observations) note(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lines = append(o.lines, fmt.Sprintf(format, args...))
}

// take returns the events since the last call, sorted.
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

// Observe implements [snapshot.Observer].
func (o *observations) Observe(_ context.Context, ev snapshot.Event) {
	switch ev.Type {
	case snapshot.EventFinished:
		o.note("save %s", status(ev.Err))
	case snapshot.EventSaveRejected:
		o.note("rejected")
	case snapshot.EventWritten:
		o.note("write %s %s", ev.Kind, status(ev.Err))
	case snapshot.EventReconciled:
		o.note("reconcile %s", status(ev.Err))
		o.mu.Lock()
		defer o.mu.Unlock()
		o.results, o.unseen = ev.Backends, ev.Unseen
	case snapshot.EventListed:
		o.note("list %s %s", ev.Kind, status(ev.Err))
	case snapshot.EventCounted:
		o.note("counted %v", ev.States)
		o.mu.Lock()
		defer o.mu.Unlock()
		o.damaged, o.newest, o.unread = ev.Damaged, ev.Newest, ev.Unread
	case snapshot.EventSwept:
		o.note("swept %s %d", ev.Backend, ev.Count)
	case snapshot.EventRepaired:
		o.note("repair %s %s", ev.Backend, status(ev.Err))
	case snapshot.EventVerified:
		o.note("verified %s %v", ev.Verification.Level, ev.Verification.Passed)
		o.mu.Lock()
		defer o.mu.Unlock()
		o.failed = ev.Damaged
	case snapshot.EventProven:
		o.mu.Lock()
		defer o.mu.Unlock()
		o.proven, o.provenName = ev.ProvenTime, ev.Name
	case snapshot.EventDeleted:
		o.note("deleted %s", ev.Backend)
	case snapshot.EventRepairsQueued:
		o.mu.Lock()
		defer o.mu.Unlock()
		o.waiting = ev.Queued
	}
}

// shown are the events that a watcher is shown, in order.
type shown struct {
	mu     sync.Mutex
	events []snapshot.Event
}

// Observe implements [snapshot.Observer].
func (o *shown) Observe(_ context.Context, ev snapshot.Event) {
	if ev.Type <= snapshot.EventDeleted {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.events = append(o.events, ev)
	}
}

// take returns the events since the last call.
func (o *shown) take() []snapshot.Event {
	o.mu.Lock()
	defer o.mu.Unlock()
	events := o.events
	o.events = nil
	return events
}

// hookedSource puts something between the cluster and its source.
type hookedSource struct {
	cluster.Source
	open func(*cluster.Stream) (*cluster.Stream, error)
}

// ClusterID implements [cluster.Identifier].
func (s *hookedSource) ClusterID(ctx context.Context) (string, error) {
	return s.Source.(cluster.Identifier).ClusterID(ctx)
}

func (s *hookedSource) Snapshot(ctx context.Context) (*cluster.Stream, error) {
	stream, err := s.Source.Snapshot(ctx)
	if err != nil || s.open == nil {
		return stream, err
	}
	return s.open(stream)
}

// reading replaces the bytes that a stream reads.
type reading struct {
	io.ReadCloser
	read func(p []byte) (int, error)
}

func (r reading) Read(p []byte) (int, error) { return r.read(p) }

// hookedBackend puts something between the cluster and a backend.
type hookedBackend struct {
	repository.Backend
	put  func(ctx context.Context, key string, r io.Reader) error // nil, or returns nil, to go on
	get  func(key string) error
	list func(o repository.Object) error
	hide func(o repository.Object) bool // from the listing
	del  func(key string) error
	stat func(o *repository.Object)
	gets atomic.Int64
}

func (b *hookedBackend) Stat(ctx context.Context, key string) (repository.Object, error) {
	o, err := b.Backend.Stat(ctx, key)
	if err == nil && b.stat != nil {
		b.stat(&o)
	}
	return o, err
}

func (b *hookedBackend) Metadata(ctx context.Context, key string) (io.ReadCloser, error) {
	return b.Backend.(repository.MetadataReader).Metadata(ctx, key)
}

func (b *hookedBackend) Delete(ctx context.Context, key string) error {
	if b.del != nil {
		if err := b.del(key); err != nil {
			return err
		}
	}
	return b.Backend.Delete(ctx, key)
}

func (b *hookedBackend) Put(ctx context.Context, key string, r io.Reader, opts repository.PutOptions) error {
	if b.put != nil {
		if err := b.put(ctx, key, r); err != nil {
			return err
		}
	}
	return b.Backend.Put(ctx, key, r, opts)
}

func (b *hookedBackend) Get(ctx context.Context, key string, r repository.Range) (io.ReadCloser, error) {
	b.gets.Add(1)
	if b.get != nil {
		if err := b.get(key); err != nil {
			return nil, err
		}
	}
	return b.Backend.Get(ctx, key, r)
}

func (b *hookedBackend) List(ctx context.Context, prefix string) iter.Seq2[repository.Object, error] {
	return func(yield func(repository.Object, error) bool) {
		for o, err := range b.Backend.List(ctx, prefix) {
			if err == nil && b.hide != nil && b.hide(o) {
				continue
			}
			if err == nil && b.list != nil {
				if err = b.list(o); err != nil {
					yield(repository.Object{}, err)
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
	*catalogmemory.Catalog
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

func (c *hookedCatalog) Lock(ctx context.Context, owner string) (cluster.Lock, error) {
	return hooked(c.before("lock"), func() (cluster.Lock, error) { return c.Catalog.Lock(ctx, owner) })
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

// forge returns a record whose state was edited, as nobody but a test or an attacker with access to etcd can.
func forge(rec *snapshot.Record, edit func(st *snapshot.Status, b *snapshot.Bookkeeping)) *snapshot.Record {
	st := snapshot.Status{State: rec.State(), Error: rec.ErrorText(), Locations: rec.Locations()}
	b := rec.Bookkeeping()
	edit(&st, &b)
	next := snapshot.WithBookkeeping(snapshot.WithStatus(rec.Snapshot, st), b)
	next.RequestID, next.File, next.Seen, next.Version = rec.RequestID, rec.File, rec.Seen, rec.Version
	next.Generation = rec.Generation
	return next
}

// place returns the repository of the fixture's cluster on a backend, as a reader without a catalog sees it.
func place(b repository.Backend, trust *signing.Trust) *repository.Repository {
	return repository.New(repository.Config{Backend: b, Cluster: "default", Prefix: "default/", Trust: trust})
}

// dataKey returns the key of a snapshot's data below the prefix.
func (f *fixture) dataKey(t *testing.T, name string) string {
	t.Helper()
	return f.records(t)[name].DataKey()
}

// keyPair returns a recipient and its identity.
func keyPair(t *testing.T) (string, age.Identities) {
	t.Helper()
	id, err := filippo.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "identity")
	if err := os.WriteFile(file, []byte(id.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	ids, err := age.ReadIdentities(file)
	if err != nil {
		t.Fatal(err)
	}
	return id.Recipient().String(), ids
}

func recipients(t *testing.T, keys ...string) age.Recipients {
	t.Helper()
	r, err := age.NewRecipients(keys)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
