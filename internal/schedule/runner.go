package schedule

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/internal/span"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Schedule is a save, or other work, and when it is due.
type Schedule struct {
	Name   string
	Spec   Spec
	Jitter time.Duration       // a run begins up to this much later than it is due
	Save   cluster.SaveRequest // without the request id

	// Do is done instead of a save: once each time, whether it fails or not.
	Do func(context.Context) error
}

// Result says how a run of a schedule ended.
type Result string

// The results.
const (
	ResultSuccess Result = "success" // the snapshot is READY
	ResultPartial Result = "partial" // some backends hold it; the copies on the others wait for repair
	ResultFailed  Result = "failed"  // nothing was saved until the schedule was due again
)

// Runs are the schedules of a cluster, and the operations that the leader needs for them.
type Runs struct {
	Schedules []Schedule
	Save      func(context.Context, cluster.SaveRequest) (cluster.SaveResult, error)
	Ran       func(ctx context.Context, schedule string, due time.Time, r Result) // optional; a run has ended

	// None reports whether the cluster has no snapshot yet. Then a new schedule, the first of them, begins with a run at
	// once. Optional.
	None func(ctx context.Context) (bool, error)

	// Disown takes their requests from the snapshots of a schedule whose request ids it is told to: they are the outcome
	// of no run any more. Optional.
	Disown func(ctx context.Context, schedule string, stray func(requestID string) bool) error

	// Due is told when the next run begins, which is later than it is due by its jitter; the zero time when this replica
	// does not lead any more. Optional.
	Due func(ctx context.Context, schedule string, begins time.Time)

	cluster string // this and the rest are the loop's
	log     *slog.Logger
	work    *sync.RWMutex
}

// Pauses before another attempt.
const (
	longestSleep = 15 * time.Second // the clock may be set, and machines sleep
	busyPause    = 5 * time.Second  // another save is running
	stateRetry   = 5 * time.Second  // the catalog does not answer
	patience     = time.Minute      // with a catalog that does not say who leads
	firstBackoff = 5 * time.Second  // after a run that failed, doubled each time
	lastBackoff  = 10 * time.Minute
)

// runner runs the schedules of a cluster while this replica leads.
type runner struct {
	Runs
	term    Term
	entries []*entry
}

// entry is the state of one schedule.
type entry struct {
	Schedule
	last    time.Time // when the last run that has ended was due
	due     time.Time // the run to come, or under way
	at      time.Time // when that run, or the next attempt at it, begins
	attempt int       // failed attempts at that run
	first   bool      // the run to come was not missed: it takes the first snapshot of the cluster

	unwritten bool // the catalog does not have last yet
	ahead     bool // a clock was ahead: snapshots may have the requests of runs that are still to come

	trace *span.Span // of the run under way, with all attempts at it; nil before the first one
	err   error      // why the last attempt did not end the run
}

// start begins to run the schedules until leading, the term of the leader, is over. Saves belong to ctx: one that has
// begun goes on when the leadership is lost, because the quorum is gone for example; work waits for it. The next leader
// then sends the same request, and gets its outcome.
func (r Runs) start(ctx, leading context.Context, term Term, work *sync.WaitGroup) *runner {
	run := &runner{Runs: r, term: term}
	backoff.Repeat(leading, work, 0, func(leading context.Context) time.Duration { return run.step(ctx, leading) })
	return run
}

// step makes an attempt at the run that is due first, or returns how long to wait for it.
func (r *runner) step(ctx, leading context.Context) (pause time.Duration) {
	for len(r.entries) < len(r.Schedules) {
		e := &entry{Schedule: r.Schedules[len(r.entries)]}
		if !r.begin(leading, e) {
			return backoff.Never
		}
		r.entries = append(r.entries, e)
	}
	e, sleep := r.first(leading), longestSleep
	for _, e := range r.entries {
		if e.unwritten && r.remember(leading, e) != nil {
			sleep = stateRetry
		}
	}
	if wait := time.Until(e.at); wait > 0 {
		return min(wait, sleep)
	}
	r.attempt(ctx, leading, e)
	return 0
}

