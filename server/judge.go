package server

import (
	"context"
	"errors"
	"time"

	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/server/turns"
)

// How long a judgement may take, whatever its catalog and those of others do. One that is down is the very reason why
// somebody asks.
const (
	judgeTimeout  = 10 * time.Second // of one cluster by itself
	inTurnTimeout = 6 * time.Second  // of one among all, from its turn on: longer than the catalog takes to say why
)

// quick is how long a catalog may take to refuse an answer without holding up others.
const quick = time.Second

// maxRead is how many catalogs are read at a time, by all calls together: the newest 500 records of each take a few
// megabytes.
const maxRead = 16

// inTurn bounds how many catalogs one call asks at a time. Those that do not answer hold up no others.
var inTurn = turns.Turns{Width: 32, Length: 500 * time.Millisecond, Begin: 20 * time.Second}

// judgeAll judges clusters, some at a time, and answers before ctx is done. Those that were removed meanwhile have no
// name.
func (s *Server) judgeAll(ctx context.Context, clusters []Cluster) []status.Cluster {
	ctx, cancel := turns.BeforeEnd(ctx)
	defer cancel()
	all, begin := make([]status.Cluster, len(clusters)), time.Now()
	inTurn.Each(ctx, len(clusters), func(i int) {
		if c, served := s.fleet.used(ctx, clusters[i]); served {
			all[i] = s.judge(ctx, c, inTurnTimeout)
		}
	}, func(i, unanswered int) {
		waited := time.Since(begin)
		if c, served := s.fleet.used(ctx, clusters[i]); served {
			known := configured(c)
			known.NotAsked, known.Err = true, turns.NotAsked(waited, unanswered)
			all[i] = status.Judge(known)
		}
	})
	return all
}

// judge judges one cluster, by what is known of it when its time is over.
func (s *Server) judge(ctx context.Context, c Cluster, patience time.Duration) status.Cluster {
	known := configured(c)
	known.Err = s.guard(ctx, ours+"List", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		replicas, release, err := s.placeToRead(ctx, c)
		if err != nil {
			known.NotAsked = errors.Is(err, errNoPlace)
			return err
		}
		defer release()
		return turns.Within(ctx, func() error {
			err := known.Examine(ctx, c.List, replicas)
			if err == nil {
				known.Tally = s.counts.Of(ctx, &known, c.List)
			}
			return err
		})
	})
	return status.Judge(known)
}

var errNoPlace = errors.New("its turn to be read did not come in time")

// placeToRead waits until the records of a cluster may be read, and returns the facts of its replicas. A catalog that
// does not answer is found out first, and takes no place.
func (s *Server) placeToRead(ctx context.Context, c Cluster) (facts status.Replicas, release func(), err error) {
	asked, leader := time.Now(), ""
	err = turns.Within(ctx, func() (err error) {
		leader, err = c.Replicas.Leader(ctx)
		return err
	})
	switch {
	case err == nil:
		facts = led{c.Replicas, leader}
	case ctx.Err() != nil, time.Since(asked) > quick:
		return nil, nil, err
	default:
		facts = c.Replicas
	}
	wait, cancel := turns.BeforeEnd(ctx) // reading takes time, too
	defer cancel()
	select {
	case s.reading <- struct{}{}:
		return facts, func() { <-s.reading }, nil
	case <-wait.Done():
		return nil, nil, errNoPlace
	}
}

// led are facts of replicas whose leader is known already, so that it is not asked for twice.
type led struct {
	status.Replicas
	leader string
}

// Leader implements [status.Replicas].
func (l led) Leader(context.Context) (string, error) { return l.leader, nil }

// Verdict returns the verdict on a cluster, until ctx is done, without the facts that are for people alone. It does not
// go through all records of a large catalog.
func Verdict(ctx context.Context, c View, replicas status.Replicas) status.Verdict {
	ctx, cancel := context.WithTimeout(ctx, judgeTimeout)
	defer cancel()
	known := configured(c)
	known.Err = known.Examine(ctx, c.List, replicas)
	known.Tally = &status.Tally{} // what retention removes, and what backends hold, decides nothing
	return status.Judge(known).Verdict
}

// configured returns what is known of a cluster without its catalog.
func configured(c View) status.Known {
	known := c.Configured()
	known.Name, known.Now = c.Name(), time.Now()
	return known
}
