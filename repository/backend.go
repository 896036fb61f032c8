package repository

import (
	"context"
	"io"
	"iter"
	"net/url"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// A Backend keeps objects. Keys are paths with '/', relative to the backend's URL. All methods may be called at once
// from several goroutines.
//
// Errors are a [snapshot.Error] with Backend set and one of the reasons BACKEND_*, NO_SPACE, OBJECT_NOT_FOUND,
// OBJECT_EXISTS, INVALID_ARGUMENT, CANCELLED, or CHECKSUM_MISMATCH when the backend itself finds its bytes damaged.
// They wrap [snapshot.ErrNotFound] or [snapshot.ErrExists] where the backend itself said so. BACKEND_NOT_FOUND is a
// missing directory or bucket, OBJECT_NOT_FOUND a missing object. Requests are retried inside where the protocol makes
// that safe. Every call ends: a call on which no bytes move is given up, and so is one that goes on long after ctx has
// ended.
type Backend interface {
	// Info describes the backend without asking it.
	Info() Info

	// Put stores all that r gives under key, replacing an object that is there. When it returns nil the object is durable;
	// when it returns an error, because of the backend, of r, or of ctx, nothing has become visible under key that was not
	// there before. An error of r is returned as it is (errors.Is holds).
	Put(ctx context.Context, key string, r io.Reader, opts PutOptions) error
	// Get opens a range of an object. The caller closes the reader. All bytes are of one object, as it was when Get
	// returned: an object that is replaced while it is read is an error of Read, or is read to its end, and never a
	// mixture. A broken connection is made good inside where that is possible. Where the object ends before the range,
	// there are fewer bytes, or none.
	Get(ctx context.Context, key string, r Range) (io.ReadCloser, error)
	// Stat describes an object. The error wraps ErrNotFound only when the backend itself said that the object does not
	// exist.
	Stat(ctx context.Context, key string) (Object, error)
	// List yields the objects whose keys begin with prefix and have no further '/', in ascending byte order of the keys.
	// A prefix is empty or ends with '/'; one without any object is an empty listing. A listing that fails anywhere yields
	// an error, last. Temporary files and unfinished uploads are not objects.
	List(ctx context.Context, prefix string) iter.Seq2[Object, error]
	// Delete removes an object; one that does not exist is no error. When it returns nil the removal is durable.
	Delete(ctx context.Context, key string) error
	// Sweep removes the temporary files and unfinished uploads of crashed writers under prefix that were last written
	// before OlderThan. It leaves alone those of a key for which Keep is true, and everything that this program did not
	// make. It returns how many it removed (with DryRun: would remove).
	Sweep(ctx context.Context, prefix string, opts SweepOptions) (int64, error)
}

// Info describes a backend without asking it.
type Info struct {
	Name string // in the configuration
	Kind snapshot.BackendKind
	Root string // URI of the empty key, for a person, without credentials or options; a key can be put behind it
}

// URI returns where a key is, for a person.
func (i Info) URI(key string) string { return i.Root + (&url.URL{Path: key}).EscapedPath() }

// Object is a backend's description of a stored object.
type Object struct {
	Key         string
	Size        int64
	ModTime     time.Time
	LockedUntil time.Time // by Stat alone: it cannot be removed before; zero when it is not locked
}

// Range is a part of an object; the zero value is all of it.
type Range struct {
	Offset int64
	Length int64 // 0: all that follows
}

// PutOptions are the options of [Backend.Put].
type PutOptions struct {
	ContentType string // never empty
	SizeHint    int64  // how many bytes are expected, at most; 0 when not known
	IfAbsent    bool   // fail with ErrExists when the key exists; atomic on s3, best effort on local
	// Taken, unless it is nil, is told how many bytes the backend has taken so far: those that were written to the file,
	// those in requests that the server has acknowledged. It is all of them when Put returns nil. It may be called at once
	// from several goroutines, so that a lower number may come after a higher one, and still after Put has failed.
	Taken func(bytes int64)
}

// Took tells how many bytes the backend has taken so far, if Taken is set.
func (o *PutOptions) Took(bytes int64) {
	if o.Taken != nil {
		o.Taken(bytes)
	}
}

// SweepOptions are the options of [Backend.Sweep].
type SweepOptions struct {
	OlderThan time.Time
	Keep      func(key string) bool // nil keeps none
	DryRun    bool
}

// A MetadataReader is a [Backend] that can also read the metadata that K3s and RKE2 keep of a snapshot.
type MetadataReader interface {
	// Metadata opens their metadata of the object under key: the file of the same name in .metadata, beside the object in
	// a bucket, and beside the object's directory on disk, which may be outside of the backend's own keys. Nothing else
	// there is ever read, and nothing is written. It wraps ErrNotFound when there is none. The caller closes the reader.
	Metadata(ctx context.Context, key string) (io.ReadCloser, error)
}

// Stores remembers which store, by the id in its marker, is behind a backend. The catalog implements it.
type Stores interface {
	// Store returns the store of a backend, or ErrNotFound.
	Store(ctx context.Context, backend string) (snapshot.Store, error)
	// PutStore remembers a store if the one that is there still has Version s.Version (0: none is there); ErrConflict
	// otherwise.
	PutStore(ctx context.Context, backend string, s snapshot.Store) error
}

// A Driller restores a database into a throw-away etcd, starts it, queries it, writes a key and reads it back, and
// removes all of it.
type Driller interface {
	// Drill takes the file that etcd sent, of which it makes the throw-away etcd, and the snapshot's revision. An error
	// that wraps [ErrNotRestorable] is the snapshot's fault; others say nothing of it.
	Drill(ctx context.Context, file string, revision int64) (Drilled, error)
}
