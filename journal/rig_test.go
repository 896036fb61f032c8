package journal_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/etcd"
	"github.com/snapshotd/snapshotd/internal/testenv/check"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/snapshot"
)

var (
	must       = check.OK
	eventually = check.Eventually
)

// place is a backend that can be away, or be a directory that is not mounted.
type place struct {
	repository.Backend
	away, unmounted atomic.Bool
	below           repository.Backend // which is seen then
	stores          repository.Stores  // optional
	held            *held              // optional: what is put waits there
}

// held lets an upload begin, and go on when it is let go.
type held struct {
	arrived func()
	free    chan struct{}
}

var errAway = errors.New("the backend is away")

func newPlace(name string) *place {
	return &place{Backend: memory.New(name, snapshot.BackendS3), below: memory.New(name, snapshot.BackendS3)}
}

func (p *place) seen() repository.Backend {
	if p.unmounted.Load() {
		return p.below
	}
	return p.Backend
}

func (p *place) Put(ctx context.Context, key string, r io.Reader, opts repository.PutOptions) error {
	switch {
	case p.held != nil:
		p.held.arrived()
		<-p.held.free
	case p.away.Load():
		return errAway
	}
	return p.seen().Put(ctx, key, r, opts)
}

func (p *place) Get(ctx context.Context, key string, r repository.Range) (io.ReadCloser, error) {
	if p.away.Load() {
		return nil, errAway
	}
	return p.seen().Get(ctx, key, r)
}

func (p *place) List(ctx context.Context, prefix string) iter.Seq2[repository.Object, error] {
	if p.away.Load() {
		return func(yield func(repository.Object, error) bool) { yield(repository.Object{}, errAway) }
	}
	return p.seen().List(ctx, prefix)
}

// segments returns the journal on the backend, for a replica of its own.
func (p *place) segments() *segments.Segments {
	return segments.New(segments.Config{Repository: repository.New(repository.Config{
		Backend: p, Cluster: "prod", Prefix: "prod/", Stores: p.stores,
	})})
}

// cluster is an etcd that can be replaced by another one.
type cluster struct {
	mu     sync.Mutex
	source journal.Source
}

func (c *cluster) Dial(ctx context.Context, avoid string) (journal.Identity, journal.Member, error) {
	c.mu.Lock()
	s := c.source
	c.mu.Unlock()
	return s.Dial(ctx, avoid)
}

func (c *cluster) become(t testing.TB, endpoints ...string) {
	t.Helper()
	conn, err := etcd.New(etcd.Config{Endpoints: endpoints})
	must(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	c.mu.Lock()
	defer c.mu.Unlock()
	c.source = etcd.NewFollowed(etcd.NewSource(conn, etcd.SourceConfig{}))
}

// replica is a journal of a replica, which can lead.
type replica struct {
	*journal.Journal
	stop func() // leading and uploading
}

// bases counts the snapshots that journals have asked for, and causes why timelines have ended.
type asked struct {
	mu     sync.Mutex
	bases  []journal.Base
	causes []segment.Cause
	breaks []snapshot.JournalBreak
}

func (a *asked) base(_ context.Context, b journal.Base) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bases = append(a.bases, b)
	return nil
}

func (a *asked) broken(_ context.Context, c segment.Cause, where ...snapshot.JournalBreak) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.causes, a.breaks = append(a.causes, c), append(a.breaks, where...)
}

func (a *asked) told() []snapshot.JournalBreak {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.breaks)
}

func (a *asked) all() ([]journal.Base, []segment.Cause) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.bases), slices.Clone(a.causes)
}

