// Package schedule runs what only one replica should run: the reconcile loop of a cluster, under leadership.
package schedule

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"
)

// retryInterval is how long a loop waits before it stands for election again after that ended with an error.
const retryInterval = 10 * time.Second

// Config of a [Loop].
type Config struct {
	Interval  time.Duration                                                   // between the end of one reconcile and the next
	Lead      func(ctx context.Context, lead func(ctx context.Context)) error // campaigns, and calls lead while this replica leads
	Reconcile func(ctx context.Context) error                                 // an error is logged; the loop goes on
	Leading   func(ctx context.Context, leading bool)                         // told when leadership begins and ends
	Logger    *slog.Logger
}

// Loop reconciles a cluster as long as this replica leads it: when it is elected, and on an interval from then on.
type Loop struct{ cfg Config }

// New returns a loop. It does nothing before Run.
func New(cfg Config) *Loop {
	if cfg.Leading == nil {
		cfg.Leading = func(context.Context, bool) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Loop{cfg}
}

// Run stands for election until ctx is done, whatever happens. When it returns, this replica leads no more and no
// reconcile of this loop runs.
func (l *Loop) Run(ctx context.Context) {
	l.cfg.Leading(ctx, false)
	for ctx.Err() == nil {
		err := l.cfg.Lead(ctx, l.lead)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			l.cfg.Logger.WarnContext(ctx, "stand for election again", "retry_after", retryInterval, "error", err)
		}
		wait(ctx, retryInterval)
	}
}

// lead is what the leader does until ctx, its leadership, is over.
func (l *Loop) lead(ctx context.Context) {
	l.cfg.Logger.InfoContext(ctx, "leading")
	l.cfg.Leading(ctx, true)
	defer func() {
		l.cfg.Leading(context.WithoutCancel(ctx), false)
		l.cfg.Logger.InfoContext(ctx, "leading no more")
	}()
	for ctx.Err() == nil {
		if err := l.cfg.Reconcile(ctx); err != nil && ctx.Err() == nil {
			l.cfg.Logger.ErrorContext(ctx, "reconcile", "error", err, "next_in", l.cfg.Interval)
		}
		wait(ctx, jitter(l.cfg.Interval))
	}
}

// jitter spreads an interval by a tenth, so that many clusters do not list one bucket in step.
func jitter(d time.Duration) time.Duration {
	return d + time.Duration((rand.Float64()-0.5)*0.1*float64(d)) //nolint:gosec // it spreads load and keeps no secret
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
