package etcd

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/snapshotd/snapshotd/cluster"
)

// ClusterID implements [cluster.Identifier] with the members that answer.
func (s *Source) ClusterID(ctx context.Context) (string, error) {
	members, ranked, err := s.choose(ctx)
	defer members.close()
	if err != nil {
		return "", err
	}
	return ranked[0].clusterID(), nil
}

// HashKV implements [cluster.Hasher] with the best member that answers. A revision that is compacted, or that no member
// has yet, is an error.
func (s *Source) HashKV(ctx context.Context, revision int64) (cluster.LiveHash, error) {
	members, ranked, err := s.choose(ctx)
	defer members.close()
	if err != nil {
		return cluster.LiveHash{}, err
	}
	m := ranked[0]
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.HashTimeout, fmt.Errorf("no answer within %s", s.cfg.HashTimeout))
	defer cancel()
	var resp *etcdserverpb.HashKVResponse
	err = s.conn.authorized(ctx, m.conn, func(ctx context.Context) (err error) {
		resp, err = etcdserverpb.NewMaintenanceClient(m.conn).HashKV(ctx, &etcdserverpb.HashKVRequest{Revision: revision})
		return err
	})
	if err != nil {
		why := s.conn.why(err)
		if cause := context.Cause(ctx); cause != nil {
			why = cause.Error()
		}
		return cluster.LiveHash{}, fmt.Errorf("%s gives no HashKV of revision %d: %s", m.endpoint.url, revision, why)
	}
	return cluster.LiveHash{
		ClusterID: hexID(resp.GetHeader().GetClusterId()), HashKV: resp.GetHash(), CompactRevision: resp.GetCompactRevision(),
	}, nil
}
