package schedule

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/internal/span"
)

// retryInterval is the pause before a new campaign after one that ended with an error.
const retryInterval = 10 * time.Second

// minPause is the shortest pause between two repairs, unless one is asked for; repairPause follows an error of the
// catalog.
const (
	minPause    = time.Second
	repairPause = 30 * time.Second
)

// intervalSpread is the share by which an interval is longer or shorter, so that many clusters do not list one bucket
// in step.
const intervalSpread = 0.05

// Config of a [Loop].
type Config struct {
	Cluster   string                                                // whose loop it is; for traces and jitter
	Interval  func() time.Duration                                  // between the end of one reconcile and the next
	Lead      Campaign                                              // calls lead while this replica leads
	Reconcile func(ctx context.Context) error                       // an error is logged; the loop goes on
	Repair    func(ctx context.Context) (next time.Time, err error) // optional; returns the zero time when nothing waits
	Runs      []Runs                                                // side by side; each runs its schedules one at a time
	Wake      <-chan struct{}                                       // optional; a token asks for Repair at once
	Leading   func(ctx context.Context, leading bool)               // called when leadership begins and ends
	Own       *Own                                                  // optional; done while this replica does not lead
	// Work is optional. It is held for reading by other work that a leader ends before it gives way.
	Work   *sync.RWMutex
	Logger *slog.Logger
}

// Own is the work that a replica has while another one leads: only it can see the directories of its node. The leader
// does the same as part of its own work.
type Own struct {
	Reconcile func(ctx context.Context) error
	Repair    func(ctx context.Context) (next time.Time, err error)
	Scrubs    []Schedule // each with Do; one that is due while this replica leads, or does not run, is not caught up
}

// Campaign runs for election until ctx is done. It calls lead whenever it wins, with a context that ends with the term.
type Campaign func(ctx context.Context, lead func(ctx context.Context, term Term)) error

// Loop runs the schedules of a cluster and reconciles it while this replica leads: at the beginning of the term, and on
// an interval. It repairs after each reconcile, and in between when a repair is due or asked for.
type Loop struct {
	cfg      Config
	unfollow func()        // ends this replica's own work, and waits for it
	work     *sync.RWMutex // held for reading by work under way
}

// New returns a loop. It does nothing before Run.
func New(cfg Config) *Loop {
	if cfg.Leading == nil {
		cfg.Leading = func(context.Context, bool) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Loop{unfollow: func() {}, work: cmp.Or(cfg.Work, new(sync.RWMutex))}
	cfg.Runs = slices.Clone(cfg.Runs)
	for i := range cfg.Runs {
		cfg.Runs[i].cluster, cfg.Runs[i].log, cfg.Runs[i].work = cfg.Cluster, cfg.Logger, l.work
		if cfg.Runs[i].Ran == nil {
			cfg.Runs[i].Ran = func(context.Context, string, time.Time, Result) {}
		}
		if cfg.Runs[i].Due == nil {
			cfg.Runs[i].Due = func(context.Context, string, time.Time) {}
		}
	}
	l.cfg = cfg
	return l
}

// Run runs for election until ctx is done. When it returns, this replica does not lead any more, and no reconcile of
// this loop runs.
func (l *Loop) Run(ctx context.Context) {
	l.cfg.Leading(ctx, false)
	l.follow(ctx)
	defer func() { l.unfollow() }()
	for ctx.Err() == nil {
		err := l.cfg.Lead(ctx, func(leading context.Context, term Term) { l.lead(ctx, leading, term) })
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			l.cfg.Logger.WarnContext(ctx, "election failed; trying again", "retry_after", retryInterval, "error", err)
		}
		_ = backoff.Wait(ctx, retryInterval)
	}
}

// lead does the work of the leader until its term is over, and then waits for a save under way, which belongs to ctx.
func (l *Loop) lead(ctx, leading context.Context, term Term) {
	l.unfollow()
	defer l.follow(ctx)
	l.cfg.Logger.InfoContext(leading, "leading")
	l.cfg.Leading(leading, true)
	var work sync.WaitGroup
	var runs []*runner
	for _, r := range l.cfg.Runs {
		if len(r.Schedules) > 0 {
			runs = append(runs, r.start(ctx, leading, term, &work))
		}
	}
	l.reconcile(leading, l.cfg.Reconcile, l.cfg.Repair, func() { l.giveWay(leading, term) })
	l.cfg.Leading(context.WithoutCancel(leading), false)
	l.cfg.Logger.InfoContext(leading, "leading no more")
	work.Wait()
	for _, r := range runs {
		r.leave(ctx)
	}
}

