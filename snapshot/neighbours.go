package snapshot

import (
	"context"
	"maps"
	"slices"
	"time"
)

// era is from when to when an etcd cluster was saved.
type era struct{ from, until time.Time }

// noteEtcd notes which etcd a snapshot is of. r.mu is held.
func (r *reconciliation) noteEtcd(rec *Record) {
	if rec.EtcdClusterID == "" || rec.CreateTime.Sub(r.begin) > ClockTolerance {
		return
	}
	s, known := r.etcds[rec.EtcdClusterID]
	if !known {
		s = era{rec.CreateTime, rec.CreateTime}
	}
	if rec.CreateTime.Before(s.from) {
		s.from = rec.CreateTime
	}
	if rec.CreateTime.After(s.until) {
		s.until = rec.CreateTime
	}
	r.etcds[rec.EtcdClusterID] = s
}

// tellApart says when two etcds were saved to one place in turns. One that was restored, and has another id since, begins when
// the other has ended; two that run have been given one name and prefix by two services that do not know of one another.
func (r *reconciliation) tellApart(ctx context.Context) {
	ids := slices.Sorted(maps.Keys(r.etcds))
	for i, a := range ids {
		for _, b := range ids[i+1:] {
			if r.etcds[a].from.Before(r.etcds[b].until) && r.etcds[b].from.Before(r.etcds[a].until) {
				r.log.WarnContext(ctx, "two etcd clusters are saved to one place; give each a cluster name or a prefix of its own, or their runs and retention get mixed up",
					"etcd_cluster", a, "other_etcd_cluster", b, "prefix", r.cfg.Prefix)
				return
			}
		}
	}
}
