package status

import (
	"context"
	"maps"
	"sync"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Reconciles remember on which backends the last reconcile of this replica has failed: the catalog says only what was
// there before. The zero value is ready for use.
type Reconciles struct {
	mu     sync.Mutex
	failed map[string]map[string]Unreconciled // by cluster and backend
}

// Unreconciled is why the last reconcile has failed on a backend.
type Unreconciled struct {
	Err   error
	Whole bool // nothing there was reconciled; otherwise all was but some objects
}

var _ snapshot.Observer = (*Reconciles)(nil)

// Observe implements [snapshot.Observer].
func (r *Reconciles) Observe(_ context.Context, ev snapshot.Event) {
	if ev.Type != snapshot.EventReconciled {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed == nil {
		r.failed = map[string]map[string]Unreconciled{}
	}
	failed := r.failed[ev.Cluster]
	if failed == nil {
		failed = map[string]Unreconciled{}
		r.failed[ev.Cluster] = failed
	}
	for backend, err := range ev.Backends {
		if err == nil {
			delete(failed, backend)
		} else {
			failed[backend] = Unreconciled{Err: err, Whole: ev.Unseen[backend]}
		}
	}
}

// Failed returns why the last reconcile of a cluster has failed, by backend; nothing of those on which it has not.
func (r *Reconciles) Failed(cluster string) map[string]Unreconciled {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.failed[cluster])
}

// unreconciled finds backends that the last reconcile could not compare with the catalog, or not in all objects.
// Between two saves, nothing else tells that one of them is gone. Only the replica that leads knows how they are now.
func (v *verdict) unreconciled() {
	if leader := v.known.Leader; leader == nil || *leader != v.known.Node {
		return
	}
	for _, b := range v.c.Backends {
		failed := v.known.Unreconciled[b.Name]
		if failed.Err == nil || b.Last == snapshot.StateFailed.String() { // the finding about the last save says it
			continue
		}
		what := ", so that nothing there is checked, repaired or pruned"
		if !failed.Whole {
			what = " for some objects; all others there are checked, repaired and pruned"
		}
		v.find(Attention, []string{"reconcile", "--backend", b.Name},
			"The last reconcile failed on %s%s: %v", b.Name, what, failed.Err)
	}
}
