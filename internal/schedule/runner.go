package schedule

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"time"

	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Schedule is what is saved when.
type Schedule struct {
	Name   string
	Spec   Spec
	Jitter time.Duration        // a run begins up to so much later than it is due
	Save   snapshot.SaveRequest // but for the request id

	// Do is what is done instead of a save, once each time, however it ends.
	Do func(context.Context) error
}

// Result says how a run of a schedule ended.
type Result string

// The results.
const (
	ResultSuccess Result = "success" // the snapshot is READY
	ResultPartial Result = "partial" // it is on some backends, and waits for its repair on the others
	ResultFailed  Result = "failed"  // nothing was saved until the schedule was due again
)

// Runs are the runs of a cluster's schedules, as far as the leader has to know.
type Runs struct {
	Cluster   string
	Schedules []Schedule
	Save      func(context.Context, snapshot.SaveRequest) (snapshot.SaveResult, error)
	Ran       func(ctx context.Context, schedule string, due time.Time, r Result) // optional; a run has ended

	log *slog.Logger
}

// How long things wait that cannot be done now.
const (
	longestSleep = 15 * time.Second // the clock may be set meanwhile, and machines sleep
	busyPause    = 5 * time.Second  // another save is running
	stateRetry   = 5 * time.Second  // the catalog does not answer
	firstBackoff = 5 * time.Second  // after a run that failed, doubled each time
	lastBackoff  = 10 * time.Minute
)

// runner is a leader at work on a cluster's schedules.
type runner struct {
	Runs
	term    Term
	entries []*entry
}

// entry is where one schedule stands.
type entry struct {
	Schedule
	last    time.Time // when the run was due that ended last
	due     time.Time // the run to come, or under way
	at      time.Time // when it, or the next attempt at it, begins
	attempt int       // how often it has failed
}

// run runs the schedules until leading, the term of the leader, is over. Saves belong to ctx: one that has begun is ended also
// when the leadership is lost, by a quorum that is gone for example. Whoever leads then sends the same request, and gets its
// outcome.
func (r Runs) run(ctx, leading context.Context, term Term) {
	if len(r.Schedules) == 0 {
		return
	}
	run := &runner{Runs: r, term: term}
	for _, s := range r.Schedules {
		e := &entry{Schedule: s}
		if !run.begin(leading, e) {
			return
		}
		run.entries = append(run.entries, e)
	}
	for leading.Err() == nil {
		e := run.first(leading)
		if wait := time.Until(e.at); wait > 0 {
			_ = backoff.Wait(leading, min(wait, longestSleep))
			continue
		}
		run.attempt(ctx, leading, e)
	}
}

// begin finds out where a schedule stands. One that is new begins now.
func (r *runner) begin(leading context.Context, e *entry) bool {
	for {
		last, err := r.term.LastDue(leading, e.Name)
		switch {
		case err == nil && last.IsZero():
			e.last = now()
			return r.remember(leading, e)
		case err == nil:
			e.last = last
			return true
		case leading.Err() != nil:
			return false
		}
		r.log.WarnContext(leading, "cannot read when a schedule ran last; trying on", "schedule", e.Name, "error", err)
		_ = backoff.Wait(leading, stateRetry)
	}
}

// remember writes that everything until e.last is over. It returns false when this replica leads no more.
func (r *runner) remember(leading context.Context, e *entry) bool {
	for {
		err := r.term.PutLastDue(leading, e.Name, e.last)
		switch {
		case err == nil:
			return true
		case leading.Err() != nil:
			return false
		}
		r.log.WarnContext(leading, "cannot write when a schedule ran last; trying on", "schedule", e.Name, "error", err)
		_ = backoff.Wait(leading, stateRetry)
	}
}

// first returns the entry whose turn is next, after all were brought up to the present.
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

