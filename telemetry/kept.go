package telemetry

import (
	"context"
	"slices"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// kept are the series of our gauges and counters. Instruments of OpenTelemetry keep each of their series for ever: a
// cluster that is not configured any more would stay in the scrape and in what is sent over OTLP, and one that is added
// again would begin with what was known of the first. So the values are kept here, and observed when the metrics are
// asked for.
type kept struct {
	mu        sync.Mutex
	forgotten map[[2]string]bool // cluster and schedule; the whole cluster when the schedule is empty
	drops     []func(cluster, schedule string)
}

// kind is an instrument whose series are kept.
type kind[N int64 | float64] struct {
	kept *kept
	of   map[string][]series[N] // by cluster; of what is of no cluster under the empty name
}

type series[N int64 | float64] struct {
	value N
	set   attribute.Set
	at    metric.ObserveOption
}

func kindOf[N int64 | float64](k *kept) *kind[N] {
	made := &kind[N]{kept: k, of: map[string][]series[N]{}}
	k.drops = append(k.drops, made.drop)
	return made
}

// Record sets the value of a series, unless its cluster or schedule is forgotten.
func (k *kind[N]) Record(_ context.Context, value N, at ...metric.RecordOption) {
	set := metric.NewRecordConfig(at).Attributes()
	k.change(set, func(known *N) { *known = value })
}

// Add adds to the value of a series, unless its cluster or schedule is forgotten.
func (k *kind[N]) Add(_ context.Context, more N, at ...metric.AddOption) {
	set := metric.NewAddConfig(at).Attributes()
	k.change(set, func(known *N) { *known += more })
}

func (k *kind[N]) change(set attribute.Set, change func(*N)) {
	cluster := valueOf(&set, "cluster")
	k.kept.mu.Lock()
	defer k.kept.mu.Unlock()
	if k.kept.has(cluster, valueOf(&set, "schedule")) {
		return
	}
	all := k.of[cluster]
	i := slices.IndexFunc(all, func(s series[N]) bool { return s.set.Equals(&set) })
	if i < 0 {
		i = len(all)
		all = append(all, series[N]{set: set, at: metric.WithAttributeSet(set)})
		k.of[cluster] = all
	}
	change(&all[i].value)
}

func (k *kind[N]) observe(to func(value N, at ...metric.ObserveOption)) {
	k.kept.mu.Lock()
	defer k.kept.mu.Unlock()
	for _, all := range k.of {
		for i := range all {
			to(all[i].value, all[i].at)
		}
	}
}

// drop drops the series of a cluster, or of one of its schedules. The caller holds the lock.
func (k *kind[N]) drop(cluster, schedule string) {
	if schedule == "" {
		delete(k.of, cluster)
		return
	}
	if all, some := k.of[cluster]; some {
		k.of[cluster] = slices.DeleteFunc(all, func(s series[N]) bool { return valueOf(&s.set, "schedule") == schedule })
	}
}

func valueOf(set *attribute.Set, label attribute.Key) string {
	v, _ := set.Value(label)
	return v.AsString()
}

func (k *kept) forget(cluster, schedule string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.forgotten[[2]string{cluster, schedule}] = true
	for _, drop := range k.drops {
		drop(cluster, schedule)
	}
}

func (k *kept) remember(cluster, schedule string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.forgotten, [2]string{cluster, schedule})
}

// gone reports whether a cluster is forgotten.
func (k *kept) gone(cluster string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.has(cluster, "")
}

// has reports whether a cluster, or a schedule of it, is forgotten. The caller holds the lock.
func (k *kept) has(cluster, schedule string) bool {
	return k.forgotten[[2]string{cluster, ""}] || schedule != "" && k.forgotten[[2]string{cluster, schedule}]
}
