package telemetry

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/snapshotd/snapshotd/snapshot"
)

// observer turns what the domain reports into metrics.
type observer struct {
	six histograms
	own ownMetrics

	mu     sync.Mutex
	newest map[string]time.Time // by cluster: when the last successful save began

	waiting waitingCopies
}

var _ snapshot.Observer = (*observer)(nil)

func newObserver(ctx context.Context, six, own metric.MeterProvider, version string) (*observer, error) {
	h, err := newHistograms(six.Meter(scope))
	if err != nil {
		return nil, err
	}
	m, err := newOwnMetrics(own.Meter(scope))
	if err != nil {
		return nil, err
	}
	m.buildInfo.Record(ctx, 1, buildAttributes(version))
	o := &observer{six: h, own: m, newest: make(map[string]time.Time)}
	return o, o.waiting.register(own.Meter(scope))
}

// Saved implements [snapshot.Observer].
func (o *observer) Saved(ctx context.Context, s *snapshot.Snapshot, d time.Duration, err error) {
	o.six.save.Record(ctx, d.Seconds(), statusOf(err))
	if err == nil {
		o.lastSuccess(ctx, s)
	}
}

// SaveRejected implements [snapshot.Observer].
func (o *observer) SaveRejected(ctx context.Context, cluster string) {
	o.own.rejected.Add(ctx, 1, clusterOf(cluster))
}

// Wrote implements [snapshot.Observer].
func (o *observer) Wrote(ctx context.Context, kind snapshot.BackendKind, d time.Duration, err error) {
	switch kind {
	case snapshot.BackendLocal:
		o.six.saveLocal.Record(ctx, d.Seconds(), statusOf(err))
	case snapshot.BackendS3:
		o.six.saveS3.Record(ctx, d.Seconds(), statusOf(err))
	}
}

// Reconciled implements [snapshot.Observer].
func (o *observer) Reconciled(ctx context.Context, _ string, d time.Duration, err error) {
	o.six.reconcile.Record(ctx, d.Seconds(), statusOf(err))
}

// Listed implements [snapshot.Observer].
func (o *observer) Listed(ctx context.Context, kind snapshot.BackendKind, d time.Duration, err error) {
	switch kind {
	case snapshot.BackendLocal:
		o.six.reconcileLocal.Record(ctx, d.Seconds(), statusOf(err))
	case snapshot.BackendS3:
		o.six.reconcileS3.Record(ctx, d.Seconds(), statusOf(err))
	}
}

// Counted implements [snapshot.Observer]. A state without records is a zero, not the number of the last time.
func (o *observer) Counted(ctx context.Context, cluster string, byState map[snapshot.State]int64) {
	for state := snapshot.StateSaving; state <= snapshot.StateDeleting; state++ {
		o.own.snapshots.Record(ctx, byState[state], stateOf(cluster, state))
	}
}

// Swept implements [snapshot.Observer].
func (o *observer) Swept(ctx context.Context, cluster, backend string, n int64) {
	o.own.swept.Add(ctx, n, backendOf(cluster, backend))
}

// Deleted implements [snapshot.Observer].
func (o *observer) Deleted(ctx context.Context, cluster, backend string) {
	o.own.deleted.Add(ctx, 1, backendOf(cluster, backend))
}

// Verified implements [snapshot.Observer].
func (o *observer) Verified(ctx context.Context, s *snapshot.Snapshot, v snapshot.Verification) {
	result := "failed"
	if v.Passed {
		result = "passed"
	}
	o.own.verified.Add(ctx, 1, verdictOf(s.Cluster, strings.ToLower(v.Level.String()), result))
}

// Proven implements [snapshot.Observer].
func (o *observer) Proven(ctx context.Context, cluster string, revision int64, at time.Time) {
	var seconds float64
	if !at.IsZero() {
		seconds = float64(at.UnixMilli()) / 1e3
	}
	o.own.proven.Record(ctx, seconds, clusterOf(cluster))
	o.own.provenAt.Record(ctx, revision, clusterOf(cluster))
}

// Repaired implements [snapshot.Observer].
func (o *observer) Repaired(ctx context.Context, cluster, backend string, err error) {
	o.own.repairs.Add(ctx, 1, repairOf(cluster, backend, err))
}

// Waiting implements [snapshot.Observer].
func (o *observer) Waiting(_ context.Context, cluster string, byBackend map[string]snapshot.Waiting) {
	o.waiting.set(cluster, byBackend)
}

// lastSuccess records the last snapshot that reached every backend, unless a newer one is known. One that is in the future was
// taken by a wrong clock, and would hide for as long that no other one is taken.
func (o *observer) lastSuccess(ctx context.Context, s *snapshot.Snapshot) {
	if s == nil || s.CreateTime.IsZero() {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	newest := o.newest[s.Cluster]
	if s.CreateTime.Before(newest) && time.Until(newest) <= snapshot.ClockTolerance {
		return
	}
	o.newest[s.Cluster] = s.CreateTime
	cluster := clusterOf(s.Cluster)
	o.own.lastTime.Record(ctx, float64(s.CreateTime.UnixMilli())/1e3, cluster)
	o.own.lastRevision.Record(ctx, s.Revision, cluster)
	o.own.dbSize.Record(ctx, s.DBSize, cluster)
	o.own.storedSize.Record(ctx, s.StoredSize, cluster)
}

func (o *observer) leading(ctx context.Context, cluster string, leading bool) {
	var v int64
	if leading {
		v = 1
	}
	o.own.leader.Record(ctx, v, clusterOf(cluster))
	if !leading {
		o.waiting.set(cluster, nil) // whoever leads knows
	}
}

func (o *observer) addCluster(ctx context.Context, cluster string, backends []string) {
	o.own.rejected.Add(ctx, 0, clusterOf(cluster))
	for _, level := range []snapshot.Level{snapshot.LevelChecksum, snapshot.LevelStructure, snapshot.LevelDrill} {
		for _, result := range []string{"passed", "failed"} {
			o.own.verified.Add(ctx, 0, verdictOf(cluster, strings.ToLower(level.String()), result))
		}
	}
	for _, b := range backends {
		o.own.swept.Add(ctx, 0, backendOf(cluster, b))
		o.own.deleted.Add(ctx, 0, backendOf(cluster, b))
		o.own.repairs.Add(ctx, 0, repairOf(cluster, b, nil))
		o.own.repairs.Add(ctx, 0, repairOf(cluster, b, errors.ErrUnsupported))
	}
	o.waiting.add(cluster, backends)
}

// register collects the errors of making instruments, which only a wrong name can cause.
type register struct {
	meter metric.Meter
	errs  []error
}

func (r *register) err() error { return errors.Join(r.errs...) }

func made[T any](r *register, instrument T, err error) T {
	r.errs = append(r.errs, err)
	return instrument
}