// lead makes a replica lead until it is stopped, by the test's end at the latest.
func lead(t testing.TB, from journal.Source, dir string, places []*place, edit ...func(*journal.Config)) *replica {
	t.Helper()
	cfg := journal.Config{
		Source: from, Dir: dir, FlushInterval: 20 * time.Millisecond, UploadInterval: 100 * time.Millisecond,
	}
	for _, p := range places {
		cfg.Stores = append(cfg.Stores, p.segments())
	}
	for _, e := range edit {
		e(&cfg)
	}
	j := journal.New(cfg)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var work sync.WaitGroup
	work.Go(func() { j.Run(ctx) })
	work.Go(func() { j.Follow(ctx, 1) })
	r := &replica{Journal: j}
	r.stop = sync.OnceFunc(func() {
		cancel()
		work.Wait()
		if err := j.Close(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// hours is for tests of many minutes in virtual time. The journal looks as seldom as in production whether there is
// anything to write: each look takes time of the machine.
func hours(c *journal.Config) {
	c.FlushInterval, c.UploadInterval = journal.DefaultFlushInterval, time.Second
}

// caughtUp waits until the journal has a revision on the disk.
func (r *replica) caughtUp(t testing.TB, revision int64) {
	t.Helper()
	eventually(t, fmt.Sprintf("the journal has revision %d", revision), func() bool { return r.Status().Revision >= revision })
}

// stored waits until a backend has taken every revision that is on the disk.
func (r *replica) stored(t testing.TB, p *place) {
	t.Helper()
	eventually(t, "everything is uploaded", func() bool {
		w := look(t, p)
		if len(w.Timelines) == 0 {
			return false
		}
		ranges := w.Timelines[len(w.Timelines)-1].Ranges
		return ranges[len(ranges)-1].Last >= r.Status().Revision && r.Status().Waiting == 0
	})
}

// entries returns all entries of a timeline on a backend, in order.
func entries(t testing.TB, p *place, timeline segment.Timeline) []segment.Entry {
	t.Helper()
	listing := p.segments()
	var all []segment.Entry
	for item, err := range listing.List(t.Context(), timeline, segment.Level10s) {
		must(t, err)
		m, err := listing.Manifest(t.Context(), item.Ref)
		must(t, err)
		r, err := listing.Open(t.Context(), m)
		must(t, err)
		must(t, r.Each(func(e segment.Entry) error {
			all = append(all, e)
			return nil
		}))
		must(t, r.Close())
	}
	return all
}

// look returns what backends hold.
func look(t testing.TB, places ...*place) journal.Window {
	t.Helper()
	var listings []journal.Listing
	for _, p := range places {
		listings = append(listings, p.segments())
	}
	w := journal.Look(t.Context(), listings)
	for _, err := range w.Unread {
		t.Error(err)
	}
	return w
}

// whole checks that a backend holds one timeline without a gap, and returns it.
func whole(t testing.TB, p *place) journal.Held {
	t.Helper()
	w := look(t, p)
	if len(w.Timelines) != 1 || len(w.Timelines[0].Ranges) != 1 {
		t.Fatalf("the journal has gaps: %+v", w.Timelines)
	}
	return w.Timelines[0]
}

// record is one entry of etcd's bucket of keys.
type record struct {
	key   string
	value string
}

// database returns the records of an etcd from a revision on, as they are in its database.
func database(t testing.TB, e *embedded.Etcd, from int64) []record {
	t.Helper()
	file := filepath.Join(t.TempDir(), "db")
	e.Save(t, file)
	db, err := bolt.Open(file, 0o600, &bolt.Options{ReadOnly: true})
	must(t, err)
	defer func() { _ = db.Close() }()
	var all []record
	must(t, db.View(func(tx *bolt.Tx) error {
		c := tx.Bucket([]byte("key")).Cursor()
		for k, v := c.Seek(binary.BigEndian.AppendUint64(nil, uint64(from))); k != nil; k, v = c.Next() {
			all = append(all, record{string(k), string(v)})
		}
		return nil
	}))
	return all
}

// records returns the records that the entries of a journal stand for.
func records(all []segment.Entry) []record {
	var out []record
	for _, e := range all {
		r, ok := e.(segment.Revision)
		if !ok {
			continue
		}
		for _, rec := range r.Records {
			key := binary.BigEndian.AppendUint64(nil, uint64(r.Main))
			key = binary.BigEndian.AppendUint64(append(key, '_'), uint64(rec.Sub))
			if rec.Tombstone {
				key = append(key, 't')
			}
			out = append(out, record{string(key), string(rec.Value)})
		}
	}
	return out
}

func same(t testing.TB, got, want []record) {
	t.Helper()
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Fatalf("record %d of %d (the journal has %d) differs:\n%q\n%q", i, len(want), len(got), nth(got, i), want[i])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("the journal has %d records, etcd %d; the next is %q", len(got), len(want), got[len(want)])
	}
}

func nth(all []record, i int) record {
	if i < len(all) {
		return all[i]
	}
	return record{}
}

// put puts n keys, one at a revision.
func put(t testing.TB, c *clientv3.Client, prefix string, n int) (revision int64) {
	t.Helper()
	for i := range n {
		resp, err := c.Put(t.Context(), fmt.Sprintf("%s%03d", prefix, i), strings.Repeat("v", i))
		must(t, err)
		revision = resp.Header.Revision
	}
	return revision
}
