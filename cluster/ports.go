package cluster

import (
	"context"
	"io"
	"iter"

	"github.com/snapshotd/snapshotd/cluster/verifying"
	"github.com/snapshotd/snapshotd/snapshot"
)

// A Source gives the snapshots of one etcd cluster.
type Source interface {
	// Snapshot chooses the best member that answers (healthy, no learner, a follower where there is one) and opens its
	// snapshot stream. Cancelling ctx ends the stream. The caller closes the stream. Nothing is retried once the stream
	// has begun. The error is a [snapshot.Error] with ReasonEtcdUnavailable.
	Snapshot(ctx context.Context) (*Stream, error)
}

// Stream is the snapshot of one member as etcd sends it: the database and, in its last 32 bytes, the sha256 of it.
// Read returns a [snapshot.Error] with ReasonEtcdUnavailable when the stream breaks. Close may be called at any time,
// also more than once, and ends a Read under way.
type Stream struct {
	io.ReadCloser
	Member Member
	Size   int64 // the member's database size, to show progress; the number of bytes that follow may differ

	// Answers is optional. It returns nil when the member answers a question for which it must read its database, and
	// why it does not when ctx ends before it has. It may be called while the stream is read, and not after it was
	// closed.
	Answers func(ctx context.Context) error
}

// Member is the etcd member that is read. Its versions and ids go into record and manifest: after years, they say
// which etcd can take the snapshot.
type Member struct {
	ClusterID      string // 16 hex digits
	MemberID       string // 16 hex digits
	Endpoint       string
	Version        string // such as 3.7.3
	StorageVersion string // such as 3.7.0; empty below 3.6
	Leader         bool
}

// A Hasher is a [Source] that can return the HashKV of a revision.
type Hasher = verifying.Hasher

// LiveHash is the hash of a revision in the live cluster.
type LiveHash = verifying.LiveHash

// An Identifier is a [Source] that can say which etcd it reads.
type Identifier interface {
	// ClusterID returns the id of the etcd cluster, 16 hex digits.
	ClusterID(ctx context.Context) (string, error)
}

// The catalog has one port for each need, so that a test, or a reader of an operation, sees at once how much of the
// catalog is involved.

// Records keeps the records of one cluster. All methods may be called at once from several goroutines and replicas.
// Changes are conditional, so that no replica overwrites a change that it has not seen. Every call ends within a few
// seconds. Errors are a [snapshot.Error] with ReasonCatalogUnavailable, or wrap the sentinel that a method names. This
// holds for the other ports of the catalog, too.
type Records interface {
	// Get returns a record or ErrNotFound. A record that cannot be read is an error that wraps ErrBadRecord, here and
	// in the other methods: none of them changes or removes it.
	Get(ctx context.Context, name string) (*snapshot.Record, error)
	// Create adds a record and sets its Version and Etag; ErrExists when there is one of that name. It makes the
	// record's request id lead to it only when the id leads to no record yet.
	Create(ctx context.Context, r *snapshot.Record) error
	// Update replaces the record whose Version is r.Version and sets the new Version and Etag; ErrConflict when the
	// record has changed or is gone.
	Update(ctx context.Context, r *snapshot.Record) error
	// Remove removes the record whose Version is r.Version; ErrConflict when it has changed, nil when it is gone.
	Remove(ctx context.Context, r *snapshot.Record) error
	// Scan yields all records in ascending order of [snapshot.OrderKey](name), as of one revision where that is not
	// compacted meanwhile. For a record that cannot be read it yields an error with a [snapshot.BadRecord], in its
	// place, and goes on. Any other error is the last element.
	Scan(ctx context.Context) iter.Seq2[*snapshot.Record, error]
}

// Saves coordinates the saves of one cluster over all replicas: one at a time, and one outcome for each request.
type Saves interface {
	// Lock takes the cluster's save lock for owner or returns ErrLocked at once.
	Lock(ctx context.Context, owner string) (Lock, error)
	// LockOwner returns the owner of the cluster's save lock; empty when it is free, or when its key is no replica's
	// lock.
	LockOwner(ctx context.Context) (string, error)
	// Told returns how far the save is for which the lock is held, as its holder has told last; nil when the lock is free,
	// or nothing was told under it that can be read.
	Told(ctx context.Context) (*snapshot.Progress, error)
	// ByRequestID returns the record of the save with this request id, or ErrNotFound. An id that leads to a record
	// which cannot be read, or is of another request, leads to none: the request may be made again.
	ByRequestID(ctx context.Context, id string) (*snapshot.Record, error)
	// Begin adds the record of a save, as Create does, and makes its request id lead to it. All of it is on
	// condition: ErrLocked when the owner in r does not hold the save lock any more; ErrConflict when the request
	// does not lead to old (nil: to no record) as it was read. The caller's changes of old are written in the same
	// transaction, so that a replica that still works on it finds out.
	Begin(ctx context.Context, r, old *snapshot.Record) error
}

// A Lock is held until it is unlocked or its lease runs out because the holder could not renew it.
type Lock interface {
	// Lost is closed when the lock is no longer known to be held.
	Lost() <-chan struct{}
	// Tell tells other replicas how far the save is, until the lock ends; ErrLocked when it is not held any more.
	Tell(ctx context.Context, p snapshot.Progress) error
	// Unlock gives the lock back. It does not fail: a lock that cannot be given back runs out.
	Unlock(ctx context.Context)
}

// History answers questions about all records of one cluster, now and over time.
type History interface {
	// List returns a page, newest first. Records that cannot be read are left out; the page says so.
	List(ctx context.Context, q snapshot.Query) (snapshot.Page, error)
	// Changes yields the changes of records after a position, by any replica, in order and a revision at a time;
	// after 0 those from now on. The first ones are yielded as soon as none can be missed any more, and some say of a
	// later revision that nothing has happened up to it. While the catalog does not answer it waits, and goes on
	// where it was. It ends with an error: a [snapshot.Error] with ReasonCancelled when ctx is done, and with
	// ReasonWatchExpired when the catalog does not know the changes any more, or is of a time before the revision. It
	// holds little memory however slowly it is read. A change to a record that cannot be read is left out, and one
	// from it looks as if there had been none.
	Changes(ctx context.Context, after snapshot.Position) iter.Seq2[snapshot.Changes, error]
}
