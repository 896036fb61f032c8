package telemetry

import (
	"context"
	"maps"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// JournalState is how far the journal of a cluster is.
type JournalState struct {
	Leading bool // this replica follows the cluster; if not, the next fields are not known

	RPO      time.Duration // all that was committed longer ago is durable on this machine
	Revision int64         // the newest that is
	Lag      int64         // revisions that the cluster has and this machine does not, yet; -1 when that is not known

	LocalBytes int64
	Backends   []JournalBackend

	Proven time.Time // of the newest snapshot to which the journal is known to lead; zero when none is
}

// JournalBackend is how far the journal is on one backend.
type JournalBackend struct {
	Name            string
	RPO             time.Duration // all that was committed longer ago is durable there
	Segments, Bytes int64         // that it has taken from this process

	Compared bool  // with other backends: Lacking is known
	Lacking  int64 // revisions that another backend has and this one lacks
	Damaged  int64 // segments that are damaged there
	Copied   int64 // segments that were copied there from another backend
}

// journals are the clusters that have a journal. They are asked when the metrics are.
type journals struct {
	mu       sync.Mutex
	clusters map[string]func() JournalState

	rpo             metric.Float64ObservableGauge
	revision, lag   metric.Int64ObservableGauge
	local           metric.Int64ObservableGauge
	segments, bytes metric.Int64ObservableCounter
	copied          metric.Int64ObservableCounter
	lacking         metric.Int64ObservableGauge
	damaged         metric.Int64ObservableGauge
	gaps, proofs    *kind[int64]
	proven          metric.Float64ObservableGauge
}

// The stages of the journal: on this machine's disk, and stored on a backend.
const (
	stageLocal  = "local"
	stageStored = "stored"
)

func (j *journals) register(m metric.Meter, k *kept) error {
	j.clusters = map[string]func() JournalState{}
	r := &register{meter: m, kept: k}
	var err error
	j.rpo, err = m.Float64ObservableGauge("snapshotd.journal.rpo", metric.WithUnit("s"), metric.WithDescription(
		"Age of the newest moment that could be restored if this machine were lost (stage local: if the process were), "+
			"on the replica that follows the cluster."))
	r.errs = append(r.errs, err)
	gauge := func(name, unit, help string) metric.Int64ObservableGauge {
		g, err := m.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(help))
		return made(r, g, err)
	}
	counter := func(name, unit, help string) metric.Int64ObservableCounter {
		c, err := m.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(help))
		return made(r, c, err)
	}
	j.revision = gauge("snapshotd.journal.revision", "",
		"Newest revision of etcd that is durable on this machine, on the replica that follows the cluster.")
	j.lag = gauge("snapshotd.journal.lag", "",
		"Revisions that the cluster has and that are not durable on this machine yet, "+
			"on the replica that follows the cluster.")
	j.local = gauge("snapshotd.journal.local", "By",
		"Bytes of the journal on this machine's disk that wait for a backend.")
	j.segments = counter("snapshotd.journal.segments", "", "Segments that a backend has taken from this process.")
	j.bytes = counter("snapshotd.journal.stored", "By", "Bytes of these segments, before they are encrypted.")
	j.copied = counter("snapshotd.journal.copied", "",
		"Segments that this process has copied to a backend from another one, because it lacked them or they were damaged.")
	j.lacking = gauge("snapshotd.journal.lacking", "",
		"Revisions that another backend has and this one lacks, when they were last compared, "+
			"on the replica that follows the cluster.")
	j.damaged = gauge("snapshotd.journal.damaged", "",
		"Segments on a backend that are damaged or not trusted, as far as this process has read them, "+
			"on the replica that follows the cluster.")
	j.gaps = r.counter("snapshotd.journal.gaps",
		"Timelines that have begun because another one could not be continued: revisions are missing, or etcd was restored.")
	j.proofs = r.counter("snapshotd.journal.proofs",
		"Checks of the journal: whether it leads from one snapshot to the next one, or to a random revision (kind).")
	j.proven, err = m.Float64ObservableGauge("snapshotd.journal.proven.timestamp", metric.WithUnit("s"),
		metric.WithDescription("Unix time of the newest snapshot to which the journal is known to lead, "+
			"on the replica that follows the cluster."))
	r.errs = append(r.errs, err)
	if err := r.err(); err != nil {
		return err
	}
	_, err = m.RegisterCallback(j.observe, j.rpo, j.revision, j.lag, j.local, j.segments, j.bytes, j.copied,
		j.lacking, j.damaged, j.proven)
	return err
}

func (j *journals) observe(_ context.Context, o metric.Observer) error {
	for name, ask := range j.all() { // without the lock: a journal may be slow to answer
		s := ask()
		o.ObserveInt64(j.local, s.LocalBytes, clusterOf(name))
		if s.Leading {
			o.ObserveFloat64(j.rpo, s.RPO.Seconds(), stageOf(name, stageLocal))
			o.ObserveInt64(j.revision, s.Revision, clusterOf(name))
			if s.Lag >= 0 {
				o.ObserveInt64(j.lag, s.Lag, clusterOf(name))
			}
		}
		if s.Leading && !s.Proven.IsZero() {
			o.ObserveFloat64(j.proven, float64(s.Proven.Unix()), clusterOf(name))
		}
		for _, b := range s.Backends {
			o.ObserveInt64(j.segments, b.Segments, backendOf(name, b.Name))
			o.ObserveInt64(j.bytes, b.Bytes, backendOf(name, b.Name))
			o.ObserveInt64(j.copied, b.Copied, backendOf(name, b.Name))
			if s.Leading && b.Compared {
				o.ObserveInt64(j.lacking, b.Lacking, backendOf(name, b.Name))
			}
			if s.Leading {
				o.ObserveInt64(j.damaged, b.Damaged, backendOf(name, b.Name))
				o.ObserveFloat64(j.rpo, b.RPO.Seconds(),
					stageOf(name, stageStored, attribute.String("backend", b.Name)))
			}
		}
	}
	return nil
}

func (j *journals) all() map[string]func() JournalState {
	j.mu.Lock()
	defer j.mu.Unlock()
	return maps.Clone(j.clusters)
}

func stageOf(cluster, stage string, more ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributes(append(more, attribute.String("cluster", cluster), attribute.String("stage", stage))...)
}

func gapOf(cluster, reason string) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("cluster", cluster), attribute.String("reason", reason))
}

func proofOf(cluster, kind string, passed bool) metric.MeasurementOption {
	status := resultError
	if passed {
		status = resultSuccess
	}
	return metric.WithAttributes(attribute.String("cluster", cluster), attribute.String("kind", kind),
		attribute.String("status", status))
}
