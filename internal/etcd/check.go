package etcd

import (
	"context"
	"errors"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Check asks each endpoint for its status, and for the beginning of a snapshot the member that a save would take. It
// reports each with its error. A learner is no error: it is never asked for a snapshot.
func (s *Source) Check(ctx context.Context, report func(action string, err error)) {
	eps, err := s.conn.endpoints(ctx)
	if err != nil {
		report("find the members", s.conn.unavailable("find etcd's members", err))
		return
	}
	members := s.ask(ctx, eps)
	fit := false
	for _, m := range members {
		m.close()
		fit = fit || m.err == nil
		err := m.err
		if m.status.GetIsLearner() {
			err = nil
		}
		if err != nil {
			err = snapshot.ReasonEtcdUnavailable.New("%s", m.endpoint.url).Because(errors.New(s.conn.why(err))).
				Advise("%s", s.conn.hint(err))
		}
		report("status of "+m.endpoint.url, err)
	}
	if fit { // else each member has said why not
		report("read a snapshot", s.checkSnapshot(ctx))
	}
}

// checkTimeout is how long the members may take, one after the other, to begin a snapshot.
const checkTimeout = 30 * time.Second

func (s *Source) checkSnapshot(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	stream, err := s.Snapshot(ctx)
	if err != nil {
		return err
	}
	_ = stream.Close() // it ends before its end, as it should
	return nil
}
