package memory

import (
	"context"
	"fmt"
	"maps"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/snapshot"
)

// lock is the save lock of one holder.
type lock struct {
	catalog *Catalog
	owner   string
	lost    chan struct{}
	told    *snapshot.Progress // nil before it has told anything
}

// Lock implements [cluster.Saves].
func (c *Catalog) Lock(ctx context.Context, owner string) (cluster.Lock, error) {
	const what = "take the save lock"
	if err := c.enter(ctx, what); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	if c.held != nil {
		return nil, fmt.Errorf("%s: %w by %q", what, snapshot.ErrLocked, c.held.owner)
	}
	c.revision++
	c.held = &lock{catalog: c, owner: owner, lost: make(chan struct{})}
	return c.held, nil
}

// LockOwner implements [cluster.Saves].
func (c *Catalog) LockOwner(ctx context.Context) (string, error) {
	if err := c.enter(ctx, "read the save lock"); err != nil {
		return "", err
	}
	defer c.mu.Unlock()
	return c.owner(), nil
}

func (c *Catalog) owner() string {
	if c.held == nil {
		return ""
	}
	return c.held.owner
}

// Told implements [cluster.Saves].
func (c *Catalog) Told(ctx context.Context) (*snapshot.Progress, error) {
	if err := c.enter(ctx, "read how far the save is"); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	if c.held == nil || c.held.told == nil {
		return nil, nil
	}
	p := *c.held.told
	p.Written = maps.Clone(p.Written)
	return &p, nil
}

// ExpireLock ends the save lock as if its holder had not renewed it in time. It does nothing when the lock is free.
func (c *Catalog) ExpireLock() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held != nil {
		close(c.held.lost)
		c.held.release()
	}
}

// Lost implements [cluster.Lock].
func (l *lock) Lost() <-chan struct{} { return l.lost }

// Tell implements [cluster.Lock].
func (l *lock) Tell(ctx context.Context, p snapshot.Progress) error {
	const what = "tell how far the save is"
	if err := l.catalog.enter(ctx, what); err != nil {
		return err
	}
	defer l.catalog.mu.Unlock()
	if l.catalog.held != l {
		return failed(what, snapshot.ErrLocked)
	}
	l.catalog.revision++
	p.Written = maps.Clone(p.Written)
	l.told = &p
	return nil
}

// Unlock implements [cluster.Lock], also when ctx is done.
func (l *lock) Unlock(context.Context) {
	l.catalog.mu.Lock()
	defer l.catalog.mu.Unlock()
	if l.catalog.held == l {
		l.release()
	}
}

func (l *lock) release() {
	l.catalog.revision++
	l.catalog.held = nil
}

// Begin implements [cluster.Saves].
func (c *Catalog) Begin(ctx context.Context, r, old *snapshot.Record) error {
	what := fmt.Sprintf("begin the record of %q", r.Name)
	if err := c.enter(ctx, what); err != nil {
		return err
	}
	defer c.mu.Unlock()
	switch {
	case c.records[r.Name] != nil:
		return failed(what, snapshot.ErrExists)
	case r.Owner() != "" && r.Owner() != c.owner():
		return failed(what+": the save lock was lost", snapshot.ErrLocked)
	case !c.leadsTo(r.RequestID, old):
		return failed(what, snapshot.ErrConflict)
	}
	c.revision++
	changes := []snapshot.Change{c.put(r)}
	if r.RequestID != "" {
		c.requests[r.RequestID] = r.Name
	}
	if old != nil {
		changes = append(changes, c.put(old))
	}
	c.commit(changes...)
	setVersion(r, c.revision)
	return nil
}

// leadsTo reports whether old is in the catalog as it was read, and the request leads to it; when old is nil, whether
// the request leads to no record.
func (c *Catalog) leadsTo(id string, old *snapshot.Record) bool {
	name := c.requests[id]
	if old == nil {
		return c.ofRequest(id) == nil
	}
	current := c.records[old.Name]
	return c.bad(old.Name) == nil && current != nil && current.Version == old.Version && (id == "" || name == old.Name)
}

// ByRequestID implements [cluster.Saves].
func (c *Catalog) ByRequestID(ctx context.Context, id string) (*snapshot.Record, error) {
	what := fmt.Sprintf("read the record of request %q", id)
	if err := c.enter(ctx, what); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	r := c.ofRequest(id)
	if r == nil {
		return nil, failed(what, snapshot.ErrNotFound)
	}
	return r.Copy(), nil
}

// ofRequest returns the record to which a request leads; nil when it leads to none, or to one that cannot be read.
func (c *Catalog) ofRequest(id string) *snapshot.Record {
	name := c.requests[id]
	if name == "" || c.bad(name) != nil {
		return nil
	}
	return c.records[name]
}
