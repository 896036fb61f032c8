package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/internal/etcd/database"
	"github.com/snapshotd/snapshotd/internal/etcd/datadir"
	"github.com/snapshotd/snapshotd/journal/plan"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Past is the revision to which a snapshot is taken back, and its time, as far as it is known.
type Past struct {
	Oldest, Newest int64 // the revisions to which the snapshot can be taken back
	database.Past

	replayed *datadir.Past // how to finish a database to which the journal was added; nil for any other
}

// Whole reports whether the snapshot is restored as it is.
func (p *Past) Whole() bool { return p == nil || p.Revision == p.Newest && p.replayed == nil }

// past reports whether the choice may take a snapshot back, so that its data must be read.
func (c *Choice) past() bool {
	return c.Revision > 0 || !c.At.IsZero() && (c.Estimate || c.Latest || c.Name != "")
}

// lookback chooses a snapshot and one of its revisions.
type lookback struct {
	Options
	*listing

	moment    *plan.Moment // of the time of the choice, when the journal shows it, and snapshots lead to it
	holders   []*held      // later snapshots that hold the revision of the moment; none when an earlier one leads to it
	below     int64        // of the revision of a base; 0 for any
	compactTo int64        // as that of replay

	file string // of the database that was read last
	read string // the place of its copy; empty when the file is not whole
	res  Result
}

// newLookback lists the repositories, and looks for the time of the choice in the journal.
func newLookback(ctx context.Context, o Options) (*lookback, error) {
	all, err := list(ctx, o.Repositories)
	if err != nil {
		return nil, err
	}
	l := &lookback{Options: o, listing: all}
	return l, l.byJournal(ctx)
}

// reads reports whether the data of snapshots must be read to know what is restored.
func (l *lookback) reads() bool { return l.Choice.past() || l.moment != nil }

// run returns the chosen snapshot, the database of which is then in the file.
func (l *lookback) run(ctx context.Context) (Result, error) {
	var err error
	switch c := l.Choice; {
	case len(l.holders) > 0:
		err = l.takeBack(ctx)
	case l.moment != nil:
		err = l.toMoment(ctx)
	case !c.At.IsZero():
		err = l.byTime(ctx)
	case c.Latest || c.Name != "":
		var skipped []error
		skipped, err = l.choose(ctx, c, func(found candidate) error { return l.take(ctx, found, c.Revision) })
		l.leaveOut(skipped...)
	default:
		err = l.byRevision(ctx)
	}
	if not := (*notHeldError)(nil); errors.As(err, &not) {
		err = l.journaled(ctx, not)
	}
	return l.res, err
}

// leaveOut notes why something was left out, once: a segment may be met again and again.
func (l *lookback) leaveOut(errs ...error) {
	for _, err := range errs {
		if !slices.ContainsFunc(l.res.Skipped, func(old error) bool { return strings.Contains(old.Error(), err.Error()) }) {
			l.res.Skipped = append(l.res.Skipped, err)
		}
	}
}

// notHeldError is the reason why a snapshot cannot be taken back to a revision.
type notHeldError struct {
	name           string // of the snapshot; empty when it is no single one
	revision       int64
	oldest, newest int64 // that it holds
	below, above   int64 // around the revision, when it is between these two
}

// Error implements error.
func (e *notHeldError) Error() string {
	switch {
	case e.name == "":
		return "no snapshot holds it"
	case e.below > 0:
		return fmt.Sprintf("nothing was written at that revision: those around it in %s are %d and %d",
			e.name, e.below, e.above)
	default:
		return fmt.Sprintf("%s holds the revisions %d to %d", e.name, e.oldest, e.newest)
	}
}

// take reads a copy, and takes it as the result if it holds a revision.
func (l *lookback) take(ctx context.Context, c candidate, revision int64) error {
	found, err := l.look(ctx, c, revision)
	if err != nil {
		return err
	}
	not := &notHeldError{name: c.Name, revision: revision, oldest: found.OldestRevision, newest: found.Newest()}
	switch past := found.Past; {
	case past == nil:
		return not
	case past.Revision != revision:
		not.below, not.above = past.Revision, past.Next
		return not
	default:
		l.res.Snapshot, l.res.URI = c.Record, c.URI()
		l.res.Past = &Past{Oldest: not.oldest, Newest: not.newest, Past: *past}
		return nil
	}
}

