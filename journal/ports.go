package journal

import (
	"context"
	"errors"
	"fmt"

	"github.com/snapshotd/snapshotd/journal/segment"
)

// A Source finds the members of one live etcd cluster. It tries nothing again: Follow does, after a pause, and then
// from another endpoint.
type Source interface {
	// Dial chooses the best member to follow: a follower that keeps up, where there is one. It passes over the endpoint to
	// avoid as long as another member is fit. The caller closes the member. The error is a [snapshot.Error] with
	// ReasonEtcdUnavailable.
	Dial(ctx context.Context, avoid string) (Identity, Member, error)
}

// A Member is one member of etcd. All questions go to it alone: an answer of another member could be older than one
// that was given before, and a lease or a revision would seem to be gone. Its methods may be called at once from
// several goroutines, and end when ctx does. No method tries anything again, and an error says nothing of the cluster:
// the session asks once more, or takes another member.
type Member interface {
	// Watch delivers all changes of the keyspace from a revision on, that one included, until ctx ends. It delivers
	// nothing while it is not read: etcd keeps the next changes in its database.
	Watch(ctx context.Context, from int64) (Stream, error)
	// Current returns the newest revision of the cluster, by a linearizable read: everything that was acknowledged before
	// the call is in it, and this member has applied it.
	Current(ctx context.Context) (int64, error)
	// Compacted returns the revision of the last compaction; known when none has run since that one.
	Compacted(ctx context.Context, known int64) (int64, error)
	// Leases returns the ids of all leases as this member knows them.
	Leases(ctx context.Context) (LeaseList, error)
	// Lease asks for one lease.
	Lease(ctx context.Context, id int64) (LeaseState, error)
	// Auth returns the state of users and roles.
	Auth(ctx context.Context) (AuthState, error)
	// Close ends the connection, and with it the streams and questions under way.
	Close()
}

// Identity says which member of a cluster it is, as it said when it was dialled.
type Identity struct {
	ClusterID, MemberID uint64
	Endpoint            string
}

// A Stream is the changes of the keyspace, revision by revision. One goroutine reads it.
type Stream interface {
	// Next waits for more. The revisions are whole and consecutive: one that is left out is an error, and never a hole. It
	// returns a [CompactedError] when etcd does not have the next one any more. After any error the stream is over. It
	// ends when the member is closed, or with the context of its Watch.
	Next() ([]Change, error)
}

// Change is a revision as it was delivered.
type Change struct {
	segment.Revision
	Leases []int64 // that its keys were given
	Made   []int64 // those that a key was made with: they may have been granted anew, with another time to live
}

// LeaseList is the leases that a member knew at a revision.
type LeaseList struct {
	Revision int64 // of the member when it answered; it may have been smaller when the list was made
	IDs      []int64
}

// LeaseState is one lease as a member describes it.
type LeaseState struct {
	Revision int64 // of the member when it answered; the lease's state is of that one or of one around it
	TTL      int64 // in seconds, as it was granted; 0 when there is no such lease
}

// AuthState is etcd's counter of the changes of users and roles, and whether authentication is on: that it was turned
// on is not counted.
type AuthState struct {
	Revision uint64
	Enabled  bool
}

// CompactedError says that revisions were compacted before they were delivered.
type CompactedError struct{ Revision int64 } // of the compaction: the first one that can still be delivered

func (e *CompactedError) Error() string {
	return fmt.Sprintf("etcd has compacted its history up to revision %d", e.Revision)
}

// compacted returns the revision of a compaction that err reports; 0 when it is another error.
func compacted(err error) int64 {
	if e, ok := errors.AsType[*CompactedError](err); ok {
		return e.Revision
	}
	return 0
}
