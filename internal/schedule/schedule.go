package schedule

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/internal/backoff"
)

// retryInterval is how long a loop waits before it stands for election again after that ended with an error.
const retryInterval = 10 * time.Second

// minPause lies between two looks at what is to be repaired, unless one is asked for; repairPause when the catalog failed.
const (
	minPause    = time.Second
	repairPause = 30 * time.Second
)

// intervalSpread is the share by which an interval is longer or shorter, so that many clusters do not list one bucket in step.
const intervalSpread = 0.05

// Config of a [Loop].
type Config struct {
	Interval  time.Duration                                         // between the end of one reconcile and the next
	Lead      Campaign                                              // calls lead while this replica leads
	Reconcile func(ctx context.Context) error                       // an error is logged; the loop goes on
	Repair    func(ctx context.Context) (next time.Time, err error) // optional; the zero time when nothing waits
	Runs      []Runs                                                // side by side; of the schedules of each, one at a time
	Wake      <-chan struct{}                                       // optional; a token asks for Repair at once
	Leading   func(ctx context.Context, leading bool)               // told when leadership begins and ends
	Logger    *slog.Logger
}

// Campaign stands for election until ctx is done, and calls lead whenever it is won, with a context that ends with the term.
type Campaign func(ctx context.Context, lead func(ctx context.Context, term Term)) error

// Loop runs the schedules of a cluster, and reconciles it, as long as this replica leads it: when it is elected, and on an
// interval from then on. After each reconcile, and in between when it is due or asked for, it repairs.
type Loop struct{ cfg Config }

// New returns a loop. It does nothing before Run.
func New(cfg Config) *Loop {
	if cfg.Leading == nil {
		cfg.Leading = func(context.Context, bool) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Runs = slices.Clone(cfg.Runs)
	for i := range cfg.Runs {
		cfg.Runs[i].log = cfg.Logger
		if cfg.Runs[i].Ran == nil {
			cfg.Runs[i].Ran = func(context.Context, string, time.Time, Result) {}
		}
	}
	return &Loop{cfg}
}

// Run stands for election until ctx is done, whatever happens. When it returns, this replica leads no more and no
// reconcile of this loop runs.
func (l *Loop) Run(ctx context.Context) {
	l.cfg.Leading(ctx, false)
	for ctx.Err() == nil {
		err := l.cfg.Lead(ctx, func(leading context.Context, term Term) { l.lead(ctx, leading, term) })
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			l.cfg.Logger.WarnContext(ctx, "stand for election again", "retry_after", retryInterval, "error", err)
		}
		_ = backoff.Wait(ctx, retryInterval)
	}
}

// lead is what the leader does until its term is over. A save under way is then waited for: it belongs to ctx.
func (l *Loop) lead(ctx, leading context.Context, term Term) {
	l.cfg.Logger.InfoContext(leading, "leading")
	l.cfg.Leading(leading, true)
	var runs sync.WaitGroup
	for _, r := range l.cfg.Runs {
		runs.Go(func() { r.run(ctx, leading, term) })
	}
	l.reconcile(leading)
	l.cfg.Leading(context.WithoutCancel(leading), false)
	l.cfg.Logger.InfoContext(leading, "leading no more")
	runs.Wait()
}

// reconcile reconciles and repairs until ctx is done.
func (l *Loop) reconcile(ctx context.Context) {
	for ctx.Err() == nil {
		if err := l.cfg.Reconcile(ctx); err != nil && ctx.Err() == nil {
			l.cfg.Logger.ErrorContext(ctx, "reconcile", "error", err, "next_in", l.cfg.Interval)
		}
		l.repairUntil(ctx, time.Now().Add(backoff.Spread(l.cfg.Interval, intervalSpread)))
	}
}

// repairUntil repairs now, and whenever something is due or asked for, until it is time for the next reconcile.
func (l *Loop) repairUntil(ctx context.Context, end time.Time) {
	if l.cfg.Repair == nil {
		_ = backoff.Wait(ctx, time.Until(end))
		return
	}
	for ctx.Err() == nil && time.Now().Before(end) {
		wake := end
		next, err := l.cfg.Repair(ctx)
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

// await returns at a time, when something asks for a repair, or when ctx is done.
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