// begin reads the state of a schedule. A new schedule begins now, and the first one of a cluster without a snapshot as
// if it had just missed a run.
func (r *runner) begin(leading context.Context, e *entry) bool {
	for {
		last, err := r.term.LastDue(leading, e.Name)
		switch {
		case err == nil && last.IsZero():
			e.last = now()
			if len(r.entries) == 0 && r.none(leading, e) {
				e.last, e.first = e.Spec.before(e.last), true
			}
			_ = r.remember(leading, e)
			return true
		case err == nil:
			e.last = last
			return true
		case leading.Err() != nil:
			return false
		}
		r.log.WarnContext(leading, "last run of a schedule not read; trying again", "schedule", e.Name, "error", err)
		_ = backoff.Wait(leading, stateRetry)
	}
}

// none reports whether the first snapshot of the cluster is to be taken. When that is not known, the schedule decides.
func (r *runner) none(leading context.Context, e *entry) bool {
	if r.None == nil || e.Do != nil {
		return false
	}
	none, err := r.None(leading)
	if err != nil {
		r.log.WarnContext(leading, "it is not known whether there is a snapshot; the first one is taken when its schedule "+
			"is due", "schedule", e.Name, "error", err)
		return false
	}
	if none {
		r.log.InfoContext(leading, "there is no snapshot yet; the first one is taken now", "schedule", e.Name)
	}
	return none
}

// remember writes that every run until e.last is over. No run waits for that: an etcd without space takes no write for
// days, and is to be saved all the more. What is not written is tried again.
func (r *runner) remember(leading context.Context, e *entry) error {
	err := r.write(leading, e)
	switch {
	case err == nil && e.unwritten:
		r.log.InfoContext(leading, "last run of a schedule is written", "schedule", e.Name, "last", e.last)
	case err != nil && !e.unwritten && leading.Err() == nil:
		r.log.WarnContext(leading, "last run of a schedule not written; trying again, and its runs go on",
			"schedule", e.Name, "last", e.last, "error", err)
	}
	e.unwritten = err != nil
	return err
}

func (r *runner) write(leading context.Context, e *entry) error {
	if e.ahead && r.Disown != nil {
		now := now()
		stray := func(id string) bool { return dueOf(e.Name, id).After(now) }
		if err := r.Disown(leading, e.Name, stray); err != nil {
			return err
		}
	}
	e.ahead = false
	return r.term.PutLastDue(leading, e.Name, e.last)
}

// leads reports whether this replica leads. Its context does not tell when the process has slept past the end of its
// term. A catalog that does not say for a while, although the lease is renewed, keeps no snapshot from being taken.
func (r *runner) leads(leading context.Context) bool {
	for late := time.Now().Add(patience); ; {
		err := r.term.Leads(leading)
		switch {
		case err == nil:
			return true
		case leading.Err() != nil:
			return false
		case !errors.Is(err, snapshot.ErrLocked) && !time.Now().Before(late):
			r.log.ErrorContext(leading, "catalog does not say which replica leads; schedules are run without it", "error", err)
			return true
		}
		r.log.WarnContext(leading, "it is not known whether this replica leads; trying again", "error", err)
		_ = backoff.Wait(leading, stateRetry)
	}
}

// first returns the entry that is due first, after the state of all is current.
func (r *runner) first(leading context.Context) *entry {
	var first *entry
	for _, e := range r.entries {
		r.advance(leading, e)
		if first == nil || e.at.Before(first.at) {
			first = e
		}
	}
	return first
}

