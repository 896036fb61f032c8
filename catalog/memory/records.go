package memory

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Get implements [cluster.Records].
func (c *Catalog) Get(ctx context.Context, name string) (*snapshot.Record, error) {
	what := fmt.Sprintf("read the record of %q", name)
	if err := c.enter(ctx, what); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	r := c.records[name]
	if r == nil {
		return nil, failed(what, snapshot.ErrNotFound)
	}
	if err := c.bad(name); err != nil {
		return nil, err
	}
	return r.Copy(), nil
}

// Create implements [cluster.Records].
func (c *Catalog) Create(ctx context.Context, r *snapshot.Record) error {
	what := fmt.Sprintf("create the record of %q", r.Name)
	if err := c.enter(ctx, what); err != nil {
		return err
	}
	defer c.mu.Unlock()
	if c.records[r.Name] != nil {
		return failed(what, snapshot.ErrExists)
	}
	c.revision++
	c.leadRequest(r)
	c.commit(c.put(r))
	setVersion(r, c.revision)
	return nil
}

// Update implements [cluster.Records].
func (c *Catalog) Update(ctx context.Context, r *snapshot.Record) error {
	what := fmt.Sprintf("update the record of %q", r.Name)
	if err := c.enter(ctx, what); err != nil {
		return err
	}
	defer c.mu.Unlock()
	if err := c.bad(r.Name); err != nil {
		return err
	}
	current := c.records[r.Name]
	if current == nil || current.Version != r.Version {
		return failed(what, snapshot.ErrConflict)
	}
	c.revision++
	if current.RequestID != r.RequestID {
		c.forgetRequest(current)
	}
	c.leadRequest(r)
	c.commit(c.put(r))
	setVersion(r, c.revision)
	return nil
}

// Remove implements [cluster.Records].
func (c *Catalog) Remove(ctx context.Context, r *snapshot.Record) error {
	what := fmt.Sprintf("remove the record of %q", r.Name)
	if err := c.enter(ctx, what); err != nil {
		return err
	}
	defer c.mu.Unlock()
	if err := c.bad(r.Name); err != nil {
		return err
	}
	current := c.records[r.Name]
	switch {
	case current == nil:
		return nil
	case current.Version != r.Version:
		return failed(what, snapshot.ErrConflict)
	}
	c.revision++
	c.forgetRequest(current)
	delete(c.records, r.Name)
	c.commit(snapshot.Change{Before: current})
	return nil
}

// Scan implements [cluster.Records].
func (c *Catalog) Scan(ctx context.Context) iter.Seq2[*snapshot.Record, error] {
	return func(yield func(*snapshot.Record, error) bool) {
		const what = "read the records"
		if err := c.enter(ctx, what); err != nil {
			yield(nil, err)
			return
		}
		bad := map[string]error{}
		for name := range c.spoiled {
			bad[name] = c.bad(name)
		}
		all := slices.SortedFunc(maps.Values(c.records), func(a, b *snapshot.Record) int {
			return cmp.Compare(snapshot.OrderKey(a.Name), snapshot.OrderKey(b.Name))
		})
		c.mu.Unlock()
		for _, r := range all {
			if ctx.Err() != nil {
				yield(nil, snapshot.Cancelled(ctx, "%s in the catalog", what))
				return
			}
			if err := bad[r.Name]; err != nil {
				if !yield(nil, err) {
					return
				}
				continue
			}
			if !yield(r.Copy(), nil) {
				return
			}
		}
	}
}

// leadRequest makes the request id of a record lead to it if it leads to none.
func (c *Catalog) leadRequest(r *snapshot.Record) {
	if _, ok := c.requests[r.RequestID]; !ok && r.RequestID != "" {
		c.requests[r.RequestID] = r.Name
	}
}

// forgetRequest removes the request id of a record if it leads to it.
func (c *Catalog) forgetRequest(r *snapshot.Record) {
	if c.requests[r.RequestID] == r.Name {
		delete(c.requests, r.RequestID)
	}
}
