package snapshot

import (
	"context"
	"io"
	"iter"
	"time"
)

// A Source gives the snapshots of one etcd cluster.
type Source interface {
	// Snapshot chooses the best member that answers (healthy, no learner, a follower where there is one) and opens its
	// snapshot stream. Cancelling ctx ends the stream. The caller closes the stream. Nothing is retried once the stream
	// has begun. The error is an [Error] with ReasonEtcdUnavailable.
	Snapshot(ctx context.Context) (*Stream, error)
}

// Stream is the snapshot of one member as etcd sends it: the database and, in its last 32 bytes, the sha256 of it.
// Read returns an [Error] with ReasonEtcdUnavailable when the stream breaks. Close may be called at any time, also more
// than once, and ends a Read under way.
type Stream struct {
	io.ReadCloser
	Member Member
	Size   int64 // the member's database size, to show progress; what is sent may differ
}

// Member is the etcd member that is read.
type Member struct {
	ClusterID      string // 16 hex digits
	MemberID       string // 16 hex digits
	Endpoint       string
	Version        string // such as 3.7.3
	StorageVersion string // such as 3.7.0; empty below 3.6
	Leader         bool
}

// Object is what a backend says of a stored object.
type Object struct {
	Key         string
	Size        int64
	ModTime     time.Time
	LockedUntil time.Time // by Stat alone: it cannot be removed before; zero when it is not locked
}

// A Backend keeps objects. Keys are paths with '/', relative to the backend's URL. All methods may be called at once
// from several goroutines. Errors are an [Error] with Backend set and one of the reasons BACKEND_*, NO_SPACE, CANCELLED, or
// CHECKSUM_MISMATCH when the backend itself finds its bytes damaged, and wrap [ErrNotFound] or [ErrExists] where that is what
// the backend said. Requests are retried inside where the protocol makes that safe. Every call ends: one on which nothing
// moves is given up, and so is one that goes on long after ctx has ended.
type Backend interface {
	// Name returns the name in the configuration.
	Name() string
	// Kind returns local or s3.
	Kind() BackendKind
	// URI returns where a key is, for a person, without credentials or options.
	URI(key string) string

	// Put stores all that r gives under key, replacing what is there. When it returns nil the object is durable; when it
	// returns an error, because of the backend, of r, or of ctx, nothing has become visible under key that was not there
	// before. An error of r is returned as it is (errors.Is holds).
	Put(ctx context.Context, key string, r io.Reader, opts PutOptions) error
	// Get opens an object. The caller closes the reader. What it gives is of one object, as it was when Get returned: one that
	// is replaced while it is read is an error of Read, or is read to its end, and never a mixture. A connection that breaks
	// is made good inside where that can be.
	Get(ctx context.Context, key string) (io.ReadCloser, error)
	// GetRange is Get of length bytes from offset on; a length below 0 is all that follows, 0 is an error. Where the object
	// ends before, there are fewer bytes, or none.
	GetRange(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error)
	// Stat returns what the backend says of an object; it wraps ErrNotFound only when the backend itself said that the
	// object does not exist.
	Stat(ctx context.Context, key string) (Object, error)
	// List yields the objects whose keys begin with prefix and have no further '/', in ascending byte order of the keys.
	// A prefix is empty or ends with '/'; one that nothing was ever put under is an empty listing. A listing that fails
	// anywhere yields an error, last. Temporary files and unfinished uploads are not objects.
	List(ctx context.Context, prefix string) iter.Seq2[Object, error]
	// Delete removes an object; one that does not exist is no error. When it returns nil the removal is durable.
	Delete(ctx context.Context, key string) error
	// Sweep removes what crashed writers left under prefix and never became visible (temporary files, unfinished uploads),
	// if it was last written before olderThan. It leaves alone what belongs to a key for which keep is true, and
	// everything that this program did not make. It returns how many it removed (with dryRun: would remove).
	Sweep(ctx context.Context, prefix string, opts SweepOptions) (int64, error)
}

// A MetadataReader is a [Backend] that can also read what K3s and RKE2 keep of a snapshot.
type MetadataReader interface {
	// Metadata opens what they keep of the object of a key: the file of the same name in .metadata, beside the object in a
	// bucket, and beside the object's directory on disk, which may be outside of the backend's own keys: nothing else there
	// is ever read, and nothing is written. It wraps ErrNotFound when there is none. The caller closes the reader.
	Metadata(ctx context.Context, key string) (io.ReadCloser, error)
}

// PutOptions are the options of [Backend.Put].
type PutOptions struct {
	ContentType string // never empty
	SizeHint    int64  // how many bytes are expected, at most; 0 when not known
	IfAbsent    bool   // fail with ErrExists when the key exists; atomic on s3, best effort on local
}

// SweepOptions are the options of [Backend.Sweep].
type SweepOptions struct {
	OlderThan time.Time
	Keep      func(key string) bool // nil keeps none
	DryRun    bool
}

