package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/storage/driver"
)

// Put implements [repository.Backend]. Once all bytes of r have been handed over it goes on for a few seconds when ctx
// is cancelled, to know how it ended.
func (b *Backend) Put(ctx context.Context, key string, r io.Reader, opts repository.PutOptions) error {
	return b.do(ctx, "put", key, func(ctx context.Context) error {
		if err := checkKey(key); err != nil {
			return err
		}
		if opts.ContentType == "" {
			return driver.Invalid("there is no content type")
		}
		src := driver.NewSource(ctx, r)
		err := b.store.Put(ctx, key, src, opts)
		switch {
		case err == nil:
			opts.Took(src.Size()) // also of a request whose answer was lost
		case src.Err() != nil:
			return &verbatim{src.Err()}
		}
		return err
	})
}

// Get implements [repository.Backend].
func (b *Backend) Get(ctx context.Context, key string, r repository.Range) (io.ReadCloser, error) {
	length := r.Length
	switch {
	case length < 0:
		length = 0 // which no extent may have
	case length == 0 || length > math.MaxInt64-max(r.Offset, 0):
		length = -1
	}
	return b.get(ctx, key, driver.Extent{Offset: r.Offset, Length: length})
}

func (b *Backend) get(ctx context.Context, key string, x driver.Extent) (io.ReadCloser, error) {
	return b.read(ctx, "get", key, func(ctx context.Context) (io.ReadCloser, error) {
		if x.Offset < 0 || x.Length == 0 {
			return nil, driver.Invalid("a range begins at 0 or later, and has at least one byte")
		}
		return b.store.Get(ctx, key, x)
	})
}

// Metadata implements [repository.MetadataReader].
func (b *Backend) Metadata(ctx context.Context, key string) (io.ReadCloser, error) {
	return b.read(ctx, "get metadata of", key, func(ctx context.Context) (io.ReadCloser, error) {
		return driver.Metadata(ctx, b.store, key)
	})
}

func (b *Backend) read(
	ctx context.Context, what, key string, open func(context.Context) (io.ReadCloser, error),
) (rc io.ReadCloser, err error) {
	err = b.do(ctx, what, key, func(ctx context.Context) error {
		if err := errors.Join(checkKey(key), context.Cause(ctx)); err != nil {
			return err
		}
		rc, err = open(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &reader{ReadCloser: rc, ctx: ctx, b: b, what: what, key: key}, nil
}

// Stat implements [repository.Backend].
func (b *Backend) Stat(ctx context.Context, key string) (o repository.Object, err error) {
	err = b.do(ctx, "stat", key, func(ctx context.Context) error {
		if err := checkKey(key); err != nil {
			return err
		}
		o, err = b.store.Stat(ctx, key)
		return err
	})
	return o, err
}

// List implements [repository.Backend].
func (b *Backend) List(ctx context.Context, prefix string) iter.Seq2[repository.Object, error] {
	return func(yield func(repository.Object, error) bool) {
		stopped, last := false, ""
		err := b.do(ctx, "list", prefix, func(ctx context.Context) error {
			if err := checkPrefix(prefix); err != nil {
				return err
			}
			for o, err := range b.store.List(ctx, prefix) {
				if err != nil {
					return err
				}
				if o.Key <= last {
					return &orderError{o.Key, last}
				}
				last = o.Key
				if stopped = !yield(o, nil); stopped {
					return nil
				}
			}
			return nil
		})
		if err != nil && !stopped {
			yield(repository.Object{}, err)
		}
	}
}

// orderError is that a listing gives a name twice, or not in its place: names may be missing as well.
type orderError struct{ key, last string }

func (e *orderError) Error() string {
	return fmt.Sprintf("the listing is not in order: %q after %q", e.key, e.last)
}

// Folders returns the names of the folders in the root, at most so many: the clusters of a place are among them.
func (b *Backend) Folders(ctx context.Context, limit int) (names []string, err error) {
	err = b.do(ctx, "list", "", func(ctx context.Context) error {
		for name, err := range driver.Folders(ctx, b.store, "") {
			if err != nil {
				return err
			}
			if names = append(names, name); len(names) == limit {
				return nil
			}
		}
		return nil
	})
	return names, err
}

// Delete implements [repository.Backend].
func (b *Backend) Delete(ctx context.Context, key string) error {
	return b.do(ctx, "delete", key, func(ctx context.Context) error {
		if err := checkKey(key); err != nil {
			return err
		}
		return b.store.Delete(ctx, key)
	})
}

// Sweep implements [repository.Backend].
func (b *Backend) Sweep(ctx context.Context, prefix string, opts repository.SweepOptions) (n int64, err error) {
	err = b.do(ctx, "sweep", prefix, func(ctx context.Context) error {
		if err := checkPrefix(prefix); err != nil {
			return err
		}
		n, err = b.store.Sweep(ctx, prefix, opts)
		return err
	})
	return n, err
}

// reader is an object that is read. An error to read it is explained like any other.
type reader struct {
	io.ReadCloser
	ctx       context.Context //nolint:containedctx // the object is read under the context that opened it
	b         *Backend
	what, key string
}

func (r *reader) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, r.b.explain(r.ctx, r.what, r.key, err)
	}
	n, err := r.ReadCloser.Read(p)
	if err == nil || err == io.EOF {
		return n, err
	}
	return n, r.b.explain(r.ctx, r.what, r.key, err)
}
