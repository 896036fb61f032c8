package memory

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Catalog is a cluster's catalog in memory. Its methods may be called at once from several goroutines.
//
// The records in it are never changed, only replaced: the catalog takes in and gives out copies.
type Catalog struct {
	history string // see [snapshot.Position]

	mu        sync.Mutex
	revision  int64 // begins at 1 and counts all changes, those of locks and stores as well
	records   map[string]*snapshot.Record
	spoiled   map[string]bool   // names of records that cannot be read
	requests  map[string]string // by request id: the name of its newest snapshot
	stores    map[string]snapshot.Store
	held      *lock              // nil when the save lock is free
	log       []snapshot.Changes // of records, in order
	forgotten int64              // the revision of the last change that is not in the log any more
	changed   chan struct{}      // closed at the next change of a record
}

var (
	_ cluster.Records   = (*Catalog)(nil)
	_ cluster.Saves     = (*Catalog)(nil)
	_ cluster.History   = (*Catalog)(nil)
	_ repository.Stores = (*Catalog)(nil)
)

// New returns an empty catalog. Its history is named after the time that now (nil: time.Now) gives: the positions of a
// catalog that was made at another time have expired in it.
func New(now func() time.Time) *Catalog {
	if now == nil {
		now = time.Now
	}
	return &Catalog{
		history:  "memory." + strconv.FormatInt(now().UnixNano(), 16),
		revision: 1,
		records:  map[string]*snapshot.Record{},
		spoiled:  map[string]bool{},
		requests: map[string]string{},
		stores:   map[string]snapshot.Store{},
		changed:  make(chan struct{}),
	}
}

// Compact forgets all changes so far. Page tokens and positions before them expire, as after a compaction of etcd.
func (c *Catalog) Compact() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.log); n > 0 {
		c.forgotten, c.log = c.log[n-1].Revision, nil
	}
}

// Spoil makes a record unreadable, as if somebody had written something else in its place. There need be no such
// record. [Catalog.Wipe] ends it.
func (c *Catalog) Spoil(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revision++
	if c.records[name] == nil {
		c.records[name] = &snapshot.Record{Snapshot: snapshot.Snapshot{Name: name}}
	}
	c.spoiled[name] = true
}

// Wipe removes a record that cannot be read, as an operator does by hand.
func (c *Catalog) Wipe(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.spoiled[name] {
		c.revision++
		delete(c.records, name)
		delete(c.spoiled, name)
	}
}

// bad returns the error of a record that cannot be read; nil when it can.
func (c *Catalog) bad(name string) error {
	if !c.spoiled[name] {
		return nil
	}
	return snapshot.ReasonCatalogUnavailable.New("read the record of %q", name).Final().
		Because(&snapshot.BadRecord{Name: name, Key: name, Err: errors.New("it is spoiled")}).
		Advise("wipe it, and reconcile: what the backends hold gets its record back")
}

// enter begins a call: it takes the mutex, unless ctx is done already.
func (c *Catalog) enter(ctx context.Context, what string) error {
	if ctx.Err() != nil {
		return snapshot.Cancelled(ctx, "%s in the catalog", what)
	}
	c.mu.Lock()
	return nil
}

// put stores a copy of a record in the current revision, and returns the change.
func (c *Catalog) put(r *snapshot.Record) snapshot.Change {
	stored := r.Copy()
	setVersion(stored, c.revision)
	ch := snapshot.Change{Before: c.records[r.Name], After: stored}
	c.records[r.Name] = stored
	return ch
}

// commit tells followers of the changes of the current revision.
func (c *Catalog) commit(changes ...snapshot.Change) {
	c.log = append(c.log, snapshot.Changes{Position: c.position(), Records: changes})
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Catalog) position() snapshot.Position {
	return snapshot.Position{Revision: c.revision, History: c.history}
}

// at returns the records as they were at a revision; false when that is forgotten, or is still to come.
func (c *Catalog) at(revision int64) (map[string]*snapshot.Record, bool) {
	if revision < c.forgotten || revision > c.revision {
		return nil, false
	}
	records := maps.Clone(c.records)
	for _, changes := range slices.Backward(c.log) {
		if changes.Revision <= revision {
			break
		}
		for _, ch := range changes.Records {
			if ch.Before != nil {
				records[ch.Before.Name] = ch.Before
			} else {
				delete(records, ch.After.Name)
			}
		}
	}
	return records, true
}

func setVersion(r *snapshot.Record, revision int64) {
	r.Version, r.Etag = revision, strconv.FormatInt(revision, 16)
}

// failed returns a sentinel with the operation that met it.
func failed(what string, sentinel error) error { return fmt.Errorf("%s: %w", what, sentinel) }
