package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/journal/local"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/snapshot"
)

// end is the answer of a backend to where its journal ends. Three answers are told apart: an end, one that cannot be
// used however often it is read, and none, for which one can wait.
type end struct {
	position local.Position
	err      error
}

// unusable reports whether the backend has answered, and the end of its journal cannot be used.
func (e *end) unusable() bool {
	_, is := errors.AsType[*badEnd](e.err)
	return is
}

// badEnd: the manifest of the newest segment of a timeline is damaged, or nobody trusts it.
type badEnd struct {
	timeline segment.Timeline
	err      error
}

func (e *badEnd) Error() string { return e.err.Error() }
func (e *badEnd) Unwrap() error { return e.err }

// unusable reports whether reading the same manifest again gives the same error.
func unusable(err error) bool {
	return snapshot.IsDamage(err) || snapshot.ReasonOf(err) == snapshot.ReasonManifestUntrusted
}

// passBy returns why another timeline begins behind one whose end cannot be used; nil when another backend or the disk
// has an end of it. Waiting would not help, and etcd compacts its history.
func (j *Journal) passBy(ctx context.Context, backend string, err error, newest local.Position) *breakError {
	j.cfg.Logger.ErrorContext(ctx, "end of the journal on a backend cannot be used", "backend", backend, "error", err)
	bad, is := errors.AsType[*badEnd](err)
	if !is || bad.timeline == newest.Timeline || newest.Timeline.Later(bad.timeline) {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	// So that the new timeline is named later than the one that cannot be read.
	if bad.timeline.Later(j.latest) {
		j.latest = bad.timeline
	}
	return broken(segment.CauseDamaged, "the newest segment of %s on backend %s cannot be used, and no other backend "+
		"has one: %.300s",
		bad.timeline, backend, bad.err)
}

// newest returns where the journal on the backend ends.
func (u *upload) newest(ctx context.Context) (local.Position, error) {
	if err := u.store.OpenStore(ctx); err != nil {
		return local.Position{}, err
	}
	timelines, err := u.store.Timelines(ctx)
	if err != nil {
		return local.Position{}, err
	}
	// The newest first: the manifests of most others are never read.
	slices.SortFunc(timelines, func(a, b segment.Timeline) int { return b.Compare(a) })
	for _, t := range timelines {
		if local.Ahead(t) {
			u.journal.cfg.Logger.ErrorContext(ctx, "timeline of the journal begins in the future and counts as none: the clock "+
				"of this machine is wrong, or that of the one which began it was", "backend", u.store.Name(), "timeline", t)
			continue
		}
		m, err := u.store.Newest(ctx, t)
		if err != nil && unusable(err) {
			return local.Position{}, &badEnd{t, err}
		}
		if err != nil {
			return local.Position{}, err
		}
		if m != nil { // else its only writer died before the first segment was there
			return u.endOf(ctx, m), nil
		}
	}
	return local.Position{}, nil
}

// endOf returns the position at the end of a segment. Its last revision alone is compared with etcd, if the segment can
// be read; otherwise all of its revisions are, and etcd may have compacted the first of them.
func (u *upload) endOf(ctx context.Context, m *segments.Manifest) local.Position {
	u.noteEnd(&m.Header)
	// Until its content is read, all of the segment has to be compared.
	p := local.Position{Timeline: m.Timeline, Revision: m.Last, Chain: m.Chain, Anchor: m.First,
		AnchorChain: m.PreviousChain}
	r, err := u.store.Open(ctx, m)
	if err != nil {
		u.journal.cfg.Logger.DebugContext(ctx, "newest segment not read", "backend", u.store.Name(), "error", err)
		return p
	}
	defer func() { _ = r.Close() }()
	before, chain := m.PreviousChain, m.PreviousChain
	var auth *segment.Auth
	err = r.Each(func(e segment.Entry) error {
		switch e := e.(type) {
		case segment.Revision:
			before, chain = chain, chain.Next(e)
		case segment.Auth:
			auth = &e
		}
		return nil
	})
	// The content is believed only if it ends with the chain of the manifest, which is signed where anything is.
	if err == nil && chain == m.Chain {
		p.Anchor, p.AnchorChain = m.Last, before
		u.mu.Lock()
		defer u.mu.Unlock()
		u.auth = auth
	}
	return p
}

// noteEnd keeps the known end of the journal on the backend.
func (u *upload) noteEnd(h *segment.Header) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.end, u.auth = *h, nil
}

