package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/snapshotd/snapshotd/snapshot"
)

// DefaultStallTimeout is how long a server or a file system may neither take nor give a byte before a call is given up.
const DefaultStallTimeout = time.Minute

// Config says where a backend is.
type Config struct {
	Name string // as the configuration calls it
	URL  string // file:///DIRECTORY or s3://BUCKET, see the package's documentation

	// CreateDir creates a directory that does not exist when it is first used. It is for the embedded default alone: a
	// directory that a user named and that is not there is one that is not mounted.
	CreateDir bool
	// StallTimeout ends a call on which nothing moves; DefaultStallTimeout when 0. A slow one goes on.
	StallTimeout time.Duration
	// UploadLimit slows down what is sent to S3, repetitions included; none when nil.
	UploadLimit snapshot.Limiter
	// Credentials replace those that the AWS SDK finds.
	Credentials aws.CredentialsProvider
}

// Backend is a directory or a bucket. Nothing is opened before it is used, and what could not be opened is tried again
// with the next call: a disk that is mounted late stops nobody.
type Backend struct {
	name  string
	kind  snapshot.BackendKind
	store store
}

var (
	_ snapshot.Backend        = (*Backend)(nil)
	_ snapshot.MetadataReader = (*Backend)(nil)
)

// store is one kind of storage. Its errors are as they come; [Backend] says what was tried and classifies them.
type store interface {
	uri(key string) string
	put(ctx context.Context, key string, r *source, opts snapshot.PutOptions) error
	get(ctx context.Context, key string, x extent) (io.ReadCloser, error)
	metadata(ctx context.Context, key string) (io.ReadCloser, error)
	stat(ctx context.Context, key string) (snapshot.Object, error)
	list(ctx context.Context, prefix string) iter.Seq2[snapshot.Object, error]
	remove(ctx context.Context, key string) error
	sweep(ctx context.Context, prefix string, opts snapshot.SweepOptions) (int64, error)
	close() error
}

// New returns the backend that cfg describes, or what is wrong with the description. It does no I/O.
func New(cfg Config) (*Backend, error) {
	if cfg.Name == "" {
		return nil, errors.New("a backend has no name")
	}
	loc, err := parseURL(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("backend %q: %w", cfg.Name, err)
	}
	b := &Backend{name: cfg.Name, kind: loc.kind}
	switch {
	case loc.kind == snapshot.BackendLocal:
		b.store = &patientStore{store: newFileStore(loc, cfg.CreateDir), stall: cmp.Or(cfg.StallTimeout, DefaultStallTimeout)}
	case cfg.CreateDir:
		return nil, fmt.Errorf("backend %q: only a directory can be created, not a bucket", cfg.Name)
	default:
		b.store = &s3Store{loc: loc, stall: cmp.Or(cfg.StallTimeout, DefaultStallTimeout), limit: cfg.UploadLimit, credentials: cfg.Credentials}
	}
	return b, nil
}

// Name returns the name in the configuration.
func (b *Backend) Name() string { return b.name }

// Kind returns local or s3.
func (b *Backend) Kind() snapshot.BackendKind { return b.kind }

// URI returns where a key is, for a person: file:///directory/key or s3://bucket/prefix/key.
func (b *Backend) URI(key string) string { return b.store.uri(key) }

// Close gives back what was opened. Calls under way must have ended.
func (b *Backend) Close(context.Context) error {
	if err := b.store.close(); err != nil {
		return fmt.Errorf("close backend %q: %w", b.name, err)
	}
	return nil
}

// Put implements [snapshot.Backend]. Once all bytes of r have been handed over it goes on for a few seconds when ctx is
// cancelled, to know how it ended.
func (b *Backend) Put(ctx context.Context, key string, r io.Reader, opts snapshot.PutOptions) error {
	return b.do(ctx, "put", key, func(ctx context.Context) error {
		if err := checkKey(key); err != nil {
			return err
		}
		if opts.ContentType == "" {
			return errors.New("there is no content type")
		}
		src := &source{ctx: ctx, r: r}
		err := b.store.put(ctx, key, src, opts)
		if err != nil && src.err != nil {
			return &verbatim{src.err}
		}
		return err
	})
}

