package stall

import (
	"context"
	"iter"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/storage/driver"
)

// listBatch is how many objects are handed over at once.
const listBatch = 256

func (g *guarded) List(ctx context.Context, prefix string) iter.Seq2[repository.Object, error] {
	return func(yield func(repository.Object, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // the consumer may have enough
		batches := make(chan []repository.Object)
		failed := make(chan error, 1)
		go func() {
			_, err := run(ctx, g, nil, func(ctx context.Context, c *call) (struct{}, error) {
				return struct{}{}, g.listInto(ctx, c, prefix, batches)
			})
			failed <- err
		}()
		for {
			select {
			case batch := <-batches:
				for _, o := range batch {
					if !yield(o, nil) {
						return
					}
				}
			case err := <-failed:
				if err != nil {
					yield(repository.Object{}, err)
				}
				return
			}
		}
	}
}

// Folders implements [driver.FolderLister].
func (g *guarded) Folders(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		all, err := run(ctx, g, nil, func(ctx context.Context, c *call) (all []string, err error) {
			for name, err := range driver.Folders(ctx, g.Store, prefix) {
				if err != nil {
					return nil, err
				}
				c.moved(0)
				all = append(all, name)
			}
			return all, nil
		})
		if err != nil {
			yield("", err)
			return
		}
		for _, name := range all {
			if !yield(name, nil) {
				return
			}
		}
	}
}

// listInto sends a listing in batches. The timer is stopped while the consumer is waited for.
func (g *guarded) listInto(ctx context.Context, c *call, prefix string, to chan<- []repository.Object) error {
	var batch []repository.Object
	send := func() error {
		c.pause()
		defer c.moved(0)
		select {
		case to <- batch:
			batch = nil
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for o, err := range g.Store.List(ctx, prefix) {
		if err != nil {
			if serr := send(); serr != nil {
				return serr
			}
			return err
		}
		c.moved(0)
		if batch = append(batch, o); len(batch) == listBatch {
			if err := send(); err != nil {
				return err
			}
		}
	}
	return send()
}
