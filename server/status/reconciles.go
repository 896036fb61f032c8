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
	failed map[string]map[string]error // by cluster and backend
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
		r.failed = map[string]map[string]error{}
	}
	failed := r.failed[ev.Cluster]
	if failed == nil {
		failed = map[string]error{}
		r.failed[ev.Cluster] = failed
	}
	for backend, err := range ev.Backends {
		if err == nil {
			delete(failed, backend)
		} else {
			failed[backend] = err
		}
	}
}

// Failed returns why the last reconcile of a cluster has failed, by backend; nothing of those on which it has not.
func (r *Reconciles) Failed(cluster string) map[string]error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.failed[cluster])
}

// unreconciled finds backends that the last reconcile could not compare with the catalog. Between two saves, nothing
// else tells that one of them is gone. Only the replica that leads knows how they are now.
func (v *verdict) unreconciled() {
	if leader := v.known.Leader; leader == nil || *leader != v.known.Node {
		return
	}
	for _, b := range v.c.Backends {
		err := v.known.Unreconciled[b.Name]
		if err == nil || b.Last == snapshot.StateFailed.String() { // the finding about the last save says it
			continue
		}
		v.find(Attention, []string{"reconcile", "--backend", b.Name}, "The last reconcile failed on %s, so that nothing there is "+
			"checked, repaired or pruned: %v", b.Name, err)
	}
}