// takeNewest takes the newest snapshot of the choice as it is.
func (l *lookback) takeNewest(ctx context.Context) error {
	skipped, err := l.choose(ctx, l.Choice, func(c candidate) error { return l.takeWhole(ctx, c) })
	l.leaveOut(skipped...)
	return err
}

// takeWhole reads a copy, and takes it as the result as it is.
func (l *lookback) takeWhole(ctx context.Context, c candidate) error {
	l.read = ""
	l.res.Snapshot, l.res.URI = c.Record, c.URI()
	return fetch(ctx, l.Options, c, l.file)
}

// look reads every page and key of a copy, with one of its revisions unless that is 0. The copy is in the file then.
func (l *lookback) look(ctx context.Context, c candidate, revision int64) (database.Result, error) {
	if l.read != c.URI() {
		l.read = ""
		if err := fetchBytes(ctx, l.Options, c, l.file); err != nil {
			return database.Result{}, err
		}
		l.read = c.URI()
	}
	return inspect(ctx, l.Options, c, l.file, revision)
}

// held is a snapshot and the revisions that it holds.
type held struct {
	*copies
	created        time.Time // as a manifest says, or else the name, which may have a later second
	cluster        string    // etcd's id; empty when it is not known
	oldest, newest int64     // 0 when they are not known
}

// survey returns the snapshots, oldest first, with the revisions that their manifests name.
func (l *lookback) survey(ctx context.Context) []*held {
	all := make([]*held, len(l.all))
	for i, s := range l.all {
		all[len(all)-1-i] = s.described(ctx)
	}
	return all
}

// described returns a snapshot with the revisions that its manifest names. No data is read.
func (s *copies) described(ctx context.Context) *held {
	h := &held{copies: s, created: s.time}
	for _, e := range s.all {
		rec, err := e.repo.Record(ctx, e.Entry)
		if err == nil && rec.Revision > 0 {
			h.created, h.cluster = rec.CreateTime, rec.EtcdClusterID
			h.oldest, h.newest = rec.OldestRevision, max(rec.Revision, rec.OldestRevision)
			break
		}
	}
	return h
}

// errUndescribed says that no manifest names the revisions of a snapshot.
var errUndescribed = errors.New("no manifest names its revisions")

// described is the [learner] that knows what the manifests say.
func described(ctx context.Context, s *copies) (*held, error) {
	h := s.described(ctx)
	if h.newest == 0 {
		return nil, errUndescribed
	}
	return h, nil
}

// notHeld returns the error that a revision cannot be restored. It names the nearest revisions that can.
func (l *lookback) notHeld(ctx context.Context, cause *notHeldError) error {
	var below, above, unknown *held
	for _, h := range l.survey(ctx) {
		switch {
		case h.newest == 0:
			unknown = h
		case h.newest < cause.revision && (below == nil || h.newest >= below.newest):
			below = h
		case h.oldest > cause.revision && (above == nil || h.oldest < above.oldest):
			above = h
		}
	}
	near := "nothing was restored"
	if t := l.endsBelow(ctx, cause.revision); t != nil && (below == nil || t.Last() > below.newest) {
		near += fmt.Sprintf("; the nearest revision below is %d, to which the journal %s leads", t.Last(), t.Name)
	} else if below != nil {
		near += fmt.Sprintf("; the nearest revision below is %d, the newest of %s", below.newest, below.name)
	}
	if above != nil {
		near += fmt.Sprintf("; the nearest above is %d, the oldest of %s", above.oldest, above.name)
	}
	if unknown != nil {
		near += "; " + unknown.name + " has no manifest that names its revisions: they are read when its name is given"
	}
	return snapshot.ReasonRevisionNotFound.New("revision %d cannot be restored", cause.revision).
		Because(cause).Advise("%s", near)
}
