package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/journal/plan"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Choice says which snapshot to take: by its name, the newest, or by a time or a revision. With a name, or the newest,
// a time or a revision says to which of its revisions the snapshot is taken back.
type Choice struct {
	Name     string
	Latest   bool      // the newest READY one
	At       time.Time // the newest READY one of this time or before
	Revision int64     // one that holds this revision
	Estimate bool      // with At: the revision that the cluster may have had then, between those of two snapshots

	// AcceptOlder goes on to an older snapshot when a newer one cannot be read for want of access or connection. Without
	// it only damage goes back: nobody notices that a restore took an older snapshot than it could have.
	AcceptOlder bool
	// CrossGaps adds what the journal has behind revisions that are lost to what was before them, within one timeline. It
	// makes a state that the cluster never had.
	CrossGaps bool
	Now       time.Time // of this machine: a snapshot that claims to be of the future is not the latest beside others
}

// ahead reports whether a snapshot of this time claims to be of the future.
func (c *Choice) ahead(t time.Time) bool { return snapshot.Ahead(t, c.Now) }

// covers reports whether the choice may take a snapshot.
func (c *Choice) covers(s *copies) bool {
	return (c.Name == "" || s.name == c.Name) && (c.At.IsZero() || !s.time.After(c.At))
}

// onlyDamage reports whether nothing but damage lets the choice go on to an older snapshot.
func (c *Choice) onlyDamage() bool { return c.Name == "" && !c.AcceptOlder }

// candidate is a copy that can be restored.
type candidate struct {
	*snapshot.Record
	repo *repository.Repository
}

// URI returns the place of the copy.
func (c *candidate) URI() string { return c.Locations()[0].URI }

// copies are those of one snapshot, one of each repository that lists it, in the order of the repositories.
type copies struct {
	name string
	time time.Time
	all  []listed
}

// listed is a copy as a listing shows it.
type listed struct {
	repository.Entry
	repo *repository.Repository
}

// listing are the snapshots of all repositories, newest first, and why some repositories could not be listed.
type listing struct {
	repos  []*repository.Repository
	all    []*copies
	unread []error

	journal *plan.Journal // nil before it is listed
}

// choose tries copies in order until one is good. Of a snapshot, each repository has a copy. Unless the choice is a
// name, older snapshots follow, in case the newer ones prove to be damaged. A newer one that cannot be read ends it,
// unless the choice accepts an older one. skipped says why chosen copies were left out.
func (l *listing) choose(ctx context.Context, c Choice, try func(candidate) error) (skipped []error, err error) {
	repos, all := l.repos, l.all
	if len(l.unread) > 0 && c.onlyDamage() {
		return nil, newerMayBe(l.unread[0])
	}
	skipped = slices.Clone(l.unread)
	// When all of them are ahead, it is this machine's clock that is wrong.
	timely := slices.ContainsFunc(all, func(s *copies) bool { return !c.ahead(s.time) })
	for _, s := range all {
		switch {
		case !c.covers(s):
			continue
		case c.Name == "" && timely && c.ahead(s.time):
			skipped = append(skipped, fmt.Errorf("%s claims to be of %s, which is in the future; give its name to restore it",
				s.name, s.time.Format(time.RFC3339)))
			continue
		}
		failed, done, err := s.try(ctx, c, try)
		skipped = append(skipped, failed...)
		if done || err != nil {
			return skipped, err
		}
		if unread := firstUnread(failed); unread != nil && c.onlyDamage() {
			return skipped, newerMayBe(unread)
		}
	}
	return skipped, nothing(c, repos, skipped)
}