// advance chooses the next run. A run that has not ended when its schedule is due again is given up for the newer one:
// of all missed runs, one is caught up.
func (r *runner) advance(leading context.Context, e *entry) {
	now := now()
	if e.last.After(now) {
		r.log.WarnContext(leading,
			"last run of a schedule is in the future; the clock was set back, or another replica's is wrong",
			"schedule", e.Name, "last", e.last, "now", now)
		e.ahead = e.ahead || e.last.Sub(now) > snapshot.ClockStep
		e.last, e.due, e.unwritten = now, time.Time{}, true
	}
	due, missed := e.Spec.Latest(e.last, now)
	if !missed {
		due = e.Spec.Next(e.last)
	}
	if due.Equal(e.due) {
		return
	}
	switch {
	case !missed:
	case e.due.After(e.last) && e.due.Before(now): // otherwise it has ended, after the next one was due
		e.endTrace(ResultFailed, e.err)
		r.log.ErrorContext(leading, "scheduled save given up: the schedule is due again",
			"schedule", e.Name, "due", e.due, "attempts", e.attempt)
		r.Ran(leading, e.Name, e.due, ResultFailed)
	case e.due.IsZero() && !e.first && due.Before(now.Add(-longestSleep)):
		r.log.WarnContext(leading, "scheduled save was missed; it is caught up, once",
			"schedule", e.Name, "due", due, "last", e.last)
	}
	e.due, e.attempt = due, 0
	e.at = due
	if !e.first {
		e.at = due.Add(r.jitter(e))
	}
	r.Due(leading, e.Name, e.at)
	r.log.InfoContext(leading, "next scheduled save", "schedule", e.Name, "at", e.at)
}

// jitter returns how much later than due a run begins: the same on all replicas, and at most half of the time to the
// next run.
func (r *runner) jitter(e *entry) time.Duration {
	most := min(e.Jitter, e.Spec.Next(e.due).Sub(e.due)/2)
	if most <= 0 {
		return 0
	}
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s/%s/%d", r.cluster, e.Name, e.due.Unix())
	return time.Duration(h.Sum64() % uint64(most))
}

// attempt makes one attempt at the run of an entry, if this replica still leads: the leadership may have been lost
// while it slept.
func (r *runner) attempt(ctx, leading context.Context, e *entry) {
	r.work.RLock()
	defer r.work.RUnlock()
	ctx, leading = r.traced(ctx, leading, e)
	if !r.leads(leading) {
		return
	}
	log := r.log.With("schedule", e.Name, "due", e.due)
	if e.Do != nil {
		res, err := ResultSuccess, e.Do(leading)
		if err != nil {
			log.ErrorContext(leading, "scheduled work failed", "error", err)
			res = ResultFailed
		}
		r.end(leading, e, res, err)
		return
	}
	res, err := r.save(ctx, e)
	e.err = err
	if res.Snapshot != nil {
		e.trace.SetAttributes(span.Snapshot.String(res.Snapshot.Name))
	}
	switch reason := snapshot.ReasonOf(err); {
	case err == nil:
		r.end(leading, e, ResultSuccess, nil)
	case res.Snapshot != nil && res.Snapshot.State() == snapshot.StatePartial:
		log.ErrorContext(ctx, "scheduled save reached some backends only", "snapshot", res.Snapshot.Name, "error", err)
		r.end(leading, e, ResultPartial, err)
	case ctx.Err() != nil:
	case reason == snapshot.ReasonSaveInProgress:
		log.InfoContext(ctx, "scheduled save waits for another one")
		e.again(busyPause)
	case reason == snapshot.ReasonCancelled, reason == snapshot.ReasonInterrupted, reason == snapshot.ReasonConflict:
		// The attempt has no outcome, so that the same request can be made again.
		log.WarnContext(ctx, "scheduled save has no outcome; trying again", "error", err)
		e.again(busyPause)
	default:
		e.attempt++
		e.again(backoff.Delay(firstBackoff, lastBackoff, e.attempt))
		log.ErrorContext(ctx, "scheduled save failed", "attempts", e.attempt, "again_at", e.at, "error", err)
	}
}

