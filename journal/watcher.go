package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/journal/segment"
)

const (
	leaseInterval = time.Second // between two lists of the leases
	authInterval  = time.Minute // between two questions for the revision of users and roles; each is a proposal to all

	// stallTimeout is how long a member may be without the revisions that the cluster has, or without an answer; then
	// another one is followed.
	stallTimeout = 2 * time.Second

	maxAsked = 10_000 // leases that wait to be asked for; others are asked for when a list shows them
	askBatch = 200    // leases that are asked for between two watermarks

	// listRate bounds how many bytes of lists are written in a second, because lists of very many leases differ each time.
	listRate = 16 << 10
)

// observation is the state of a member at a revision, as far as no event shows it.
type observation struct {
	revision    int64     // the facts hold for it, or for one before; they are of no use before the journal has it
	time        time.Time // all that was committed before is in that revision; zero when that was not asked
	facts       []segment.Entry
	authChanged bool
	answers     int // of the leases that revisions named, asked for since the last observation with such
}

// lists reports whether it is a list of the leases.
func (o *observation) lists() bool {
	return slices.ContainsFunc(o.facts, func(e segment.Entry) bool {
		_, ok := e.(segment.Leases)
		return ok
	})
}

// lasts reports whether it has facts that are seen once alone: the next session takes them over when they are not in a
// sealed part.
func (o *observation) lasts() bool {
	return slices.ContainsFunc(o.facts, func(e segment.Entry) bool {
		switch e.(type) {
		case segment.Compaction, segment.Auth:
			return true
		}
		return false
	})
}

// watcher observes the things that change without an event (leases, compactions, users and roles), and the newest
// revision of the cluster. It asks one question after the other, so that no answer is older than one before it.
//
// The newest revision comes first in each round, because the recovery point depends on it: all that was committed
// before the question is in that revision. The lease of a key matters for as long as the key lives, so leases are asked
// for by the keys that name them, and lists find those without keys. Of a lease that ends before it was asked for, the
// time to live is never known; restores say so.
type watcher struct {
	member   Member
	interval time.Duration
	out      chan<- observation
	ask      chan asked // leases that keys were given; filled by the session

	known  map[int64]int64 // the time to live of leases that were asked for
	since  map[int64]bool  // those that were asked for since the last list; true when they are to be asked for once more
	leases []int64         // the list that was written last
	listed time.Time       // when
	seen
}

// asked is a lease to ask for.
type asked struct {
	id    int64
	again bool // also when it is known
	named bool // a revision has named it
}

// seen is the last known state of things that change without an event. Another session goes on from it.
type seen struct {
	compacted int64 // revision of the last compaction; 0 before it is known
	before    int64 // revision of the store when no later compaction had run
	auth      AuthState
	authKnown bool // from the journal, before the first question
	authAsked time.Time
}

// named lets the leases be asked for that the keys of a revision were given, and returns how many.
func (w *watcher) named(c *Change) (n int) {
	for _, id := range c.Leases {
		if w.want(asked{id, slices.Contains(c.Made, id), true}) {
			n++
		}
	}
	return n
}

// want lets a lease be asked for, and reports whether it will be: not when too many wait.
func (w *watcher) want(a asked) bool {
	select {
	case w.ask <- a:
		return true
	// Following never waits for questions. The next list shows the lease as well.
	default:
		return false
	}
}

// run observes until ctx ends, or the member does not answer for too long.
func (w *watcher) run(ctx context.Context) error {
	w.known, w.since = map[int64]int64{}, map[int64]bool{}
	last := time.Now()
	for {
		err := w.observe(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			last = time.Now()
		// A question that fails is asked again in the next round: a member that is busy for a moment is not left.
		case time.Since(last) > stallTimeout:
			return fmt.Errorf("etcd does not answer: %w", err)
		}
		if err := backoff.Wait(ctx, w.interval); err != nil {
			return err
		}
	}
}

// observe makes one round of questions.
func (w *watcher) observe(ctx context.Context) error {
	o := observation{time: time.Now()}
	var err error
	if o.revision, err = within(ctx, w.member.Current); err != nil {
		return err
	}
	// The member has applied all of that revision, so its answers about leases are not older.
	if err := w.send(ctx, o); err != nil {
		return err
	}
	var errs []error
	// All of them in each round: one that fails, because a role may not ask it, must not keep the others.
	for _, look := range []func(context.Context, int64) error{w.compaction, w.list, w.askAll, w.users} {
		errs = append(errs, look(ctx, o.revision))
	}
	return errors.Join(errs...)
}

// within asks a question that must be answered in time.
func within[T any](ctx context.Context, ask func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, stallTimeout)
	defer cancel()
	return ask(ctx)
}

