package restore

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Moment is a snapshot as evidence of time: when its save began, its cluster had its newest revision, but for the
// moment until etcd began to read.
type Moment struct {
	Name     string
	Time     time.Time
	Revision int64
}

// Bracket is all that snapshots prove of the revision that a cluster had at a time. etcd keeps no times.
type Bracket struct {
	Time          time.Time
	Before, After *Moment // the nearest ones of the same history; nil when there is none
	Estimated     bool    // the revision that was taken is an estimate between the two
	Why           string  // no estimate was made, though one was asked for; empty otherwise
}

// estimate returns the revision between the two moments, as if changes came evenly.
func (b *Bracket) estimate() int64 {
	whole := big.NewInt(int64(b.After.Time.Sub(b.Before.Time)))
	part := big.NewInt(int64(b.Time.Sub(b.Before.Time)))
	part.Mul(part, big.NewInt(b.After.Revision-b.Before.Revision))
	return b.Before.Revision + part.Quo(part, whole).Int64()
}

// byTime takes the snapshot that the choice names at the revision of the time: the newest one that is proven to be not
// later than the time, or an estimate. Without a name, only an estimate leads here.
func (l *lookback) byTime(ctx context.Context) error {
	b, err := l.bracket(ctx, l.Choice, l.learn)
	if err != nil {
		return err
	}
	l.res.Bracket = b
	if l.Choice.Name == "" && !l.Choice.Latest {
		return l.estimated(ctx)
	}
	c := l.Choice
	c.At = time.Time{} // it says which revision, and not which snapshot
	skipped, err := l.choose(ctx, c, func(found candidate) error { return l.takeAtTime(ctx, found) })
	l.leaveOut(skipped...)
	return err
}

// takeAtTime takes a copy at the revision of the time.
func (l *lookback) takeAtTime(ctx context.Context, c candidate) error {
	b := l.res.Bracket
	switch {
	case !c.CreateTime.After(b.Time):
		return l.takeWhole(ctx, c)
	case b.Before == nil:
		return b.unproven("no snapshot of that time or before shows the revision that it had")
	case l.Choice.Estimate && b.After == nil:
		return b.unproven("no later snapshot of the same history shows a revision that it had later")
	case l.Choice.Estimate:
		b.Estimated = true
		return l.take(ctx, c, b.estimate())
	}
	return l.take(ctx, c, b.Before.Revision)
}

// unproven is the error that nothing is known of the revision at the time.
func (b *Bracket) unproven(why string) error {
	at := b.Time.UTC().Format(time.RFC3339)
	return snapshot.ReasonRevisionNotFound.New("--at: the revision at %s is not known: %s", at, why).
		Advise("nothing was restored; --dry-run without a time shows which revisions a snapshot holds, --revision takes one")
}

// estimated takes the next snapshot after the time at an estimated revision. When it does not hold that, the newest one
// of the time or before is taken, as without an estimate.
func (l *lookback) estimated(ctx context.Context) error {
	b := l.res.Bracket
	switch {
	case b.Before == nil:
		b.Why = "no snapshot of that time or before shows its revision"
	case b.After == nil:
		b.Why = "there is no later snapshot of the same history"
	default:
		b.Estimated = true
		skipped, err := l.choose(ctx, Choice{Name: b.After.Name, Now: l.Choice.Now}, func(c candidate) error {
			return l.take(ctx, c, b.estimate())
		})
		not := (*notHeldError)(nil)
		if !errors.As(err, &not) && !snapshot.IsDamage(err) {
			l.leaveOut(skipped...)
			return err
		}
		b.Estimated, b.Why = false, fmt.Sprintf("it would be revision %d, and %v", b.estimate(), err)
	}
	return l.takeNewest(ctx)
}

// learner returns the revisions that a snapshot holds, or nil when they are not known.
type learner func(context.Context, *copies) (*held, error)

// bracket finds the nearest snapshots before and after the time of the choice of which it learns the revision.
func (l *listing) bracket(ctx context.Context, c Choice, learn learner) (*Bracket, error) {
	b := &Bracket{Time: c.At}
	older := len(l.all) // where the older ones begin, as the newest is the first
	for i, s := range l.all {
		if !s.time.After(c.At) {
			older = i
			break
		}
	}
	before, err := nearest(ctx, l.all[older:], learn)
	if err != nil || before == nil {
		return b, err
	}
	b.Before = before.moment()
	newer := slices.Clone(l.all[:older])
	slices.Reverse(newer)
	after, err := nearest(ctx, newer, learn)
	if after != nil && after.follows(before) {
		b.After = after.moment()
	}
	return b, err
}

// nearest returns the first snapshot of which it learns the revisions, or nil.
func nearest(ctx context.Context, all []*copies, learn learner) (*held, error) {
	for _, s := range all {
		if h, err := learn(ctx, s); h != nil || err != nil {
			return h, err
		}
	}
	return nil, nil
}

func (h *held) moment() *Moment { return &Moment{Name: h.name, Time: h.time, Revision: h.newest} }

// learn returns the revisions that a snapshot holds: as its manifest says, or else its data. It is nil when every copy
// is damaged.
func (l *lookback) learn(ctx context.Context, s *copies) (*held, error) {
	h := s.described(ctx)
	if h.newest > 0 {
		return h, nil
	}
	failed, done, err := s.try(ctx, Choice{Name: s.name}, func(c candidate) error {
		found, err := l.look(ctx, c, 0)
		h.oldest, h.newest = found.OldestRevision, found.Newest()
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case done:
		return h, nil
	}
	if unread := firstUnread(failed); unread != nil && !l.Choice.AcceptOlder {
		return nil, unread
	}
	return nil, nil
}
