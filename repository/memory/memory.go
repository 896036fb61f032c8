// Package memory is a [repository.Backend] in memory, for tests: it keeps every promise of the port and does no I/O.
package memory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

var (
	_ repository.Backend        = (*Backend)(nil)
	_ repository.MetadataReader = (*Backend)(nil)
)

// Backend keeps objects in memory. All methods may be called at once from several goroutines.
type Backend struct {
	info repository.Info

	mu       sync.Mutex
	now      func() time.Time
	objects  map[string]object    // by key
	metadata map[string][]byte    // of K3s and RKE2, by key of the object
	uploads  map[string]time.Time // unfinished: by key, when it was last written
	gone     bool
}

// object is never changed: Put makes a new one, so that a reader keeps the one that it has.
type object struct {
	content     []byte
	modTime     time.Time
	lockedUntil time.Time
}

// New returns a backend without any objects.
func New(name string, kind snapshot.BackendKind) *Backend {
	return &Backend{
		info: repository.Info{Name: name, Kind: kind, Root: "mem://" + name + "/"}, now: time.Now,
		objects: map[string]object{}, metadata: map[string][]byte{}, uploads: map[string]time.Time{},
	}
}

// Info implements [repository.Backend].
func (b *Backend) Info() repository.Info { return b.info }

// Put implements [repository.Backend].
func (b *Backend) Put(ctx context.Context, key string, r io.Reader, opts repository.PutOptions) error {
	if err := b.check(ctx, "put", key, checkKey(key)); err != nil {
		return err
	}
	if opts.ContentType == "" {
		return b.invalid("put", key, errors.New("there is no content type"))
	}
	in := &cancellable{ctx: ctx, r: r, took: opts.Took}
	// Nothing is visible before all bytes were read, and the mutex is free meanwhile: r may read from this backend.
	content, _ := io.ReadAll(in)
	if in.err != nil {
		return in.err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if ctx.Err() != nil {
		return b.cancelled(ctx, "put", key)
	}
	if _, exists := b.objects[key]; exists && opts.IfAbsent {
		return snapshot.ReasonObjectExists.New("backend %q: put %s", b.info.Name, key).
			On(b.info.Name).Because(snapshot.ErrExists)
	}
	b.objects[key] = object{content: content, modTime: b.now().UTC()}
	return nil
}

// Get implements [repository.Backend].
func (b *Backend) Get(ctx context.Context, key string, r repository.Range) (io.ReadCloser, error) {
	err := checkKey(key)
	if r.Offset < 0 || r.Length < 0 {
		err = fmt.Errorf("%d bytes from %d on are no range", r.Length, r.Offset)
	}
	if err := b.check(ctx, "get", key, err); err != nil {
		return nil, err
	}
	o, err := b.find("get", key)
	if err != nil {
		return nil, err
	}
	// A range that begins behind the end has no bytes, which is no error by the port.
	content := o.content[min(r.Offset, int64(len(o.content))):]
	if r.Length > 0 {
		content = content[:min(r.Length, int64(len(content)))]
	}
	return &reader{ctx: ctx, b: b, key: key, r: bytes.NewReader(content)}, nil
}

// Stat implements [repository.Backend].
func (b *Backend) Stat(ctx context.Context, key string) (repository.Object, error) {
	if err := b.check(ctx, "stat", key, checkKey(key)); err != nil {
		return repository.Object{}, err
	}
	o, err := b.find("stat", key)
	if err != nil {
		return repository.Object{}, err
	}
	return repository.Object{
		Key: key, Size: int64(len(o.content)), ModTime: o.modTime, LockedUntil: o.lockedUntil,
	}, nil
}

// find returns an object.
func (b *Backend) find(op, key string) (object, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o, ok := b.objects[key]
	if !ok {
		return o, b.notFound(op, key)
	}
	return o, nil
}

// List implements [repository.Backend]. The listing is that of the moment at which it begins.
func (b *Backend) List(ctx context.Context, prefix string) iter.Seq2[repository.Object, error] {
	return func(yield func(repository.Object, error) bool) {
		if err := b.check(ctx, "list", prefix, checkPrefix(prefix)); err != nil {
			yield(repository.Object{}, err)
			return
		}
		// The objects are copied first: the caller may change the backend while it lists.
		for _, o := range b.below(prefix) {
			if ctx.Err() != nil {
				yield(repository.Object{}, b.cancelled(ctx, "list", prefix))
				return
			}
			if !yield(o, nil) {
				return
			}
		}
	}
}

// below returns the objects of one level, in the order of their keys.
func (b *Backend) below(prefix string) []repository.Object {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []repository.Object
	for key, o := range b.objects {
		if name, ok := strings.CutPrefix(key, prefix); ok && !strings.Contains(name, "/") {
			all = append(all, repository.Object{Key: key, Size: int64(len(o.content)), ModTime: o.modTime})
		}
	}
	slices.SortFunc(all, func(a, b repository.Object) int { return strings.Compare(a.Key, b.Key) })
	return all
}

// Delete implements [repository.Backend].
func (b *Backend) Delete(ctx context.Context, key string) error {
	if err := b.check(ctx, "delete", key, checkKey(key)); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	// An object that does not exist has no lock, and its removal is no error.
	if until := b.objects[key].lockedUntil; until.After(b.now()) {
		return snapshot.ReasonBackendAccessDenied.New("backend %q: delete %s: it is locked until %s",
			b.info.Name, key, until.UTC().Format(time.RFC3339)).On(b.info.Name)
	}
	delete(b.objects, key)
	return nil
}

// Sweep implements [repository.Backend].
func (b *Backend) Sweep(ctx context.Context, prefix string, opts repository.SweepOptions) (n int64, err error) {
	if err := b.check(ctx, "sweep", prefix, checkPrefix(prefix)); err != nil {
		return 0, err
	}
	for _, key := range b.stale(prefix, opts.OlderThan) {
		if opts.Keep != nil && opts.Keep(key) { // it may call the backend: the mutex is free
			continue
		}
		n++
		if !opts.DryRun {
			b.mu.Lock()
			delete(b.uploads, key)
			b.mu.Unlock()
		}
	}
	return n, nil
}

// stale returns the keys of one level whose unfinished uploads of this program were last written before a time.
func (b *Backend) stale(prefix string, before time.Time) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var keys []string
	for key, written := range b.uploads {
		name, ok := strings.CutPrefix(key, prefix)
		if ok && !strings.Contains(name, "/") && snapshot.OwnKey(name) && written.Before(before) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// Metadata implements [repository.MetadataReader].
func (b *Backend) Metadata(ctx context.Context, key string) (io.ReadCloser, error) {
	const op = "get metadata of"
	if err := b.check(ctx, op, key, checkKey(key)); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	doc, ok := b.metadata[key]
	if !ok {
		return nil, b.notFound(op, key)
	}
	return &reader{ctx: ctx, b: b, key: key, r: bytes.NewReader(doc)}, nil
}

// reader reads an object until its context ends.
type reader struct {
	ctx context.Context //nolint:containedctx // the object is read under the context that opened it
	b   *Backend
	key string
	r   io.Reader
}

// Read implements [io.Reader].
func (r *reader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, r.b.cancelled(r.ctx, "get", r.key)
	}
	return r.r.Read(p)
}

// Close implements [io.Closer].
func (r *reader) Close() error { return nil }

// cancellable reads for a Put, whose reader may never end by itself.
type cancellable struct {
	ctx context.Context //nolint:containedctx // an io.Reader has no other way to be cancelled
	r   io.Reader
	err error // of r, which Put returns as it is

	n    int64
	took func(int64)
}

// Read implements [io.Reader].
func (c *cancellable) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.took(c.n)
	if err != io.EOF { // a wrapped one is not the end
		c.err = err
	}
	return n, err
}

