package server

import (
	"context"
	"slices"
	"sync"

	"github.com/snapshotd/snapshotd/snapshot"
)

// fleet is the clusters that are served. They can change while calls are under way.
type fleet struct {
	mu       sync.Mutex
	clusters []Cluster
	changed  chan struct{} // closed when they change
}

func (f *fleet) all() []Cluster {
	now, _ := f.followed()
	return now
}

// followed returns the clusters, and a channel that is closed when they change.
func (f *fleet) followed() ([]Cluster, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.clusters, f.changed
}

// used returns the cluster that is served now under the name of c, and says that a call uses it. It returns false when
// there is none any more.
func (f *fleet) used(ctx context.Context, c Cluster) (Cluster, bool) {
	for !c.use(ctx) {
		now := f.all()
		i := slices.IndexFunc(now, func(other Cluster) bool { return other.Name() == c.Name() })
		if i < 0 {
			return c, false
		}
		c = now[i]
	}
	return c, true
}

// clustersChanged is the error of a call that began with clusters that are not served any more.
func clustersChanged(call, advice string) error {
	return snapshot.ReasonConfigChanged.New("%s: the clusters of the service have changed", call).Advise("%s", advice)
}