// send hands an observation to the session. There is no buffer: while the disk is slow, nothing more is asked.
func (w *watcher) send(ctx context.Context, o observation) error {
	select {
	case w.out <- o:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// compaction looks for a compaction. It has run between two observations of the store's revision.
func (w *watcher) compaction(ctx context.Context, current int64) error {
	revision, err := within(ctx, func(ctx context.Context) (int64, error) { return w.member.Compacted(ctx, w.compacted) })
	if err != nil {
		return err
	}
	if revision <= max(w.compacted, 1) {
		w.compacted, w.before = max(w.compacted, 1), current
		return nil
	}
	// The store is asked again, because the compaction ran between the last round and this answer.
	after, err := within(ctx, w.member.Current)
	if err != nil {
		return err
	}
	// A store below the revision of a compaction cannot have run it.
	entry := segment.Compaction{Revision: revision, After: max(w.before, revision), Before: after}
	if err := w.send(ctx, observation{revision: after, facts: []segment.Entry{entry}}); err != nil {
		return err
	}
	w.compacted, w.before = revision, after
	return nil
}

// list lists the leases, and asks for those that are not known: new ones, and those that had no room or no answer
// before.
func (w *watcher) list(ctx context.Context, _ int64) error {
	// An id has eight bytes. Very many leases are listed less often, so that the journal does not become one of leases.
	pause := max(leaseInterval, time.Duration(8*len(w.leases))*time.Second/listRate)
	if time.Since(w.listed) < pause {
		return nil
	}
	list, err := within(ctx, w.member.Leases)
	if err != nil {
		return err
	}
	slices.SortFunc(list.IDs, segment.CompareLeases)
	first := w.listed.IsZero()
	w.listed = time.Now()
	for id, more := range w.since {
		if more {
			w.want(asked{id: id, again: true})
		}
	}
	// A list begins a new stretch, in which an id is asked for once, and once more behind it if a key names it again.
	clear(w.since)
	same := !first && slices.Equal(list.IDs, w.leases)
	if same && len(w.ask) > 0 {
		return nil
	}
	alive := make(map[int64]int64, len(list.IDs))
	for _, id := range list.IDs {
		if ttl := w.known[id]; ttl > 0 {
			alive[id] = ttl
		} else { // it is new, or was gone when it was asked for
			w.want(asked{id: id})
		}
	}
	w.known, w.leases = alive, list.IDs
	if same {
		return nil
	}
	return w.send(ctx, observation{
		revision: list.Revision, facts: []segment.Entry{segment.Leases{IDs: list.IDs, Revision: list.Revision}},
	})
}

// askAll asks for leases that are not known, and again for those that a new key names: between two lists, an id may
// have been revoked and granted with another time to live. Its keys went with it, so that the next one is a new key.
func (w *watcher) askAll(ctx context.Context, current int64) error {
	o := observation{revision: current}
	defer func() {
		if len(o.facts) > 0 || o.answers > 0 {
			_ = w.send(ctx, o) // it fails only when the session ends
		}
	}()
	for asked := 0; asked < askBatch; {
		select {
		case want := <-w.ask:
			if want.named {
				o.answers++ // also when it is not asked for, or gives no answer: the next list shows it
			}
			id := want.id
			ttl, known := w.known[id]
			if known && ttl > 0 && !want.again {
				continue
			}
			// It was asked for since the last list. Keys that come by the thousand must not each make a question.
			if _, now := w.since[id]; known && now {
				w.since[id] = true
				continue
			}
			asked++
			state, err := within(ctx, func(ctx context.Context) (LeaseState, error) { return w.member.Lease(ctx, id) })
			if err != nil {
				return err
			}
			// One that is gone is known with 0, and asked for again when a list or a key names it.
			w.known[id], w.since[id] = state.TTL, false
			if known && state.TTL == ttl {
				continue
			}
			o.revision = max(o.revision, state.Revision)
			o.facts = append(o.facts, segment.Lease{
				ID: id, GrantedTTL: state.TTL, Revision: state.Revision, Gone: state.TTL == 0,
			})
		default:
			return nil
		}
	}
	return nil
}

// users looks whether users or roles have changed.
func (w *watcher) users(ctx context.Context, current int64) error {
	if time.Since(w.authAsked) < authInterval {
		return nil
	}
	state, err := within(ctx, w.member.Auth)
	if err != nil {
		return err
	}
	first := w.authAsked.IsZero()
	if first || state != w.auth {
		fact := segment.Auth{AuthRevision: state.Revision, Revision: current, Enabled: state.Enabled}
		changed := state != w.auth && (w.authKnown || !first)
		o := observation{revision: current, facts: []segment.Entry{fact}, authChanged: changed}
		if err := w.send(ctx, o); err != nil {
			return err
		}
	}
	w.auth, w.authAsked = state, time.Now()
	return nil
}
