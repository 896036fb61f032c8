package telemetry

import (
	"context"
	"sync"

	"go.opentelemetry.io/otel/metric"

	"github.com/snapshotd/snapshotd/snapshot"
)

// waitingCopies is what waits for its repair, as the last look at the catalog saw it.
type waitingCopies struct {
	mu       sync.Mutex
	clusters map[string]*waitingCluster
}

type waitingCluster struct {
	backends []string
	waiting  map[string]snapshot.Waiting // by backend
}

// register makes the gauges. A time has no series when nothing waits: an alert on its age must not fire on a zero.
func (w *waitingCopies) register(m metric.Meter) error {
	w.clusters = map[string]*waitingCluster{}
	count, err := m.Int64ObservableGauge("snapshotd.repairs.waiting",
		metric.WithDescription("Copies that a backend should hold and does not, and that wait for their repair; 0 on replicas that do not lead."))
	if err != nil {
		return err
	}
	oldest, err := m.Float64ObservableGauge("snapshotd.repairs.oldest.timestamp", metric.WithUnit("s"),
		metric.WithDescription("When the copy failed that has waited longest for its repair, in seconds since 1970; absent when none waits."))
	if err != nil {
		return err
	}
	_, err = m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		for name, c := range w.clusters {
			for _, b := range c.backends {
				waits := c.waiting[b]
				o.ObserveInt64(count, waits.Count, backendOf(name, b))
				if waits.Count > 0 {
					o.ObserveFloat64(oldest, float64(waits.Since.UnixMilli())/1e3, backendOf(name, b))
				}
			}
		}
		return nil
	}, count, oldest)
	return err
}

func (w *waitingCopies) add(cluster string, backends []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clusters[cluster] = &waitingCluster{backends: backends}
}

func (w *waitingCopies) set(cluster string, byBackend map[string]snapshot.Waiting) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c := w.clusters[cluster]; c != nil {
		c.waiting = byBackend
	}
}
