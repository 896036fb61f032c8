package catalog

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/snapshotd/snapshotd/internal/wire"
	"github.com/snapshotd/snapshotd/snapshot"
)

// mayRetry reports whether another member, or the next leader, may carry out a request that failed.
func mayRetry(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true // of the attempt
	}
	if e, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		return e.Code() == codes.Unavailable
	}
	switch status.Code(err) {
	case codes.DeadlineExceeded:
		return true
	case codes.Unavailable:
		return !unreachable(err)
	default:
		return false
	}
}

// unreachable reports whether no member at all can be reached: the client has tried them all.
func unreachable(err error) bool {
	s, ok := status.FromError(err)
	return ok && s.Code() == codes.Unavailable && strings.Contains(s.Message(), "connection error")
}

// unavailable returns the error of a request that etcd did not carry out, with its cause and a way out.
func (c *Catalog) unavailable(what string, err error) error {
	switch snapshot.ReasonOf(err) {
	case snapshot.ReasonCatalogUnavailable, snapshot.ReasonPageTokenExpired:
		return err
	}
	e := snapshot.ReasonCatalogUnavailable.New("%s in the catalog of cluster %q", what, c.cfg.Cluster).Because(plain(err))
	is := func(target error) bool { return errors.Is(err, target) }
	switch {
	case is(rpctypes.ErrNoSpace):
		return e.Advise("etcd's database has reached its quota; " +
			"compact, defragment and disarm the alarm (etcdctl alarm disarm)")
	case is(rpctypes.ErrCorrupt):
		return e.Advise("etcd has found its members to differ (alarm CORRUPT); restore the member that is wrong")
	case is(rpctypes.ErrPermissionDenied):
		return e.Final().
			Advise("the user needs: etcdctl role grant-permission ROLE --prefix=true readwrite %s", c.cfg.Prefix)
	case is(rpctypes.ErrUserEmpty), is(rpctypes.ErrAuthFailed), is(rpctypes.ErrInvalidAuthToken):
		return e.Final().Advise("etcd's authentication is on; give a user and password that it knows, " +
			"or a client certificate with the user's name")
	case is(rpctypes.ErrNoLeader), is(rpctypes.ErrLeaderChanged), is(rpctypes.ErrTimeoutDueToLeaderFail),
		is(rpctypes.ErrTimeoutDueToConnectionLost):
		return e.Advise("etcd has lost its quorum, or is electing a leader; " +
			"etcdctl endpoint status --cluster shows which members are gone")
	case unreachable(err):
		e.Message += ": no member of etcd can be reached"
		return e.Advise("check that etcd runs, and the endpoints and certificates that are configured for it")
	case is(context.DeadlineExceeded), is(rpctypes.ErrTimeout), status.Code(err) == codes.DeadlineExceeded:
		return e.Because(fmt.Errorf("etcd did not answer within %s", c.cfg.Timeout)).
			Advise("etcd has no quorum, or is overloaded; etcdctl endpoint status --cluster shows how its members are")
	}
	return e
}

// plain takes gRPC's wrapping off an error that etcd itself did not make.
func plain(err error) error {
	if s, ok := status.FromError(err); ok && s.Code() != codes.OK {
		return errors.New(wire.Plain(err))
	}
	return err
}