// try tries the copies of a snapshot until one is good, and returns whether one was, and why others before it failed.
// The error is one that no other copy or snapshot could help against.
func (s *copies) try(ctx context.Context, c Choice, try func(candidate) error) (failed []error, done bool, err error) {
	for _, e := range s.all {
		rec, err := e.repo.Record(ctx, e.Entry)
		if err == nil && rec.State() == snapshot.StateDeleting && c.Name == "" {
			err = snapshot.ReasonSnapshotUnreadable.New("%s is being removed; give its name to restore it", e.repo.URI(e.Name))
		}
		if err == nil {
			err = try(candidate{rec, e.repo})
		}
		switch {
		case err == nil:
			return failed, true, nil
		case ctx.Err() != nil:
			return failed, false, context.Cause(ctx)
		case !ofCopy(err):
			return failed, false, err
		}
		failed = append(failed, err)
	}
	return failed, false, nil
}

// list lists the repositories. It is an error when none can be listed.
func list(ctx context.Context, repos []*repository.Repository) (*listing, error) {
	l := &listing{repos: repos}
	byName := map[string]*copies{}
	for _, r := range repos {
		entries, err := r.Entries(ctx)
		if err != nil {
			l.unread = append(l.unread, err)
			continue
		}
		for _, e := range entries {
			s := byName[e.Name]
			if s == nil {
				s = &copies{name: e.Name, time: e.Time}
				byName[e.Name] = s
				l.all = append(l.all, s)
			}
			s.all = append(s.all, listed{e, r})
		}
	}
	if len(l.unread) == len(repos) {
		return nil, errors.Join(l.unread...)
	}
	slices.SortStableFunc(l.all, func(a, b *copies) int {
		return cmp.Or(b.time.Compare(a.time), cmp.Compare(b.name, a.name))
	})
	return l, nil
}

// newerMayBe is the error that a newer snapshot than the next one could not be read.
func newerMayBe(err error) error {
	return snapshot.ReasonOf(err).New("a newer snapshot cannot be read, or may be there").
		On(snapshot.BackendOf(err)).Because(err).
		Advise("nothing was restored; mend the access, or give --accept-older to take the newest snapshot that can be read")
}

// firstUnread returns the first error of a copy that is not damage: it could not be read. It returns nil when all is
// damage.
func firstUnread(errs []error) error {
	for _, err := range errs {
		if ofCopy(err) && !snapshot.IsDamage(err) {
			return err
		}
	}
	return nil
}

// ofCopy reports whether an error concerns one copy or one backend alone, so that another copy may be good.
func ofCopy(err error) bool {
	switch snapshot.ReasonOf(err) {
	case snapshot.ReasonBackendUnavailable, snapshot.ReasonBackendAccessDenied, snapshot.ReasonBackendNotFound,
		snapshot.ReasonObjectNotFound:
		return true
	}
	return snapshot.IsDamage(err)
}

// nothing is the error that no copy is left.
func nothing(c Choice, repos []*repository.Repository, skipped []error) error {
	wanted := "snapshot"
	switch {
	case c.Name != "":
		wanted = fmt.Sprintf("snapshot %q", c.Name)
	case c.Revision > 0:
		wanted = fmt.Sprintf("snapshot that holds revision %d", c.Revision)
	case !c.At.IsZero():
		wanted = "snapshot of " + c.At.Format(time.RFC3339) + " or before"
	}
	where := ""
	for i, s := range repos {
		if i > 0 {
			where += " or "
		}
		where += s.URI("")
	}
	if unread := firstUnread(skipped); unread != nil {
		// Not all of it is damage: the exit code must not say so.
		return snapshot.ReasonOf(unread).New("no %s in %s could be read", wanted, where).On(snapshot.BackendOf(unread)).
			Because(errors.Join(skipped...)).Advise("nothing was restored; mend the access, or give another --from")
	}
	if len(skipped) > 0 {
		return snapshot.ReasonSnapshotUnreadable.New("there is no %s in %s that is whole", wanted, where).
			Because(errors.Join(skipped...)).
			Advise("nothing was restored; another backend may have a good copy, give it with another --from")
	}
	return snapshot.ReasonSnapshotNotFound.New("there is no %s in %s", wanted, where).
		Advise("list --from shows the snapshots; --cluster names the cluster, --prefix the place of its keys")
}
