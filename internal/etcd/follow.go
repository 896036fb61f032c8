package etcd

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/snapshotd/snapshotd/journal"
)

// Followed gives the members of a cluster whose changes are followed.
type Followed struct{ source *Source }

var _ journal.Source = (*Followed)(nil)

// NewFollowed returns the members behind a source of snapshots. It does no I/O.
func NewFollowed(s *Source) *Followed { return &Followed{s} }

// Dial implements [journal.Source].
func (f *Followed) Dial(ctx context.Context, avoid string) (journal.Identity, journal.Member, error) {
	members, ranked, err := f.source.choose(ctx)
	defer members.close()
	if err != nil {
		return journal.Identity{}, nil, err
	}
	best := ranked[0]
	if best.endpoint.url == avoid && len(ranked) > 1 {
		best = ranked[1]
	}
	taken := &followed{conn: f.source.conn, member: *best}
	best.conn = nil
	return taken.identity(), taken, nil
}

// followed is a member whose changes are followed. Its own connection keeps all answers those of one member.
type followed struct {
	conn   *Conn
	member member
}

func (f *followed) identity() journal.Identity {
	h := f.member.status.GetHeader()
	return journal.Identity{
		ClusterID: h.GetClusterId(), MemberID: h.GetMemberId(), Endpoint: f.member.endpoint.url,
	}
}

// Close implements [journal.Member].
func (f *followed) Close() { f.member.close() }

// probe is the key of reads that are about revisions. Nothing needs to be there, but the user must be allowed to read
// it.
var probe = []byte{0}

// Current implements [journal.Member].
func (f *followed) Current(ctx context.Context) (revision int64, err error) {
	err = f.ask(ctx, "read the current revision", func(ctx context.Context) error {
		resp, err := etcdserverpb.NewKVClient(f.member.conn).Range(ctx,
			&etcdserverpb.RangeRequest{Key: probe, CountOnly: true})
		revision = resp.GetHeader().GetRevision()
		return err
	})
	return revision, err
}

// Compacted implements [journal.Member]. A read of the last compaction's revision costs nothing and fails once there is
// a newer one. Only then a watch is begun that etcd refuses at once, because its refusal is the only answer with the
// revision.
func (f *followed) Compacted(ctx context.Context, known int64) (int64, error) {
	known = max(known, 1)
	err := f.ask(ctx, "look for a compaction", func(ctx context.Context) error {
		_, err := etcdserverpb.NewKVClient(f.member.conn).Range(ctx, &etcdserverpb.RangeRequest{
			Key: probe, CountOnly: true, Revision: known, Serializable: true,
		})
		return err
	})
	if !errors.Is(err, rpctypes.ErrCompacted) {
		return known, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := f.watch(ctx, &etcdserverpb.WatchCreateRequest{Key: probe, StartRevision: known})
	if err != nil {
		return known, err
	}
	_, err = w.Next()
	if e, ok := errors.AsType[*journal.CompactedError](err); ok {
		return e.Revision, nil
	}
	if err == nil {
		err = fmt.Errorf("%s has compacted its history and does not say up to which revision", f.member.endpoint.url)
	}
	return known, err
}

// Leases implements [journal.Member].
func (f *followed) Leases(ctx context.Context) (list journal.LeaseList, err error) {
	err = f.ask(ctx, "list the leases", func(ctx context.Context) error {
		resp, err := etcdserverpb.NewLeaseClient(f.member.conn).LeaseLeases(ctx, &etcdserverpb.LeaseLeasesRequest{})
		list.Revision, list.IDs = resp.GetHeader().GetRevision(), make([]int64, len(resp.GetLeases()))
		for i, l := range resp.GetLeases() {
			list.IDs[i] = l.GetID()
		}
		return err
	})
	return list, err
}

// Lease implements [journal.Member].
func (f *followed) Lease(ctx context.Context, id int64) (state journal.LeaseState, err error) {
	err = f.ask(ctx, "ask for a lease", func(ctx context.Context) error {
		req := &etcdserverpb.LeaseTimeToLiveRequest{ID: id}
		resp, err := etcdserverpb.NewLeaseClient(f.member.conn).LeaseTimeToLive(ctx, req)
		state.Revision = resp.GetHeader().GetRevision()
		// What is left of it says nothing: it is -1 when there is no such lease, and also a while after the lease has
		// expired.
		state.TTL = resp.GetGrantedTTL()
		return err
	})
	return state, err
}

// Auth implements [journal.Member].
func (f *followed) Auth(ctx context.Context) (state journal.AuthState, err error) {
	err = f.ask(ctx, "read the revision of users and roles", func(ctx context.Context) error {
		resp, err := etcdserverpb.NewAuthClient(f.member.conn).AuthStatus(ctx, &etcdserverpb.AuthStatusRequest{})
		state = journal.AuthState{Revision: resp.GetAuthRevision(), Enabled: resp.GetEnabled()}
		return err
	})
	return state, err
}

// ask makes a call to the member.
func (f *followed) ask(ctx context.Context, action string, call func(context.Context) error) error {
	if err := f.conn.authorized(ctx, f.member.conn, call); err != nil {
		return &askError{fmt.Sprintf("%s from %s: %s", action, f.member.endpoint.url, f.conn.why(err)), rpctypes.Error(err)}
	}
	return nil
}

// askError is the error of a call, with the words of an operator.
type askError struct {
	text string
	err  error
}

func (e *askError) Error() string { return e.text }
func (e *askError) Unwrap() error { return e.err }