// giveWay ends the term if another replica has asked for it and no work is under way: neither a reconcile, which has
// ended long ago, nor a run of a schedule.
func (l *Loop) giveWay(leading context.Context, term Term) {
	asked, err := term.Asked(leading)
	if err == nil && asked && l.work.TryLock() {
		defer l.work.Unlock()
		l.cfg.Logger.InfoContext(leading, "another replica is to lead")
		if err := term.GiveWay(leading); err != nil && leading.Err() == nil {
			l.cfg.Logger.WarnContext(leading, "this replica goes on leading, because it could not give way", "error", err)
		}
	}
	if err != nil && leading.Err() == nil {
		l.cfg.Logger.WarnContext(leading, "it is not known whether another replica is to lead", "error", err)
	}
}

// followPause lets the election be decided before this replica begins the work of one that does not lead.
const followPause = 5 * time.Second

// follow begins this replica's own work, until unfollow.
func (l *Loop) follow(ctx context.Context) {
	if l.cfg.Own == nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	work.Go(func() {
		if backoff.Wait(ctx, followPause) == nil {
			l.reconcile(ctx, l.cfg.Own.Reconcile, l.cfg.Own.Repair, func() {})
		}
	})
	for _, s := range l.cfg.Own.Scrubs {
		last := now()
		backoff.Repeat(ctx, &work, 0, func(ctx context.Context) time.Duration { return l.scrub(ctx, s, &last) })
	}
	l.unfollow = func() {
		cancel()
		work.Wait()
	}
}

// scrub does scheduled work that no catalog remembers if it is due since it was done last, and returns how long to wait
// for the next time.
func (l *Loop) scrub(ctx context.Context, s Schedule, last *time.Time) (pause time.Duration) {
	due := s.Spec.Next(*last)
	if wait := time.Until(due); wait > 0 {
		return min(wait, longestSleep)
	}
	run, trace := span.Run(ctx, "scrub", span.Cluster.String(l.cfg.Cluster), span.Schedule.String(s.Name))
	err := s.Do(run)
	if trace.End(err); err != nil && ctx.Err() == nil {
		l.cfg.Logger.ErrorContext(ctx, "scheduled work failed", "schedule", s.Name, "due", due, "error", err)
	}
	*last = now()
	return 0
}

// reconcile reconciles and repairs until ctx is done. Before each reconcile but the first it calls quiet.
func (l *Loop) reconcile(
	ctx context.Context, reconcile func(context.Context) error, repair func(context.Context) (time.Time, error),
	quiet func(),
) {
	for ctx.Err() == nil {
		err := l.once(ctx, reconcile)
		interval := l.cfg.Interval()
		if err != nil && ctx.Err() == nil {
			l.cfg.Logger.ErrorContext(ctx, "reconcile", "error", err, "next_in", interval)
		}
		l.repairUntil(ctx, repair, time.Now().Add(backoff.Spread(interval, intervalSpread)))
		if ctx.Err() == nil {
			quiet()
		}
	}
}

// once makes one run, which is one trace.
func (l *Loop) once(ctx context.Context, reconcile func(context.Context) error) error {
	l.work.RLock()
	defer l.work.RUnlock()
	ctx, run := span.Run(ctx, "reconcile", span.Cluster.String(l.cfg.Cluster))
	err := reconcile(ctx)
	run.End(err)
	return err
}

// repairUntil repairs now, and whenever a repair is due or asked for, until the next reconcile.
func (l *Loop) repairUntil(ctx context.Context, repair func(context.Context) (time.Time, error), end time.Time) {
	if repair == nil {
		_ = backoff.Wait(ctx, time.Until(end))
		return
	}
	for ctx.Err() == nil && time.Now().Before(end) {
		wake := end
		l.work.RLock()
		next, err := repair(ctx)
		l.work.RUnlock()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			l.cfg.Logger.ErrorContext(ctx, "repair", "error", err)
			wake = time.Now().Add(repairPause)
		case !next.IsZero():
			wake = next
		}
		l.await(ctx, earliest(end, latest(wake, time.Now().Add(minPause))))
	}
}

// await returns at a time, when a repair is asked for, or when ctx is done.
func (l *Loop) await(ctx context.Context, until time.Time) {
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-l.cfg.Wake:
	}
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
