package telemetry

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/snapshotd/snapshotd/snapshot"
)

// observer turns the events of the domain into metrics.
type observer struct {
	six  histograms
	own  ownMetrics
	kept *kept // the series of own

	mu     sync.Mutex
	newest map[string]time.Time  // by cluster: when the last successful save began
	runs   map[[2]string]outcome // by cluster and schedule: when the last run was due that has stored a snapshot

	queues   repairQueues
	outcomes outcomes

	certificates certificates
	rooms        rooms
	journals     journals
}

var _ snapshot.Observer = (*observer)(nil)

func newObserver(ctx context.Context, six, own metric.MeterProvider, version string) (*observer, error) {
	h, err := newHistograms(six.Meter(scope))
	if err != nil {
		return nil, err
	}
	k := &kept{forgotten: map[[2]string]bool{}}
	m, err := newOwnMetrics(own.Meter(scope), k)
	if err != nil {
		return nil, err
	}
	m.buildInfo.Record(ctx, 1, buildAttributes(version))
	m.reloaded.Record(ctx, 1)
	o := &observer{six: h, own: m, kept: k, newest: map[string]time.Time{}, runs: map[[2]string]outcome{}}
	return o, errors.Join(o.queues.register(own.Meter(scope)), o.outcomes.register(own.Meter(scope)),
		o.certificates.register(own.Meter(scope)), o.rooms.register(own.Meter(scope)),
		o.journals.register(own.Meter(scope), k))
}

// Observe implements [snapshot.Observer]. The events that only watchers see have no metric.
func (o *observer) Observe(ctx context.Context, ev snapshot.Event) {
	switch ev.Type {
	case snapshot.EventLocationDone:
		o.outcomes.located(ev)
	case snapshot.EventFinished:
		o.finished(ctx, ev)
	case snapshot.EventSaveRejected:
		o.own.rejected.Add(ctx, 1, clusterOf(ev.Cluster))
	case snapshot.EventWritten:
		record(ctx, o.six.saveLocal, o.six.saveS3, ev)
	case snapshot.EventReconciled:
		o.reconciled(ctx, ev)
	case snapshot.EventListed:
		record(ctx, o.six.reconcileLocal, o.six.reconcileS3, ev)
	case snapshot.EventCounted:
		o.counted(ctx, ev)
	case snapshot.EventSwept:
		o.own.swept.Add(ctx, ev.Count, backendOf(ev.Cluster, ev.Backend))
	case snapshot.EventDeleted:
		o.outcomes.deleted(ev)
		o.own.deleted.Add(ctx, 1, backendOf(ev.Cluster, ev.Backend))
	case snapshot.EventVerified:
		o.verified(ctx, ev)
	case snapshot.EventProven:
		o.outcomes.proved(ev)
	case snapshot.EventRepaired:
		o.own.repairs.Add(ctx, 1, repairOf(ev.Cluster, ev.Backend, ev.Err))
	case snapshot.EventRepairsQueued:
		o.queues.set(ev.Cluster, ev.Queued)
	}
}

func (o *observer) finished(ctx context.Context, ev snapshot.Event) {
	o.six.save.Record(ctx, ev.Duration.Seconds(), statusOf(ev.Err))
	if ev.Err == nil {
		o.lastSuccess(ctx, ev.Snapshot)
	}
	if ev.Snapshot == nil {
		return
	}
	o.outcomes.saved(ev.Snapshot)
	for _, l := range ev.Snapshot.Locations() {
		result := resultError
		if l.State == snapshot.StateReady {
			result = resultSuccess
		}
		o.own.saves.Add(ctx, 1, resultOf(ev.Cluster, l.Backend, result))
	}
}

func (o *observer) reconciled(ctx context.Context, ev snapshot.Event) {
	o.six.reconcile.Record(ctx, ev.Duration.Seconds(), statusOf(ev.Err))
	o.outcomes.reconciled(ev)
	for backend, err := range ev.Backends {
		result := resultSuccess
		if err != nil {
			result = resultError
		}
		o.own.reconciles.Add(ctx, 1, resultOf(ev.Cluster, backend, result))
	}
}

