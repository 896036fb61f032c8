package telemetry

import (
	"context"
	"sync"

	"go.opentelemetry.io/otel/metric"

	"github.com/snapshotd/snapshotd/snapshot"
)

// repairQueues are the copies that wait for their repair, as of the last event.
type repairQueues struct {
	mu       sync.Mutex
	clusters map[string]*clusterQueues
}

type clusterQueues struct {
	backends []string
	queued   map[string]snapshot.RepairQueue // by backend
}

// register makes the gauges. The time has no series when no copy waits: an alert on its age must not fire on a zero.
func (q *repairQueues) register(m metric.Meter) error {
	q.clusters = map[string]*clusterQueues{}
	count, err := m.Int64ObservableGauge("snapshotd.repairs.waiting",
		metric.WithDescription("Copies that a backend should hold and does not, and that wait for their repair; "+
			"0 on replicas that do not lead."))
	if err != nil {
		return err
	}
	oldest, err := m.Float64ObservableGauge("snapshotd.repairs.oldest.timestamp", metric.WithUnit("s"),
		metric.WithDescription("When the copy failed that has waited longest for its repair, "+
			"in seconds since 1970; absent when none waits."))
	if err != nil {
		return err
	}
	_, err = m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		q.mu.Lock()
		defer q.mu.Unlock()
		for name, c := range q.clusters {
			for _, b := range c.backends {
				queue := c.queued[b]
				o.ObserveInt64(count, queue.Count, backendOf(name, b))
				if queue.Count > 0 {
					o.ObserveFloat64(oldest, unixSeconds(queue.Since), backendOf(name, b))
				}
			}
		}
		return nil
	}, count, oldest)
	return err
}

func (q *repairQueues) add(cluster string, backends []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.clusters[cluster] = &clusterQueues{backends: backends}
}

func (q *repairQueues) drop(cluster string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.clusters, cluster)
}

func (q *repairQueues) set(cluster string, queued map[string]snapshot.RepairQueue) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if c := q.clusters[cluster]; c != nil {
		c.queued = queued
	}
}