// A Catalog keeps the records of one cluster. All methods may be called at once from several goroutines and replicas;
// changes are conditional, so that nobody overwrites what he has not seen. Every call ends within a few seconds. Errors
// are an [Error] with ReasonCatalogUnavailable, or wrap the sentinel that a method names.
type Catalog interface {
	// Get returns a record or ErrNotFound.
	Get(ctx context.Context, name string) (*Record, error)
	// ByRequestID returns the record of the save with this request id, or ErrNotFound.
	ByRequestID(ctx context.Context, id string) (*Record, error)
	// Create adds a record and sets its Version and Etag; ErrExists when there is one of that name. Its request id is left
	// to the save that has it.
	Create(ctx context.Context, r *Record) error
	// Begin adds the record of a save, as Create does, and makes its request id lead to it. All of it is on condition:
	// ErrLocked when an owner in r does not hold the save lock any more; ErrConflict when the request does not lead to old
	// (nil: to no record) as it was read. What the caller changed of old is written in the same transaction, so that
	// whoever may still be at work on it finds out.
	Begin(ctx context.Context, r, old *Record) error
	// Update replaces the record whose Version is r.Version and sets the new Version and Etag; ErrConflict when the record
	// has changed or is gone.
	Update(ctx context.Context, r *Record) error
	// Remove removes the record whose Version is r.Version; ErrConflict when it has changed, nil when it is gone.
	Remove(ctx context.Context, r *Record) error
	// Scan yields all records in ascending order of [OrderKey](name), as of one revision where that is not compacted
	// meanwhile. A scan that fails yields an error, last.
	Scan(ctx context.Context) iter.Seq2[*Record, error]
	// List returns a page, newest first.
	List(ctx context.Context, q Query) (Page, error)

	// Changes yields the changes of records after a position, by whatever replica, in order and a revision at a time; after 0
	// those from now on. The first ones are yielded as soon as none can be missed any more, and some that say of a later
	// revision that nothing has happened up to it. While the catalog does not answer it waits, and goes on where it was. It
	// ends with an error: an [Error] with ReasonCancelled when ctx is done, and with ReasonWatchExpired when the catalog does
	// not know any more what changed, or is of a time before the revision. It holds little memory however slowly it is read.
	Changes(ctx context.Context, after Position) iter.Seq2[Changes, error]

	// Lock takes the cluster's save lock for owner or returns ErrLocked at once.
	Lock(ctx context.Context, owner string) (Lock, error)
	// LockOwner returns who holds the cluster's save lock; empty when nobody does.
	LockOwner(ctx context.Context) (string, error)

	// Store returns what is remembered of a backend's store, or ErrNotFound.
	Store(ctx context.Context, backend string) (Store, error)
	// PutStore remembers it if what is there still has Version s.Version (0: nothing is there); ErrConflict otherwise.
	PutStore(ctx context.Context, backend string, s Store) error
}

// A Lock is held until it is unlocked or its lease runs out because the holder could not renew it.
type Lock interface {
	// Lost is closed when the lock is no longer known to be held.
	Lost() <-chan struct{}
	// Unlock gives the lock back. It does not fail: what cannot be given back runs out.
	Unlock(ctx context.Context)
}

// Store is what the catalog remembers of the store behind a backend.
type Store struct {
	ID          string
	Initialized bool // its marker was seen
	Version     int64
}

// Query chooses records; zero fields choose all.
type Query struct {
	States  []State
	Backend string
	Labels  map[string]string
	From    time.Time // created at or after
	Until   time.Time // created before

	PageSize  int // 1 to 1000
	PageToken string
}

// Page is a page of records, newest first.
type Page struct {
	Records       []*Record
	NextPageToken string // empty when this is the last page
}

// A Limiter slows down what moves bytes.
type Limiter interface {
	// Wait returns when as many bytes may pass, or with the cause of ctx when it ends before.
	Wait(ctx context.Context, bytes int) error
}

// An Observer is told what happened, for metrics. Its methods are called while the span of what is observed is open in
// ctx, and do not block.
type Observer interface {
	// Saved: a Save ended; err is nil only when every chosen backend holds the snapshot.
	Saved(ctx context.Context, s *Snapshot, d time.Duration, err error)
	// SaveRejected: a Save was refused because another one runs.
	SaveRejected(ctx context.Context, cluster string)
	// Wrote: a write of a snapshot (data and manifest) to a backend ended.
	Wrote(ctx context.Context, kind BackendKind, d time.Duration, err error)
	// Reconciled: a Reconcile ended; err is nil only when no backend failed.
	Reconciled(ctx context.Context, cluster string, d time.Duration, err error)
	// Listed: a listing of a backend ended; d is the time spent in the backend.
	Listed(ctx context.Context, kind BackendKind, d time.Duration, err error)
	// Counted: the catalog's records of a cluster by state, after a Reconcile.
	Counted(ctx context.Context, cluster string, byState map[State]int64)
	// Swept: leftovers were removed from a backend.
	Swept(ctx context.Context, cluster, backend string, n int64)
	// Deleted: a snapshot was removed from a backend, because somebody asked for it or by retention.
	Deleted(ctx context.Context, cluster, backend string)
	// Verified: a snapshot was verified, with this verdict.
	Verified(ctx context.Context, s *Snapshot, v Verification)
	// Proven: the newest snapshot of a cluster that a drill has proven, after a Reconcile or a drill: its revision, and when
	// it was proven; a zero time when there is none.
	Proven(ctx context.Context, cluster string, revision int64, at time.Time)
	// Repaired: an attempt to bring a copy of a snapshot to a backend ended.
	Repaired(ctx context.Context, cluster, backend string, err error)
	// Waiting: the copies that wait for their repair, by backend; a backend without any is left out.
	Waiting(ctx context.Context, cluster string, byBackend map[string]Waiting)
}

// Waiting is what waits for its repair on one backend.
type Waiting struct {
	Count int64
	Since time.Time // when the oldest of them failed
}