// Get implements [snapshot.Backend].
func (b *Backend) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	return b.get(ctx, key, whole)
}

// GetRange implements [snapshot.Backend].
func (b *Backend) GetRange(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if length < 0 || length > math.MaxInt64-max(offset, 0) {
		length = -1
	}
	return b.get(ctx, key, extent{offset, length})
}

func (b *Backend) get(ctx context.Context, key string, x extent) (io.ReadCloser, error) {
	return b.read(ctx, "get", key, func(ctx context.Context) (io.ReadCloser, error) {
		if err := x.check(); err != nil {
			return nil, err
		}
		return b.store.get(ctx, key, x)
	})
}

// Metadata implements [snapshot.MetadataReader].
func (b *Backend) Metadata(ctx context.Context, key string) (io.ReadCloser, error) {
	return b.read(ctx, "get metadata of", key, func(ctx context.Context) (io.ReadCloser, error) {
		return b.store.metadata(ctx, key)
	})
}

func (b *Backend) read(ctx context.Context, what, key string, open func(context.Context) (io.ReadCloser, error)) (rc io.ReadCloser, err error) {
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

// Stat implements [snapshot.Backend].
func (b *Backend) Stat(ctx context.Context, key string) (o snapshot.Object, err error) {
	err = b.do(ctx, "stat", key, func(ctx context.Context) error {
		if err := checkKey(key); err != nil {
			return err
		}
		o, err = b.store.stat(ctx, key)
		return err
	})
	return o, err
}

// List implements [snapshot.Backend].
func (b *Backend) List(ctx context.Context, prefix string) iter.Seq2[snapshot.Object, error] {
	return func(yield func(snapshot.Object, error) bool) {
		stopped, last := false, ""
		err := b.do(ctx, "list", prefix, func(ctx context.Context) error {
			if err := checkPrefix(prefix); err != nil {
				return err
			}
			for o, err := range b.store.list(ctx, prefix) {
				if err != nil {
					return err
				}
				if o.Key <= last {
					return fmt.Errorf("the listing is not in order: %q after %q", o.Key, last)
				}
				last = o.Key
				if stopped = !yield(o, nil); stopped {
					return nil
				}
			}
			return nil
		})
		if err != nil && !stopped {
			yield(snapshot.Object{}, err)
		}
	}
}

// Delete implements [snapshot.Backend].
func (b *Backend) Delete(ctx context.Context, key string) error {
	return b.do(ctx, "delete", key, func(ctx context.Context) error {
		if err := checkKey(key); err != nil {
			return err
		}
		return b.store.remove(ctx, key)
	})
}

// Sweep implements [snapshot.Backend].
func (b *Backend) Sweep(ctx context.Context, prefix string, opts snapshot.SweepOptions) (n int64, err error) {
	err = b.do(ctx, "sweep", prefix, func(ctx context.Context) error {
		if err := checkPrefix(prefix); err != nil {
			return err
		}
		n, err = b.store.sweep(ctx, prefix, opts)
		return err
	})
	return n, err
}

// reader is an object that is read; what breaks it is classified like anything else.
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

// checkKey refuses keys that would not be stored under what they are: gocloud.dev/blob escapes them, or a path means
// another one.
func checkKey(key string) error {
	if key == "" || strings.HasSuffix(key, "/") {
		return fmt.Errorf("%q is not a key", key)
	}
	return checkPath(key)
}

func checkPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	if !strings.HasSuffix(prefix, "/") {
		return fmt.Errorf("prefix %q does not end with '/'", prefix)
	}
	return checkPath(strings.TrimSuffix(prefix, "/"))
}

func checkPath(p string) error {
	if !utf8.ValidString(p) || strings.ContainsFunc(p, func(r rune) bool { return r < 32 || r == 127 }) {
		return fmt.Errorf("%q has characters that are not printable", p)
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == "" || part == "." || part == ".." {
			return fmt.Errorf("%q has an empty part, '.' or '..'", p)
		}
	}
	return nil
}
