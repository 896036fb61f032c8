package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Base says which snapshot the journal needs: because a timeline begins or goes on, a gap was found, a backend takes
// revisions again after it has lost some, or users have changed. One snapshot may serve several needs (and).
type Base struct {
	Since    time.Time // the snapshot was begun after it
	Revision int64     // the first one of the journal: the snapshot leads to it; 0 when any does
	Cluster  uint64    // the id of the etcd that is saved
	Fresh    bool      // one that is there is not enough: it may be of the history before
	Reason   string
}

// Serves reports whether a snapshot is the one that the journal needs. Its time alone does not show that: the clock of
// another replica may have made it.
func (b Base) Serves(s *snapshot.Snapshot) bool {
	return !b.Fresh && !s.CreateTime.Before(b.Since) && s.Revision >= b.Revision-1 &&
		s.EtcdClusterID == fmt.Sprintf("%016x", b.Cluster)
}

// and merges two needs into one, as one snapshot is enough: it has the later time and the higher first revision. That
// of the older need does not count when it is of another cluster or of the history before.
func (b Base) and(older Base) Base {
	if older.Since.After(b.Since) {
		b.Since, b.Reason = older.Since, older.Reason
	}
	// Revisions of two histories cannot be compared: the higher one might never be reached again.
	if older.Cluster == b.Cluster && !b.Fresh {
		b.Revision = max(b.Revision, older.Revision)
	}
	b.Fresh = b.Fresh || older.Fresh
	return b
}

// PartialBase is the error that some backends lack the snapshot which the journal needs. Another one is not needed:
// they get it by and by.
type PartialBase struct{ Lacking []string }

func (e *PartialBase) Error() string {
	return fmt.Sprintf("the snapshot that the journal begins with is not on the backends %s yet",
		strings.Join(e.Lacking, ", "))
}

// needBase asks for a snapshot, unless there is one. The lock keeps others out between the two uses of the channel, so
// that its one place is free and nobody waits for keepBase, which may be saving.
func (j *Journal) needBase(need Base) {
	j.mu.Lock()
	defer j.mu.Unlock()
	select {
	case older := <-j.bases:
		need = need.and(older)
	default:
	}
	j.bases <- need
}

// keepBase makes snapshots that the journal needs, until ctx ends.
func (j *Journal) keepBase(ctx context.Context) {
	var need *Base // that is not there yet
	attempt := 0
	// It is set after an error alone. Stop leaves no tick in the channel, as it did before Go 1.23.
	retry := time.NewTimer(0)
	retry.Stop()
	for {
		select {
		case <-ctx.Done():
			if need != nil {
				j.needBase(*need) // in the next term
			}
			return
		case more := <-j.bases:
			if need != nil {
				more = more.and(*need)
			}
			need, attempt = &more, 0
		case <-retry.C:
		}
		retry.Stop() // a need that came before it may be met, and then none is left
		what, err := j.tryBase(ctx, need)
		if err == nil {
			need = nil
			continue
		}
		if ctx.Err() != nil {
			continue
		}
		attempt++
		pause := backoff.Delay(firstBaseRetry, lastBaseRetry, attempt)
		j.cfg.Logger.ErrorContext(ctx, what, "retry_after", pause, "error", err)
		retry.Reset(pause)
	}
}

// tryBase makes a snapshot that is needed. With an error, it returns what is wrong. A snapshot that some backends lack
// is the one that is needed from then on.
func (j *Journal) tryBase(ctx context.Context, need *Base) (what string, err error) {
	if j.cfg.Base == nil {
		return "", nil
	}
	err = j.cfg.Base(ctx, *need)
	partial, taken := errors.AsType[*PartialBase](err)
	switch {
	case err == nil:
		j.based(*need, nil)
		return "", nil
	case taken:
		j.based(*need, partial.Lacking)
		// It was taken just now, so it is of this history. It is only waited for from now on, and not taken anew.
		need.Fresh = false
		return "backends lack the snapshot that the journal begins with", err
	}
	return "journal has no snapshot to begin with", err
}

// based notes that a snapshot was taken, which some backends lack.
func (j *Journal) based(need Base, lacking []string) {
	j.mu.Lock()
	j.bare.based(need.Since)
	j.mu.Unlock()
	for _, u := range j.stores {
		if !slices.Contains(lacking, u.store.Name()) {
			u.based(need)
		}
	}
}

// bare is a timeline without a snapshot to begin with: nothing of it can be restored.
type bare struct {
	since    time.Time // it began; zero when it has a snapshot
	complete time.Time // the newest moment that can be restored without it
}

// began notes that a timeline needs a snapshot. What could be restored before it is the end of the one before.
func (b *bare) began(t segment.Timeline, complete time.Time) {
	// It was bare already, so no more could be restored since.
	if !b.since.IsZero() {
		complete = earlier(b.complete, complete)
	}
	*b = bare{t.Start(), complete}
}

// based notes a snapshot that was begun after a time.
func (b *bare) based(since time.Time) {
	if !since.Before(b.since) {
		*b = bare{}
	}
}

// needFirstBase asks for the first snapshot of a timeline. Until that is there, nothing of the timeline can be
// restored: the newest time that can be is the end of what was before, or most if that is earlier and not zero.
func (j *Journal) needFirstBase(t segment.Timeline, most time.Time, need Base) {
	// Without Base, nobody tells when there is a snapshot, and the timeline would count as bare for ever.
	if j.cfg.Base != nil {
		j.mu.Lock()
		complete := earlier(j.state.complete.Time, most)
		j.bare.began(t, complete)
		j.mu.Unlock()
		for _, u := range j.stores {
			u.mu.Lock()
			u.bare.began(t, complete)
			u.mu.Unlock()
		}
	}
	j.needBase(need)
}
