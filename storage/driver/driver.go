package driver

import (
	"context"
	"io"
	"iter"
	"net/url"
	"path"
	"time"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Kind describes one kind of storage.
type Kind struct {
	Backend snapshot.BackendKind
	Example string // a URL, as errors show it: file:///DIRECTORY
	Params  Params // of the URL, beside prefix=

	// New returns the store at a location, or an error that names the mistake in the URL. It does no I/O: a
	// store that cannot be opened is an error of the first call, and is tried again with the next one.
	New func(Location, Options) (Store, error)
	// Explain returns the meaning of an error of the store. A verdict without a reason leaves it to package storage.
	Explain func(error) Verdict
	// Blocking is set when calls cannot be ended from outside. They run under the stall guard then.
	Blocking bool
}

// Location is a URL that was checked against its kind's parameters.
type Location struct {
	URL    *url.URL   // without user and fragment
	Prefix string     // of all keys; empty, or ends with '/'
	Params url.Values // without prefix=; those that are empty are left out
}

// A Limiter slows down transfers.
type Limiter interface {
	// Wait returns when this many bytes may pass, or with the cause of ctx when it ends before.
	Wait(ctx context.Context, bytes int) error
}

// Options are the settings of a backend that are not in its URL.
type Options struct {
	StallTimeout time.Duration // how long nothing may move; above 0
	UploadLimit  Limiter       // of uploads over the network; may be nil
}

// Store is one place of a kind. Keys were checked; the location's prefix comes before them. Errors are as they come,
// but for [snapshot.ErrNotFound] and [snapshot.ErrExists], which are wrapped as the methods of [repository.Backend]
// say.
type Store interface {
	// URI returns where a key is, for a person.
	URI(key string) string
	// Put stores all bytes of src, as [repository.Backend] says.
	Put(ctx context.Context, key string, src *Source, opts repository.PutOptions) error
	// Get opens an extent of an object. An extent that begins behind the end has no bytes.
	Get(ctx context.Context, key string, x Extent) (io.ReadCloser, error)
	Stat(ctx context.Context, key string) (repository.Object, error)
	List(ctx context.Context, prefix string) iter.Seq2[repository.Object, error]
	Delete(ctx context.Context, key string) error
	Sweep(ctx context.Context, prefix string, opts repository.SweepOptions) (int64, error)
}

// metadataDir is the directory in which K3s and RKE2 keep a snapshot's metadata, in a file of the same name.
const metadataDir = ".metadata"

// MetadataKey returns the key of the metadata that K3s keeps beside an object.
func MetadataKey(key string) string {
	dir, name := path.Split(key)
	return dir + metadataDir + "/" + name
}

// A MetadataReader is a [Store] in which K3s keeps metadata elsewhere than under [MetadataKey].
type MetadataReader interface {
	Metadata(ctx context.Context, key string) (io.ReadCloser, error)
}

// Metadata opens the metadata that K3s keeps of an object.
func Metadata(ctx context.Context, s Store, key string) (io.ReadCloser, error) {
	if m, ok := s.(MetadataReader); ok {
		return m.Metadata(ctx, key)
	}
	return s.Get(ctx, MetadataKey(key), Whole)
}

// A FolderLister is a [Store] that can tell which folders there are beside the objects without a further '/'.
type FolderLister interface {
	// Folders yields the names before the next '/' of the keys that begin with prefix, each once.
	Folders(ctx context.Context, prefix string) iter.Seq2[string, error]
}

// Folders yields the folders of a store; none when the store cannot tell.
func Folders(ctx context.Context, s Store, prefix string) iter.Seq2[string, error] {
	if l, ok := s.(FolderLister); ok {
		return l.Folders(ctx, prefix)
	}
	return func(func(string, error) bool) {}
}

// Close closes a store that is an [io.Closer].
func Close(s Store) error {
	if c, ok := s.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// Swept reports whether what is left of a write to a key is removed: keys that this program does not write are left
// alone.
func Swept(key string, opts repository.SweepOptions) bool {
	return snapshot.OwnKey(key) && (opts.Keep == nil || !opts.Keep(key))
}
