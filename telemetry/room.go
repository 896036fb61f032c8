package telemetry

import (
	"context"
	"maps"
	"sync"

	"go.opentelemetry.io/otel/metric"
)

// rooms are the directories whose free space is known. Their disks are asked when the metrics are.
type rooms struct {
	mu       sync.Mutex
	dataDir  func() int64                       // nil before it is known
	backends map[string]map[string]func() int64 // by cluster and backend
}

// measured is the free space of one directory.
type measured struct {
	free int64 // -1 when it is not known
	to   metric.Int64Observable
	of   metric.ObserveOption
}

// register makes the gauges. What is not known has no series: zero would be a full disk.
func (r *rooms) register(m metric.Meter) error {
	r.backends = map[string]map[string]func() int64{}
	reg := &register{meter: m}
	gauge := func(name, help string) metric.Int64ObservableGauge {
		g, err := m.Int64ObservableGauge(name, metric.WithUnit("By"), metric.WithDescription(help))
		return made(reg, g, err)
	}
	dataDir := gauge("snapshotd.data_dir.free",
		"Bytes that saves and drills can still write to the disk of this replica's data directory, without what is left "+
			"to an etcd there; absent when the disk does not answer.")
	backend := gauge("snapshotd.backend.free",
		"Bytes that this replica can still write to the disk of a backend that is a directory; "+
			"absent when the disk does not answer.")
	_, err := m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, at := range r.measure(dataDir, backend) {
			if at.free >= 0 {
				o.ObserveInt64(at.to, at.free, at.of)
			}
		}
		return nil
	}, dataDir, backend)
	reg.errs = append(reg.errs, err)
	return reg.err()
}

// measure asks all disks side by side, without the lock: those that hang keep a scrape as long as one of them does.
func (r *rooms) measure(dataDir, backend metric.Int64Observable) []*measured {
	var all []*measured
	var wg sync.WaitGroup
	ask := func(free func() int64, to metric.Int64Observable, of metric.ObserveOption) {
		at := &measured{to: to, of: of}
		all = append(all, at)
		wg.Go(func() { at.free = free() })
	}
	r.mu.Lock()
	if r.dataDir != nil {
		ask(r.dataDir, dataDir, metric.WithAttributes())
	}
	for cluster, backends := range r.backends {
		for name, free := range backends {
			ask(free, backend, backendOf(cluster, name))
		}
	}
	r.mu.Unlock()
	wg.Wait()
	return all
}

func (r *rooms) add(cluster string, backends map[string]func() int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.backends[cluster] = maps.Clone(backends)
}

func (r *rooms) drop(cluster string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.backends, cluster)
}