// compareEnd finds out which revisions a backend lacks between its own end and the position from which this replica
// goes on, and this disk does not have: an earlier process may have removed their parts from a full disk. An end that
// cannot be used counts as none. A backend that did not answer is compared before its next upload (compareLater).
func (u *upload) compareEnd(ctx context.Context, e end, known local.Position) {
	if e.err == nil || e.unusable() {
		u.notLater(ctx, e.position, known)
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.known = &known
}

// compareLater compares a backend that did not answer when this replica went on.
func (u *upload) compareLater(ctx context.Context) error {
	u.mu.Lock()
	known := u.known
	u.mu.Unlock()
	if known == nil {
		return nil
	}
	p, err := u.newest(ctx)
	if err == nil {
		p, err = u.withoutOwn(ctx, p)
	}
	if err != nil && !unusable(err) {
		return err
	}
	u.notLater(ctx, p, *known)
	u.mu.Lock()
	defer u.mu.Unlock()
	// Another session may have gone on elsewhere meanwhile, and is compared by itself.
	if u.known == known {
		u.known = nil
	}
	return nil
}

// asks forgets the first part that was stored, as the backend is now asked where its journal ends. One that has not
// answered yet is compared with what it had when it was asked first.
func (u *upload) asks() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.known == nil {
		u.first = nil
	}
}

// stored counts a part that the backend has stored, and remembers it if it is the first since the backend was asked.
func (u *upload) stored(h *segment.Header, bytes int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.bytes += int64(bytes)
	u.count++
	if u.first == nil {
		u.first = h
	}
}

// withoutOwn returns where the journal on the backend ended before this process added to it. An upload can begin before
// the backend was asked for its end, without an answer, and succeed after it.
func (u *upload) withoutOwn(ctx context.Context, p local.Position) (local.Position, error) {
	u.mu.Lock()
	first := u.first
	u.mu.Unlock()
	if first == nil || p.Timeline != first.Timeline || p.Revision < first.First {
		return p, nil
	}
	// A segment of this process may be merged with older ones, and is passed over then: the backend seems to end earlier,
	// which is the safe side.
	before := local.Position{}
	for _, level := range segment.Levels() {
		for item, err := range u.store.List(ctx, first.Timeline, level) {
			if err != nil {
				return p, err
			}
			if item.Last < first.First && item.Last > before.Revision {
				before = local.Position{Timeline: first.Timeline, Revision: item.Last}
			}
		}
	}
	if before.Revision >= first.Previous { // nothing is missing before it
		return p, nil
	}
	return before, nil
}

// notLater notes what a backend lacks between its end and another position, unless the disk has it.
func (u *upload) notLater(ctx context.Context, p, known local.Position) {
	parts, _ := u.journal.log.Sealed()
	if known.Timeline == "" || p.Timeline == known.Timeline && p.Revision >= known.Revision || covers(parts, p, known) {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	// All of the timeline counts as missing, unless the backend ends in it and the time of that end is known.
	since := known.Timeline.Start()
	if p.Timeline == known.Timeline && p.Revision == u.end.Last {
		since = *completeOf(&u.end)
	}
	u.lose(since, known)
	u.journal.cfg.Logger.WarnContext(ctx,
		"backend lacks revisions that are journaled, and this disk does not have them; a snapshot follows when it takes "+
			"new ones",
		"backend", u.store.Name(), "timeline", known.Timeline, "first", fmt.Sprint(p.Revision+1), "last", known.Revision)
}

// covers reports whether parts lead from the end of a backend to a position, each behind the one before. The end of
// another timeline counts as none: only the first part of this one, which has nothing before it, leads on from there.
func covers(parts []local.Part, from, to local.Position) bool {
	end := from.Revision
	if from.Timeline != to.Timeline {
		end = 0
	}
	for i := range parts {
		switch h := &parts[i].Header; {
		case h.Timeline != to.Timeline:
		case h.First <= end+1, end == 0 && h.Previous == 0:
			end = max(end, h.Last)
		}
	}
	return end >= to.Revision
}

// completeOf returns the newest time up to which a segment proves that nothing is missing, as far as that is known.
func completeOf(h *segment.Header) *time.Time {
	if h.CompleteTime != nil {
		return h.CompleteTime
	}
	return &h.LastTime
}
