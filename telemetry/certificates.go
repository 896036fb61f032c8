package telemetry

import (
	"context"
	"maps"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
)

// certificates are the clusters that may have a client certificate. They are asked when the metrics are.
type certificates struct {
	mu       sync.Mutex
	clusters map[string]func() (begin, end time.Time)
}

// register makes the gauges. A cluster without a certificate has no series.
func (c *certificates) register(m metric.Meter) error {
	c.clusters = map[string]func() (begin, end time.Time){}
	r := &register{meter: m}
	gauge := func(name, help string) metric.Float64ObservableGauge {
		g, err := m.Float64ObservableGauge(name, metric.WithUnit("s"), metric.WithDescription(help))
		return made(r, g, err)
	}
	notBefore := gauge("snapshotd.etcd.certificate.not_before.timestamp",
		"When the client certificate for etcd begins to be valid, in seconds since 1970; absent without one.")
	notAfter := gauge("snapshotd.etcd.certificate.not_after.timestamp",
		"When the client certificate for etcd expires, in seconds since 1970; "+
			"of several, the one that has to be renewed first; absent without one.")
	_, err := m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for name, ask := range c.all() { // without the lock: files are slow
			if begin, end := ask(); !end.IsZero() {
				o.ObserveFloat64(notBefore, unixSeconds(begin), clusterOf(name))
				o.ObserveFloat64(notAfter, unixSeconds(end), clusterOf(name))
			}
		}
		return nil
	}, notBefore, notAfter)
	r.errs = append(r.errs, err)
	return r.err()
}

func (c *certificates) all() map[string]func() (begin, end time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.clusters)
}

func (c *certificates) drop(cluster string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.clusters, cluster)
}
