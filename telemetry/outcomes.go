package telemetry

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/snapshotd/snapshotd/snapshot"
)

// outcomes are the times of the last success and the last failure of saves and reconciles, for each backend, the
// snapshots that are damaged, and the last proof. An alert that compares the two times ends when the cause is mended,
// and not before. One on the increase of a counter would go on for as long as it looks back, and end then although
// nothing was mended.
type outcomes struct {
	mu       sync.Mutex
	clusters map[string]*clusterOutcomes
}

type clusterOutcomes struct {
	backends   []string
	saves      map[string]outcome // by backend
	reconciles map[string]outcome // by backend
	leading    bool
	damaged    map[string][]string // by name: its last verification did not pass, on these backends
	unread     int64               // records that cannot be read
	proven     *proof              // nil before it is known
	unprovable bool                // no drill of this service can restore a snapshot
}

// proof is the newest snapshot that a drill has proven; zero when there is none.
type proof struct {
	at       time.Time
	revision int64
}

// outcome is the newest time of either result; zero when there was none.
type outcome struct{ success, failure time.Time }

// with returns the outcome after a result at a time. A time in the future was taken by a wrong clock, and does not stay
// the newest.
func (o outcome) with(at time.Time, good bool) outcome {
	newest := func(known time.Time) time.Time {
		if at.Before(known) && !snapshot.Ahead(known, time.Now()) {
			return known
		}
		return at
	}
	if good {
		o.success = newest(o.success)
	} else {
		o.failure = newest(o.failure)
	}
	return o
}

// register makes the gauges.
func (o *outcomes) register(m metric.Meter) error {
	o.clusters = map[string]*clusterOutcomes{}
	r := &register{meter: m}
	observable := func(name, unit, help string) metric.Float64ObservableGauge {
		g, err := m.Float64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(help))
		return made(r, g, err)
	}
	saves := observable("snapshotd.last_save.timestamp", "s",
		"When the last snapshot was begun that the backend holds (success), and the last one that did not reach it (error), "+
			"as far as this replica knows; in seconds since 1970, 0 when there was none.")
	reconciles := observable("snapshotd.last_reconcile.timestamp", "s",
		"When a reconcile of this replica has ended last, by its result on the backend; "+
			"in seconds since 1970, 0 when none has.")
	damaged := observable("snapshotd.snapshots.damaged", "",
		"Snapshots in the catalog that did not pass their last verification; 0 on replicas that do not lead.")
	copies := observable("snapshotd.copies.damaged", "",
		"Snapshots that did not pass their last verification because of the copy on the backend, or of the database in all "+
			"copies; 0 on replicas that do not lead.")
	unread := observable("snapshotd.records.unreadable", "",
		"Records in the catalog that the last reconcile could not read; 0 on replicas that do not lead.")
	proven := observable("snapshotd.last_proven_restore.timestamp", "s",
		"When a drill last proved that a snapshot of the cluster that still exists can be restored, "+
			"in seconds since 1970; 0 when none did, absent when the service cannot decrypt them.")
	provenAt, err := m.Int64ObservableGauge("snapshotd.last_proven_restore.revision",
		metric.WithDescription("Revision of etcd in that snapshot."))
	r.errs = append(r.errs, err)
	_, err = m.RegisterCallback(func(_ context.Context, to metric.Observer) error {
		o.mu.Lock()
		defer o.mu.Unlock()
		for name, c := range o.clusters {
			for _, b := range c.backends {
				c.saves[b].observe(to, saves, name, b)
				c.reconciles[b].observe(to, reconciles, name, b)
			}
			c.observeBad(to, damaged, copies, unread, name)
			if p := c.proven; p != nil && !c.unprovable {
				if snapshot.Ahead(p.at, time.Now()) { // the clock was wrong when it drilled: it is not known when it did
					p = &proof{}
				}
				to.ObserveFloat64(proven, unixSeconds(p.at), clusterOf(name))
				to.ObserveInt64(provenAt, p.revision, clusterOf(name))
			}
		}
		return nil
	}, saves, reconciles, damaged, copies, unread, proven, provenAt)
	r.errs = append(r.errs, err)
	return r.err()
}

// observeBad observes what is bad in the catalog, as the leader knows it.
func (c *clusterOutcomes) observeBad(
	to metric.Observer, damaged, copies, unread metric.Float64Observable, name string,
) {
	known, records := c.damaged, c.unread
	if !c.leading {
		known, records = nil, 0
	}
	to.ObserveFloat64(damaged, float64(len(known)), clusterOf(name))
	to.ObserveFloat64(unread, float64(records), clusterOf(name))
	count := map[string]int{} // also of directories of other nodes
	for _, b := range c.backends {
		count[b] = 0
	}
	for _, on := range known {
		for _, b := range on {
			count[b]++
		}
	}
	for b, n := range count {
		to.ObserveFloat64(copies, float64(n), backendOf(name, b))
	}
}