// advance chooses the run that is to come. One that was due and did not end before the schedule was due again is given up
// for the newer one: what was missed is caught up once.
func (r *runner) advance(leading context.Context, e *entry) {
	now := now()
	if e.last.After(now) {
		r.log.WarnContext(leading, "a schedule has run in the future; the clock was set back, or another replica's is wrong",
			"schedule", e.Name, "last", e.last, "now", now)
		e.last, e.due = now, time.Time{}
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
	case e.due.After(e.last) && e.due.Before(now): // else it has ended, and took longer than until the next
		r.log.ErrorContext(leading, "scheduled save given up: the schedule is due again", "schedule", e.Name, "due", e.due, "attempts", e.attempt)
		r.Ran(leading, e.Name, e.due, ResultFailed)
	case e.due.IsZero() && due.Before(now.Add(-longestSleep)):
		r.log.WarnContext(leading, "scheduled save was missed; it is caught up, once", "schedule", e.Name, "due", due, "last", e.last)
	}
	e.due, e.attempt = due, 0
	e.at = due.Add(r.jitter(e))
	r.log.InfoContext(leading, "next scheduled save", "schedule", e.Name, "at", e.at)
}

// jitter returns how much later than it is due a run begins: the same on all replicas, and at most half of the time to the
// next one.
func (r *runner) jitter(e *entry) time.Duration {
	most := min(e.Jitter, e.Spec.Next(e.due).Sub(e.due)/2)
	if most <= 0 {
		return 0
	}
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s/%s/%d", r.Cluster, e.Name, e.due.Unix())
	return time.Duration(h.Sum64() % uint64(most))
}

// attempt makes one attempt at the run of an entry, if this replica leads still: who has slept does not know.
func (r *runner) attempt(ctx, leading context.Context, e *entry) {
	if !r.remember(leading, e) {
		return
	}
	log := r.log.With("schedule", e.Name, "due", e.due)
	if e.Do != nil {
		res := ResultSuccess
		if err := e.Do(leading); err != nil {
			log.ErrorContext(leading, "scheduled work failed", "error", err)
			res = ResultFailed
		}
		r.end(leading, e, res)
		return
	}
	res, err := r.save(ctx, e)
	switch reason := snapshot.ReasonOf(err); {
	case err == nil:
		r.end(leading, e, ResultSuccess)
	case res.Snapshot != nil && res.Snapshot.State == snapshot.StatePartial:
		log.ErrorContext(ctx, "scheduled save reached some backends only", "snapshot", res.Snapshot.Name, "error", err)
		r.end(leading, e, ResultPartial)
	case ctx.Err() != nil:
	case reason == snapshot.ReasonSaveInProgress:
		log.InfoContext(ctx, "scheduled save waits for another one")
		e.again(busyPause)
	case reason == snapshot.ReasonCancelled, reason == snapshot.ReasonInterrupted, reason == snapshot.ReasonConflict: // no outcome
		log.WarnContext(ctx, "scheduled save is begun anew", "error", err)
		e.again(busyPause)
	default:
		e.attempt++
		e.again(backoff.Delay(firstBackoff, lastBackoff, e.attempt))
		log.ErrorContext(ctx, "scheduled save failed", "attempts", e.attempt, "again_at", e.at, "error", err)
	}
}

// again is when the next attempt begins, unless the schedule is due again before.
func (e *entry) again(after time.Duration) {
	e.at = now().Add(after)
	if next := e.Spec.Next(e.due); next.Before(e.at) {
		e.at = next
	}
}

// save sends the request of an attempt, after it has asked what became of the one before: what no backend took may have found
// one meanwhile.
func (r *runner) save(ctx context.Context, e *entry) (snapshot.SaveResult, error) {
	req := e.Save
	req.Trigger = snapshot.TriggerScheduled
	if e.attempt > 0 {
		req.RequestID = requestID(e, e.attempt-1)
		if res, err := r.Save(ctx, req); err == nil || res.Snapshot != nil && res.Snapshot.State == snapshot.StatePartial {
			return res, err
		}
	}
	req.RequestID = requestID(e, e.attempt)
	return r.Save(ctx, req)
}

// end notes that a run is over.
func (r *runner) end(leading context.Context, e *entry, res Result) {
	e.last, e.attempt = e.due, 0
	if r.remember(leading, e) {
		r.Ran(leading, e.Name, e.due, res)
	}
}

// requestID names an attempt at a run: whoever leads sends the same one, and a run has one snapshot. That of an attempt that
// has failed is answered with its failure, for ever.
func requestID(e *entry, attempt int) string {
	id := fmt.Sprintf("schedule/%s/%d", e.Name, e.due.Unix())
	if attempt > 0 {
		id += fmt.Sprintf("/%d", attempt+1)
	}
	return id
}

// now is the time on the wall: that a machine slept is part of it.
func now() time.Time { return time.Now().Round(0).UTC() }
