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
	"github.com/snapshotd/snapshotd/snapshot"
)

// Limits of the cost of verdicts: the catalog may be in the same etcd that is in trouble.
const (
	judgedSnapshots = 500              // read from each catalog
	judgedClusters  = 4                // catalogs that are read at a time
	judgeTimeout    = 10 * time.Second // a catalog that does not answer by then counts as unreadable
)

// Facts are what is known of a cluster beside its snapshots.
type Facts interface {
	Replicas
	// Configured returns what the configuration and this machine say of a cluster. It does not wait for the catalog, nor
	// for a disk that does not answer.
	Configured() status.Known
	// Window returns what the backends hold of the journal, and how far it is.
	Window(ctx context.Context) (status.Window, error)
	// JournalRemovals returns the segments of the journal that the leader removes next.
	JournalRemovals(ctx context.Context) ([]status.JournalRemoval, error)
	// ReconcileJournal compares the copies of the journal on the chosen backends with all others, and repairs them if that is
	// asked for. It returns nothing for a cluster without a journal.
	ReconcileJournal(ctx context.Context, req cluster.ReconcileRequest) []status.JournalCopies
}

// Replicas are the facts that the replicas of a cluster tell each other through its catalog.
type Replicas interface {
	// LastDue returns when the last run of a schedule that has stored a snapshot was due; zero when none has.
	LastDue(ctx context.Context, schedule string) (time.Time, error)
	// Leader returns the name of the replica that leads; empty when none does.
	Leader(ctx context.Context) (string, error)
	// Saving returns how far the save under way is, as its replica has told last; nil when none has told anything.
	Saving(ctx context.Context) (*status.Moving, error)
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
		err := examine(ctx, c, &known)
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
	known.Err = examine(ctx, c, &known)
	known.Tally = &status.Tally{} // what retention removes, and what backends hold, decides nothing
	return status.Judge(known).Verdict
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

// examine reads what the catalog knows. Without the records there is no verdict; the rest may be missing.
func examine(ctx context.Context, c Cluster, known *status.Known) error {
	page, err := c.List(ctx, snapshot.Query{PageSize: judgedSnapshots})
	if err != nil {
		return err
	}
	known.Records, known.All = page.Records, page.NextPageToken == ""
	if c.Facts != nil {
		examineSchedules(ctx, c, known)
		examineSaving(ctx, c, known)
	}
	return nil
}

func examineSchedules(ctx context.Context, c Cluster, known *status.Known) {
	if leader, err := c.Facts.Leader(ctx); err == nil {
		known.Leader = &leader
	}
	known.Ran = map[string]time.Time{}
	for _, sch := range known.Schedules {
		if due, err := c.Facts.LastDue(ctx, sch.Name); err == nil {
			known.Ran[sch.Name] = due
		}
	}
}

// examineSaving finds how far the save of another replica is. That of this one is known here, and better.
func examineSaving(ctx context.Context, c Cluster, known *status.Known) {
	i := slices.IndexFunc(known.Records, func(rec *snapshot.Record) bool { return rec.State() == snapshot.StateSaving })
	if known.Moving != nil || i < 0 || known.Records[i].Node == known.Node {
		return
	}
	if m, err := c.Facts.Saving(ctx); err == nil && m != nil && m.Name == known.Records[i].Name {
		known.Moving = m
	}
}