// again sets when the next attempt begins, at the latest when the schedule is due again.
func (e *entry) again(after time.Duration) {
	e.at = now().Add(after)
	if next := e.Spec.Next(e.due); next.Before(e.at) {
		e.at = next
	}
}

// save sends the request of an attempt. Before that, it asks for the outcome of the attempt before: a backend may have
// taken the upload fallback meanwhile. An attempt that has failed before, under another leader too, is none, and the
// next one follows at once. One that left no record is made again, and is this attempt then. While snapshots of a clock
// that was ahead may have the requests of this run, no earlier one is its outcome.
func (r *runner) save(ctx context.Context, e *entry) (res cluster.SaveResult, err error) {
	req := e.Save
	req.Trigger, req.Schedule = snapshot.TriggerScheduled, e.Name
	for n := max(0, e.attempt-1); ; n++ {
		e.attempt = max(e.attempt, n)
		req.RequestID = requestID(e, n)
		res, err = r.Save(ctx, req)
		failed := err != nil && (res.Snapshot == nil || res.Snapshot.State() != snapshot.StatePartial)
		if !res.Repeated || !failed && !e.ahead {
			return res, err
		}
	}
}

// traced begins the trace of a run at its first attempt. All attempts at a run are one trace.
func (r *runner) traced(ctx, leading context.Context, e *entry) (context.Context, context.Context) {
	if e.trace == nil {
		name := "scheduled save"
		if e.Do != nil {
			name = strings.TrimPrefix(e.Name, "@")
		}
		_, e.trace = span.Run(ctx, name, span.Cluster.String(r.cluster), span.Schedule.String(e.Name))
	}
	return e.trace.In(ctx), e.trace.In(leading)
}

// endTrace ends the trace of a run that ended with err.
func (e *entry) endTrace(res Result, err error) {
	if e.trace != nil {
		e.trace.SetAttributes(attribute.String("result", string(res)))
		e.trace.End(err)
	}
	e.trace, e.err = nil, nil
}

// leave ends the traces of the runs that the next leader goes on with.
func (r *runner) leave(ctx context.Context) {
	for _, e := range r.entries {
		r.Due(context.WithoutCancel(ctx), e.Name, time.Time{})
		e.endTrace("left to the next leader", e.err)
	}
}

// end notes that a run is over, and how.
func (r *runner) end(leading context.Context, e *entry, res Result, err error) {
	defer e.endTrace(res, err)
	e.last, e.attempt, e.first = e.due, 0, false
	noted := r.remember(leading, e)
	if noted == nil || leading.Err() == nil && !errors.Is(noted, snapshot.ErrLocked) {
		r.Ran(leading, e.Name, e.due, res) // otherwise the next leader asks for the outcome, and tells it
	}
}

// dueOf returns when the run of a schedule was due to which a request id belongs; the zero time for any other id.
func dueOf(schedule, id string) time.Time {
	rest, ours := strings.CutPrefix(id, requestPrefix+schedule+"/")
	text, _, _ := strings.Cut(rest, "/")
	unix, err := strconv.ParseInt(text, 10, 64)
	if !ours || err != nil {
		return time.Time{}
	}
	return time.Unix(unix, 0)
}

const requestPrefix = "schedule/"

// requestID returns the id of an attempt at a run. Every leader sends the same one, so that a run has one snapshot. A
// failed attempt is answered with its failure forever, so that the next attempt has another id.
func requestID(e *entry, attempt int) string {
	id := fmt.Sprintf(requestPrefix+"%s/%d", e.Name, e.due.Unix())
	if attempt > 0 {
		id += fmt.Sprintf("/%d", attempt+1)
	}
	return id
}

// now returns the time of the wall clock, without the monotonic one: the time in which a machine slept counts.
func now() time.Time { return time.Now().Round(0).UTC() }
