package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/storage/driver"
	"github.com/snapshotd/snapshotd/storage/stall"
)

// DefaultStallTimeout is how long a server or a file system may neither take nor give a byte before a call is given up.
const DefaultStallTimeout = time.Minute

// Config says where a backend is.
type Config struct {
	Name string // as the configuration calls it
	URL  string // file:///DIRECTORY or s3://BUCKET, see the package's documentation

	// StallTimeout ends a call on which nothing moves; DefaultStallTimeout when 0, another one is for tests. A slow one
	// goes on.
	StallTimeout time.Duration
	// UploadLimit slows down uploads over the network, repetitions included; none when nil.
	UploadLimit driver.Limiter
}

// Backend is a directory or a bucket. Nothing is opened before it is used, and a store that could not be opened is
// tried again with the next call: a disk that is mounted late stops nobody.
type Backend struct {
	name  string
	kind  driver.Kind
	store driver.Store
}

var (
	_ repository.Backend        = (*Backend)(nil)
	_ repository.MetadataReader = (*Backend)(nil)
)

// New returns the backend that cfg describes, or the mistake in the description. It does no I/O.
func New(cfg Config) (*Backend, error) {
	if cfg.Name == "" {
		return nil, errors.New("a backend has no name")
	}
	timeout := cmp.Or(cfg.StallTimeout, DefaultStallTimeout)
	kind, loc, err := parseURL(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("backend %q: %w", cfg.Name, err)
	}
	store, err := kind.New(loc, driver.Options{StallTimeout: timeout, UploadLimit: cfg.UploadLimit})
	if err != nil {
		return nil, fmt.Errorf("backend %q: %w", cfg.Name, err)
	}
	return NewBackend(cfg.Name, kind, store, timeout), nil
}

// NewBackend returns a backend on a store that was made without a URL, as the tests of a kind do.
func NewBackend(name string, kind driver.Kind, store driver.Store, stallTimeout time.Duration) *Backend {
	if kind.Blocking {
		store = stall.Guard(store, stallTimeout)
	}
	return &Backend{name: name, kind: kind, store: store}
}

// Info describes the backend without asking it.
func (b *Backend) Info() repository.Info {
	return repository.Info{Name: b.name, Kind: b.kind.Backend, Root: b.store.URI("")}
}

// Close closes connections and files. Calls under way must have ended.
func (b *Backend) Close(context.Context) error {
	if err := driver.Close(b.store); err != nil {
		return fmt.Errorf("close backend %q: %w", b.name, err)
	}
	return nil
}
