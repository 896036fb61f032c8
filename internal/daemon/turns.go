package daemon

import (
	"context"
	"sync"

	"github.com/snapshotd/snapshotd/internal/fairqueue"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// queues are where all clusters wait for their turn: to begin their loops, save, restore a database, and drill.
type queues struct{ starts, saves, restores, drills *fairqueue.Queue }

// waiting is the save of a caller that waits for its turn. A repeated request waits beside it, and gets its outcome.
// The zero value is ready for use.
type waiting struct {
	mu        sync.Mutex
	requestID string
	calls     int
}

// enter reports whether a request may wait; then leave ends its waiting.
func (w *waiting) enter(requestID string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.calls > 0 && (requestID == "" || requestID != w.requestID) {
		return false
	}
	w.requestID = requestID
	w.calls++
	return true
}

func (w *waiting) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls--
}

// inTurn is a driller that waits for its turn: of all clusters, so many drills run at a time.
type inTurn struct {
	repository.Driller
	cluster string
	queue   *fairqueue.Queue
}

// Drill implements [repository.Driller].
func (d inTurn) Drill(ctx context.Context, file string, revision int64) (repository.Drilled, error) {
	release, err := takeTurn(ctx, d.queue, d.cluster, "drill")
	if err != nil {
		return repository.Drilled{}, err
	}
	defer release()
	return d.Driller.Drill(ctx, file, revision)
}

// takeTurn waits for a place in a queue. The caller calls release.
func takeTurn(ctx context.Context, q *fairqueue.Queue, owner, what string) (release func(), err error) {
	j := q.Join(owner)
	select {
	case <-j.Turn():
		return j.End, nil
	case <-ctx.Done():
		j.End()
		return nil, snapshot.Cancelled(ctx, "%s: it was waiting for its turn", what)
	}
}

// adoptInTurn makes a snapshot of another program, which is read whole into the spool, wait for a place among what is
// restored. At its first start, a process of many clusters may find such snapshots of all of them.
func adoptInTurn(q *fairqueue.Queue, cluster string) func(context.Context, string) (func(), error) {
	return func(ctx context.Context, what string) (func(), error) {
		return takeTurn(ctx, q, cluster+"/adopted", what) // the name of a cluster has no '/'
	}
}