func (o outcome) observe(to metric.Observer, g metric.Float64Observable, cluster, backend string) {
	to.ObserveFloat64(g, unixSeconds(o.success), resultOf(cluster, backend, resultSuccess))
	to.ObserveFloat64(g, unixSeconds(o.failure), resultOf(cluster, backend, resultError))
}

// unixSeconds returns a time as metrics have it.
func unixSeconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1e3
}

// add begins a cluster, or goes on with it under other backends.
func (o *outcomes) add(cluster string, backends []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := &clusterOutcomes{saves: map[string]outcome{}, reconciles: map[string]outcome{}}
	if before := o.clusters[cluster]; before != nil {
		c = before
	}
	c.backends, c.unprovable = backends, false
	o.clusters[cluster] = c
}

func (o *outcomes) drop(cluster string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.clusters, cluster)
}

// change changes what is known of a cluster that was added.
func (o *outcomes) change(cluster string, change func(*clusterOutcomes)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if c := o.clusters[cluster]; c != nil {
		change(c)
	}
}

// saved notes where a snapshot is whose save has ended. One of another program was adopted, and tells of no save.
// Earlier failures on the backends without a schedule end if this save did not go there, either.
func (o *outcomes) saved(s *snapshot.Snapshot, unscheduled ...string) {
	if s == nil || s.CreateTime.IsZero() || s.Trigger == snapshot.TriggerAdopted {
		return
	}
	o.change(s.Cluster, func(c *clusterOutcomes) {
		for _, l := range s.Locations() {
			c.saves[l.Backend] = c.saves[l.Backend].with(s.CreateTime, l.State == snapshot.StateReady)
		}
		for _, b := range unscheduled {
			if known := c.saves[b]; s.Location(b) == nil && known.failure.Before(s.CreateTime) {
				c.saves[b] = outcome{success: known.success}
			}
		}
	})
}

// located notes that a backend holds a snapshot: by its save, or after all by a repair.
func (o *outcomes) located(ev snapshot.Event) {
	if ev.Snapshot == nil || ev.Snapshot.Trigger == snapshot.TriggerAdopted ||
		!slices.Contains(ev.Snapshot.ReadyOn(), ev.Backend) {
		return
	}
	o.change(ev.Cluster, func(c *clusterOutcomes) {
		c.saves[ev.Backend] = c.saves[ev.Backend].with(ev.Snapshot.CreateTime, true)
	})
}

func (o *outcomes) reconciled(ev snapshot.Event) {
	o.change(ev.Cluster, func(c *clusterOutcomes) {
		for backend, err := range ev.Backends {
			c.reconciles[backend] = c.reconciles[backend].with(ev.Time, err == nil)
		}
	})
}

// verified notes the verdict on one snapshot, until the next reconcile has counted all of them.
func (o *outcomes) verified(ev snapshot.Event) {
	o.change(ev.Cluster, func(c *clusterOutcomes) {
		if ev.Verification.Passed {
			delete(c.damaged, ev.Name)
			return
		}
		if c.damaged == nil {
			c.damaged = map[string][]string{}
		}
		c.damaged[ev.Name] = ev.Damaged[ev.Name]
	})
}

func (o *outcomes) counted(ev snapshot.Event) {
	o.change(ev.Cluster, func(c *clusterOutcomes) { c.damaged, c.unread = maps.Clone(ev.Damaged), ev.Unread })
}

func (o *outcomes) proved(ev snapshot.Event) {
	o.change(ev.Cluster, func(c *clusterOutcomes) { c.proven = &proof{at: ev.ProvenTime, revision: ev.Revision} })
}

// deleted forgets the verdict on a snapshot when the last backend has removed it.
func (o *outcomes) deleted(ev snapshot.Event) {
	if ev.Snapshot != nil && slices.ContainsFunc(ev.Snapshot.Locations(), func(l snapshot.Location) bool {
		return l.Backend != ev.Backend && (l.Size > 0 || ev.Snapshot.Trigger == snapshot.TriggerAdopted)
	}) {
		return
	}
	o.change(ev.Cluster, func(c *clusterOutcomes) { delete(c.damaged, ev.Name) })
}

// lead begins or ends a term. The verdicts that were known before may be outdated: its first reconcile counts anew.
func (o *outcomes) lead(cluster string, leading bool) {
	o.change(cluster, func(c *clusterOutcomes) { c.leading, c.damaged, c.unread = leading, nil, 0 })
}
