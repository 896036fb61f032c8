package status

import "github.com/snapshotd/snapshotd/snapshot"

// unreconciled finds backends that the last reconcile could not compare with the catalog, or not in all objects.
// Between two saves, nothing else tells that one of them is gone.
func (v *verdict) unreconciled() {
	for _, b := range v.c.Backends {
		failed, is := v.known.Failed[b.Name]
		if !is || b.Last == snapshot.StateFailed.String() { // the finding about the last save says it
			continue
		}
		what := ", so that nothing there is checked, repaired or pruned"
		if !failed.Whole {
			what = " for some objects; all others there are checked, repaired and pruned"
		}
		v.find(Attention, []string{"reconcile", "--backend", b.Name},
			"The last reconcile failed on %s%s: %s", b.Name, what, failed.Error)
	}
}
