package memory

import (
	"context"
	"fmt"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Store implements [repository.Stores].
func (c *Catalog) Store(ctx context.Context, backend string) (snapshot.Store, error) {
	what := fmt.Sprintf("read the store of backend %q", backend)
	if err := c.enter(ctx, what); err != nil {
		return snapshot.Store{}, err
	}
	defer c.mu.Unlock()
	s, ok := c.stores[backend]
	if !ok {
		return s, failed(what, snapshot.ErrNotFound)
	}
	return s, nil
}

// PutStore implements [repository.Stores].
func (c *Catalog) PutStore(ctx context.Context, backend string, s snapshot.Store) error {
	what := fmt.Sprintf("remember the store of backend %q", backend)
	if err := c.enter(ctx, what); err != nil {
		return err
	}
	defer c.mu.Unlock()
	if c.stores[backend].Version != s.Version {
		return failed(what, snapshot.ErrConflict)
	}
	c.revision++
	s.Version = c.revision
	c.stores[backend] = s
	return nil
}