// check returns why an operation cannot begin; bad is why its arguments are wrong.
func (b *Backend) check(ctx context.Context, op, key string, bad error) error {
	b.mu.Lock()
	gone := b.gone
	b.mu.Unlock()
	switch {
	case bad != nil:
		return b.invalid(op, key, bad)
	case ctx.Err() != nil:
		return b.cancelled(ctx, op, key)
	case gone:
		return snapshot.ReasonBackendNotFound.New("backend %q: %s %s: there is no such memory", b.info.Name, op, key).
			On(b.info.Name)
	}
	return nil
}

// The errors have the reasons of the port; callers branch on these.

func (b *Backend) invalid(op, key string, why error) error {
	return snapshot.ReasonInvalidArgument.New("backend %q: %s %s", b.info.Name, op, key).On(b.info.Name).Because(why)
}

func (b *Backend) cancelled(ctx context.Context, op, key string) error {
	return snapshot.Cancelled(ctx, "backend %q: %s %s", b.info.Name, op, key).On(b.info.Name)
}

func (b *Backend) notFound(op, key string) error {
	return snapshot.ReasonObjectNotFound.New("backend %q: %s %s", b.info.Name, op, key).
		On(b.info.Name).Because(snapshot.ErrNotFound)
}

// checkKey refuses keys that another backend could not store under exactly this name.
func checkKey(key string) error {
	if key == "" || path.Clean("/"+key) != "/"+key {
		return fmt.Errorf("%q is not a key", key)
	}
	return nil
}

// checkPrefix refuses prefixes that do not end with '/': the keys of "a" must not be those of "ab".
func checkPrefix(prefix string) error {
	if prefix != "" && path.Clean("/"+prefix)+"/" != "/"+prefix {
		return fmt.Errorf("%q is not a prefix", prefix)
	}
	return nil
}