// record records the duration of an event in the histogram of its kind of backend.
func record(ctx context.Context, local, s3 metric.Float64Histogram, ev snapshot.Event) {
	switch ev.Kind {
	case snapshot.BackendLocal:
		local.Record(ctx, ev.Duration.Seconds(), statusOf(ev.Err))
	case snapshot.BackendS3:
		s3.Record(ctx, ev.Duration.Seconds(), statusOf(ev.Err))
	}
}

// counted records a state without snapshots as zero, so that it does not keep its number of the last time.
func (o *observer) counted(ctx context.Context, ev snapshot.Event) {
	o.outcomes.counted(ev)
	for state := snapshot.StateSaving; state <= snapshot.StateDeleting; state++ {
		o.own.snapshots.Record(ctx, ev.States[state], stateOf(ev.Cluster, state))
	}
}

func (o *observer) verified(ctx context.Context, ev snapshot.Event) {
	o.outcomes.verified(ev)
	result := "failed"
	if ev.Verification.Passed {
		result = "passed"
	}
	o.own.verified.Add(ctx, 1, verdictOf(ev.Cluster, strings.ToLower(ev.Verification.Level.String()), result))
}

// lastSuccess records the last snapshot that reached every backend, unless a newer one is known. A snapshot that is in
// the future was taken by a wrong clock: if it stayed the newest, a schedule that has stopped would not show until
// then.
func (o *observer) lastSuccess(ctx context.Context, s *snapshot.Snapshot) {
	if s == nil || s.CreateTime.IsZero() {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.kept.gone(s.Cluster) {
		return
	}
	newest := o.newest[s.Cluster]
	if s.CreateTime.Before(newest) && !snapshot.Ahead(newest, time.Now()) {
		return
	}
	o.newest[s.Cluster] = s.CreateTime
	cluster := clusterOf(s.Cluster)
	o.own.lastTime.Record(ctx, unixSeconds(s.CreateTime), cluster)
	o.own.alarms.Record(ctx, int64(len(s.Alarms)), cluster)
	o.own.lastRevision.Record(ctx, s.Revision, cluster)
	o.own.dbSize.Record(ctx, s.DBSize, cluster)
	o.own.storedSize.Record(ctx, s.StoredSize, cluster)
}

// forget forgets what is known of a cluster.
func (o *observer) forget(cluster string) {
	o.certificates.drop(cluster)
	o.rooms.drop(cluster)
	o.queues.drop(cluster)
	o.outcomes.drop(cluster)
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.newest, cluster)
	maps.DeleteFunc(o.runs, func(of [2]string, _ outcome) bool { return of[0] == cluster })
}

// addSchedule makes the times of a schedule begin at zero.
func (o *observer) addSchedule(ctx context.Context, cluster, schedule string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.runs, [2]string{cluster, schedule})
	o.own.lastRun.Record(ctx, 0, scheduleOf(cluster, schedule))
	o.own.lastFailure.Record(ctx, 0, scheduleOf(cluster, schedule))
}

// lastRun records a run that has stored a snapshot, unless a newer one is known.
func (o *observer) lastRun(ctx context.Context, cluster, schedule string, due time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	of := [2]string{cluster, schedule}
	o.runs[of] = o.runs[of].with(due, true)
	o.own.lastRun.Record(ctx, unixSeconds(o.runs[of].success), scheduleOf(cluster, schedule))
}

func (o *observer) leading(ctx context.Context, cluster string, leading bool) {
	var v int64
	if leading {
		v = 1
	}
	o.own.leader.Record(ctx, v, clusterOf(cluster))
	o.outcomes.lead(cluster, leading)
	if !leading {
		o.queues.set(cluster, nil) // the leader knows
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
		for _, result := range []string{resultSuccess, resultError} {
			o.own.saves.Add(ctx, 0, resultOf(cluster, b, result))
			o.own.reconciles.Add(ctx, 0, resultOf(cluster, b, result))
		}
		o.own.swept.Add(ctx, 0, backendOf(cluster, b))
		o.own.deleted.Add(ctx, 0, backendOf(cluster, b))
		o.own.repairs.Add(ctx, 0, repairOf(cluster, b, nil))
		o.own.repairs.Add(ctx, 0, repairOf(cluster, b, errors.ErrUnsupported))
	}
	o.queues.add(cluster, backends)
	o.outcomes.add(cluster, backends)
}
