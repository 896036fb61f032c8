package server

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/server/auth"
	"github.com/snapshotd/snapshotd/server/status"
)

// Limits of the cost of verdicts: the catalog may be in the same etcd that is in trouble.
const (
	judgedClusters = 4                // catalogs that are read at a time
	judgeTimeout   = 10 * time.Second // a catalog that does not answer by then counts as unreadable
)

// Facts are what is known of a cluster beside its snapshots.
type Facts interface {
	status.Replicas
	// Configured returns what the configuration and this machine say of a cluster. It does not wait for the catalog, nor
	// for a disk that does not answer.
	Configured() status.Known
}

// Journal is the journal of a cluster on its backends. Without one, its answers are empty.
type Journal interface {
	// Window returns what the backends hold of the journal, and how far it is.
	Window(ctx context.Context) (status.Window, error)
	// JournalRemovals returns the segments of the journal that the leader removes next.
	JournalRemovals(ctx context.Context) ([]status.JournalRemoval, error)
	// ReconcileJournal compares the copies of the journal on the chosen backends with all others, and repairs them if that is
	// asked for.
	ReconcileJournal(ctx context.Context, req cluster.ReconcileRequest) []status.JournalCopies
}

// judgeAll judges the clusters that the caller may see, a few at a time, until ctx is done.
func (s *Server) judgeAll(ctx context.Context) []status.Cluster {
	ctx, cancel := context.WithTimeout(ctx, judgeTimeout)
	defer cancel()
	seen := visible(auth.FromContext(ctx), s.fleet.all())
	all := make([]status.Cluster, len(seen)) // without a name where one was removed meanwhile
	turns := make(chan struct{}, judgedClusters)
	var wg sync.WaitGroup
	for i, c := range seen {
		wg.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			if c, served := s.fleet.used(ctx, c); served {
				all[i] = s.judge(ctx, c)
			}
		})
	}
	wg.Wait()
	return slices.DeleteFunc(all, func(c status.Cluster) bool { return c.Name == "" })
}

// judge judges one cluster until ctx is done.
func (s *Server) judge(ctx context.Context, c Cluster) status.Cluster {
	known := configured(c)
	known.Err = s.guard(ctx, ours+"List", func(ctx context.Context) error {
		err := known.Examine(ctx, c.List, replicas(c))
		if err == nil {
			known.Tally = s.counts.Of(ctx, &known, c.List)
		}
		return err
	})
	if known.Err != nil && ctx.Err() != nil {
		known.Err = fmt.Errorf("it did not answer within %s: %w", judgeTimeout, known.Err)
	}
	return status.Judge(known)
}

// Verdict returns the verdict on a cluster, until ctx is done, without the facts that are for people alone. It does not
// go through all records of a large catalog.
func Verdict(ctx context.Context, c Cluster) status.Verdict {
	ctx, cancel := context.WithTimeout(ctx, judgeTimeout)
	defer cancel()
	known := configured(c)
	known.Err = known.Examine(ctx, c.List, replicas(c))
	known.Tally = &status.Tally{} // what retention removes, and what backends hold, decides nothing
	return status.Judge(known).Verdict
}

// replicas returns the facts that replicas tell each other; nil without facts.
func replicas(c Cluster) status.Replicas {
	if c.Facts == nil {
		return nil
	}
	return c.Facts
}

// configured returns what is known of a cluster without its catalog.
func configured(c Cluster) (known status.Known) {
	if c.Facts != nil {
		known = c.Facts.Configured()
	} else {
		known.Store.Prefix = c.Name() + "/"
		for _, name := range c.BackendNames() {
			known.Places = append(known.Places, status.Place{Name: name, Free: -1})
		}
	}
	known.Name, known.Now = c.Name(), time.Now()
	return known
}
