package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/journal/local"
	"github.com/snapshotd/snapshotd/journal/segment"
)

const (
	// MaxCatchUp is how many revisions etcd is asked to send again. To catch up with more, it would read so much for each
	// thousand of them, under the lock of its store, that writes wait noticeably: a new timeline and a new base cost less.
	MaxCatchUp = 20_000

	// maxPending is how many observations wait at most for the first revision of a timeline.
	maxPending = 1000

	// openTimeout is how long a member may take to answer before it is followed.
	openTimeout = 10 * time.Second
)

// errStalled ends a session with a member that does not deliver the cluster's changes.
var errStalled = errors.New("it is behind the cluster for too long")

// errNotBegun ends a session with a member that does not begin a watch.
var errNotBegun = fmt.Errorf("it has not begun a watch within %s", openTimeout)

// errEnded ends the goroutines of a session.
var errEnded = errors.New("the session has ended")

// session follows one member, until that fails. All of its methods run in one goroutine.
//
// It is in one of three states. While begins is set, the next revision begins a timeline. While verify is set,
// revisions come that the journal has already, and are compared. Otherwise (adds) each revision is added. It goes from
// one of the first two to the third, and never back: any fault then ends the session, and the next one decides
// anew.
//
// Observations are of the state of etcd at a revision, and may come before that revision does. They wait in pending,
// because a reader takes the entries in their order.
type session struct {
	journal *Journal
	member  Member
	id      Identity // of the member
	term    int64

	known     local.Position // the end of the journal when the session began
	verify    local.Position // the history up to it is compared before anything is added; zero when that is done
	compared  segment.Chain  // of the part that was compared
	begins    *breakError    // why a new timeline begins with the next revision; nil when none does
	from      int64          // where the watch began
	delivered int64          // newest revision in the journal, or newest that was compared
	advanced  time.Time      // when it became that; time in which the disk was waited for does not count

	pending []observation     // whose revisions are not in the journal yet
	mark    segment.Watermark // the newest
	written time.Time         // of the newest one that is in the journal
	noted   bool              // the open part says of which state users and roles are
	useful  bool              // something of it is durable, or nothing had to be

	wanted, answered int       // leases that revisions have named and that are asked for; of them, those that were
	due              time.Time // when the open part was to be sealed, which waits for answers; zero when it does not
}

// follow follows the best member until it fails or ctx ends. avoid is the endpoint that failed last. It returns the
// endpoint that was followed, and whether anything came that the disk has taken.
func (j *Journal) follow(ctx context.Context, term int64, avoid string) (endpoint string, useful bool, err error) {
	id, member, err := j.dial(ctx, avoid)
	if err != nil {
		if !j.recalled { // so that the recovery point is not that of a journal which begins now
			_, _, perr := j.position(ctx)
			j.recalled = perr == nil
		}
		return "", false, err
	}
	defer member.Close()
	s := &session{journal: j, member: member, id: id, term: term, advanced: time.Now()}
	endpoint = id.Endpoint
	if s.from, err = s.begin(ctx); err != nil {
		return endpoint, false, err
	}
	// Not a context with a deadline, which would end the stream as well: only the beginning of the watch is to be in
	// time.
	ctx, cancel := context.WithCancelCause(ctx)
	late := time.AfterFunc(openTimeout, func() { cancel(errNotBegun) })
	stream, err := member.Watch(ctx, s.from)
	if !late.Stop() {
		err = errNotBegun
	}
	if err == nil {
		j.cfg.Logger.InfoContext(ctx, "journal follows etcd", "endpoint", endpoint, "revision", s.from)
		j.noteFollowed(endpoint)
		err = s.run(ctx, cancel, stream)
	}
	cancel(errEnded)
	if c := compacted(err); c > 0 {
		err = s.lost(c)
	}
	return endpoint, s.useful, err
}

func (j *Journal) dial(ctx context.Context, avoid string) (Identity, Member, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	return j.cfg.Source.Dial(ctx, avoid)
}

// begin decides where to begin: behind the journal's last revision, if etcd still has the same history, or at the
// newest revision.
func (s *session) begin(ctx context.Context) (from int64, err error) {
	known, passed, err := s.journal.position(ctx)
	if err != nil {
		return 0, err
	}
	s.known = known
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	current, err := s.member.Current(ctx)
	if err != nil {
		return 0, err
	}
	cluster := s.id.ClusterID
	why := cmp.Or(s.journal.pendingBreak(), passed)
	// For these, one number of etcd is enough. Only a history that passes all of them is read again and compared.
	switch {
	case why != nil:
	case known.Timeline == "":
		why = &breakError{}
	case known.Timeline.EtcdCluster() != cluster:
		why = broken(segment.CauseDifferent, "the cluster has the id %016x, and had %016x",
			cluster, known.Timeline.EtcdCluster())
	case current < known.Revision:
		why = broken(segment.CauseRestored, "the cluster is at revision %d, and was at %d: an earlier state was restored",
			current, known.Revision)
	// From the anchor, because etcd has to send those again as well.
	case current-known.Anchor > MaxCatchUp:
		why = s.missed(segment.CauseBehind, "the journal ends at revision %d and the cluster is at %d: too far to let "+
			"etcd send all of it again",
			known.Revision, current)
	default:
		// Nothing is begun on the disk before the comparison has passed (compare).
		s.verify, s.compared = known, known.AnchorChain
		s.journal.log.Continue(known)
		s.journal.recall(known)
		if !s.journal.positioned {
			s.journal.stamped, s.journal.auth = s.journal.lastTime(known.Timeline), s.journal.lastAuth(known.Timeline)
		}
		// Not the revision behind the end: some that are journaled already come first, to be compared.
		return known.Anchor, nil
	}
	s.begins = why
	// Not the revision behind it: a timeline begins at once, also where nothing is written any more.
	return max(current, 1), nil
}

// lost returns the error of a session whose next revision was compacted.
func (s *session) lost(compaction int64) error {
	// Nothing is missing that was ever promised: the next session takes the newest revision of then.
	if s.begins != nil {
		return fmt.Errorf("begin the journal: etcd compacts its history up to the newest revision, %d", compaction)
	}
	last := max(s.delivered, s.verify.Revision)
	return s.missed(segment.CauseCompacted, "the journal ends at revision %d, and etcd has compacted its history up to %d",
		last, compaction)
}

// missed returns why revisions are missing. When nothing was followed because the disk was full, that is the reason.
func (s *session) missed(c segment.Cause, format string, args ...any) *breakError {
	if since := s.journal.fullSince; !since.IsZero() {
		return broken(segment.CauseFull,
			"no backend has taken the journal, and its %d bytes on the disk were full at %s; "+format,
			append([]any{s.journal.cfg.MaxBytes, since.UTC().Format(time.RFC3339)}, args...)...)
	}
	return broken(c, format, args...)
}

// run takes the changes that the member delivers, and the observations of it.
func (s *session) run(ctx context.Context, cancel context.CancelCauseFunc, stream Stream) (err error) {
	changes := make(chan []Change) // without a buffer: changes that are not taken yet stay in etcd
	observed := make(chan observation)
	w := s.newWatcher(observed)
	done := make(chan struct{}, 2)
	go func() {
		defer func() { done <- struct{}{} }()
		cancel(receive(ctx, stream, changes))
	}()
	go func() {
		defer func() { done <- struct{}{} }()
		cancel(w.run(ctx))
	}()
	defer func() {
		cancel(err)
		// Close ends a Next that does not return. After both goroutines, w.seen needs no lock.
		s.member.Close()
		<-done
		<-done
		s.journal.seen = w.seen
	}()
	flush := time.NewTicker(s.journal.cfg.FlushInterval)
	defer flush.Stop()
	seal := time.NewTicker(s.journal.cfg.UploadInterval)
	defer seal.Stop()
	for {
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), s.end())
		case all := <-changes:
			err = s.take(ctx, w, all)
		case o := <-observed:
			err = s.observe(ctx, o)
		case <-flush.C:
			err = errors.Join(s.sync(), s.sealLate(ctx))
		case <-seal.C:
			err = s.sealSoon(ctx)
		}
		if err != nil {
			return errors.Join(err, s.end())
		}
	}
}

// newWatcher returns a watcher of the member. In the same history, it goes on from what an earlier session has seen,
// and the session takes over what is not in the journal yet.
func (s *session) newWatcher(out chan<- observation) *watcher {
	w := &watcher{member: s.member, interval: s.journal.cfg.FlushInterval, out: out, ask: make(chan asked, maxAsked)}
	if s.begins == nil && s.known.Timeline == s.journal.written {
		w.seen = s.journal.seen
		s.pending = slices.Clone(s.journal.owed)
		return w
	}
	s.journal.owed = nil
	if a := s.journal.auth; s.begins == nil && a != nil { // another replica or process has seen it
		w.auth, w.authKnown = AuthState{Revision: a.AuthRevision, Enabled: a.Enabled}, true
	}
	return w
}

// receive hands on the changes of a stream, until it ends.
func receive(ctx context.Context, stream Stream, changes chan<- []Change) error {
	for {
		all, err := stream.Next()
		if err != nil {
			return err
		}
		select {
		case changes <- all:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// take adds revisions to the journal.
func (s *session) take(ctx context.Context, w *watcher, all []Change) error {
	if !s.due.IsZero() { // the answers come with these revisions, in the next part
		if err := s.seal(ctx); err != nil {
			return err
		}
	}
	for i := range all {
		c := &all[i]
		if s.verify.Revision > 0 {
			if err := s.compare(c); err != nil {
				return err
			}
			continue
		}
		if err := s.add(ctx, c); err != nil {
			return err
		}
		s.wanted += w.named(c)
	}
	s.advanced = time.Now()
	if err := s.release(); err != nil {
		return err
	}
	// A segment is made in memory, so its size has a bound as well as its time.
	if _, unsealed := s.journal.log.Size(); unsealed >= segment.MaxContent {
		return s.seal(ctx)
	}
	return nil
}

// compare compares a revision that the journal has with the one that etcd has now.
func (s *session) compare(c *Change) error {
	expected := s.verify.Anchor
	if s.delivered > 0 {
		expected = s.delivered + 1
	}
	if c.Main != expected {
		return broken(segment.CauseCompacted, "the journal ends at revision %d, and etcd does not have revision %d any "+
			"more, to compare it",
			s.verify.Revision, expected)
	}
	s.delivered, s.compared = c.Main, s.compared.Next(c.Revision)
	if c.Main < s.verify.Revision {
		return nil
	}
	if s.compared != s.verify.Chain {
		return broken(segment.CauseDifferent, "the revisions %d to %d are others than those in the journal: another state "+
			"was restored",
			s.verify.Anchor, s.verify.Revision)
	}
	err := s.journal.log.Begin(segment.Header{
		Timeline: s.verify.Timeline, Member: segment.EtcdID(s.id.MemberID), Term: s.term,
	})
	if err != nil {
		return err
	}
	need := Base{Since: s.verify.Timeline.Start(), Cluster: s.id.ClusterID, Reason: "the journal goes on"}
	// A timeline that goes on needs a base as well: the one of its beginning may be gone, or may never have been taken.
	if s.journal.positioned { // it has asked in this term
		s.journal.needBase(need)
	} else { // an earlier process, or another replica, may not have got it either
		s.journal.needFirstBase(s.verify.Timeline, need.Since, need)
	}
	s.journal.goesOn(s.verify.Timeline)
	s.verify = local.Position{}
	return nil
}

// add adds one revision, which may be the first of a timeline.
func (s *session) add(ctx context.Context, c *Change) error {
	if s.begins != nil {
		if err := s.newTimeline(ctx, c); err != nil {
			return err
		}
		// The stream promises it (Stream.Next). A hole that came all the same would be in all later segments.
	} else if c.Main != s.delivered+1 {
		return fmt.Errorf("revision %d was delivered after revision %d", c.Main, s.delivered)
	}
	// Nothing happened until the last watermark: without it, the time before this revision would not be known.
	if err := s.writeMark(); err != nil {
		return err
	}
	// It is not before the last revision, nor before the watermark, which says that nothing came until then.
	c.Time = local.Arrival(local.Arrival(c.Time, s.journal.stamped), s.mark.Time)
	if err := s.journal.log.Append(c.Revision); err != nil {
		return err
	}
	s.delivered, s.journal.stamped = c.Main, c.Time
	return nil
}

// newTimeline begins a timeline with a revision.
func (s *session) newTimeline(ctx context.Context, c *Change) error {
	why := s.begins
	timeline := s.journal.nameOf(s.known.Timeline, s.id.ClusterID)
	err := s.journal.log.Begin(segment.Header{
		Timeline: timeline, Member: segment.EtcdID(s.id.MemberID), Term: s.term, Reason: why.reason,
	})
	if err != nil {
		return err
	}
	// From here on the disk has the timeline. An error before leaves all as it was, and the next session begins it.
	s.begins, s.mark, s.written = nil, segment.Watermark{}, time.Time{}
	s.journal.stamped, s.journal.auth = timeline.Start(), nil
	s.journal.began(ctx, timeline, c.Main, s.known, why)
	s.journal.needFirstBase(timeline, time.Time{}, Base{
		Since: timeline.Start(), Revision: c.Main, Cluster: s.id.ClusterID, Fresh: why.cause != "",
		Reason: "the journal has begun",
	})
	s.journal.goesOn(timeline)
	s.journal.note(ctx, timeline)
	return nil
}

// observe takes an observation of the member. It waits for the revisions of the observation.
func (s *session) observe(ctx context.Context, o observation) error {
	s.wait(o)
	if o.lasts() {
		s.journal.owed = append(s.journal.owed[max(0, len(s.journal.owed)-maxPending):], o)
	}
	// Users and roles have no revisions that the journal could have: a restore takes them from a snapshot.
	if o.authChanged {
		s.journal.needBase(Base{Since: time.Now(), Cluster: s.id.ClusterID, Reason: "users or roles have changed"})
	}
	timeout := stallTimeout
	if s.verify.Revision > 0 {
		timeout = openTimeout // all that was missed comes first
	}
	if waits := time.Since(s.advanced); waits > timeout && o.revision > max(s.delivered, s.from) {
		return fmt.Errorf("%s: %w: the cluster is at revision %d, and %d is the last that came, %s ago",
			s.id.Endpoint, errStalled, o.revision, s.delivered, waits.Round(time.Millisecond))
	}
	s.journal.noteCurrent(o.revision)
	if err := s.release(); err != nil {
		return err
	}
	if s.answered += o.answers; !s.due.IsZero() && s.answered >= s.wanted {
		return s.seal(ctx)
	}
	return nil
}

// wait appends an observation to those that wait. Before the first revision of a timeline their number is bounded, as a
// cluster can be without a revision for ever: a watermark replaces the one before, a list of leases the list before,
// and of the other observations the oldest is dropped when maxPending wait.
func (s *session) wait(o observation) {
	if s.begins != nil {
		s.pending = slices.DeleteFunc(s.pending, func(old observation) bool {
			return !o.time.IsZero() && !old.time.IsZero() || o.lists() && old.lists()
		})
		if len(s.pending) >= maxPending {
			i := slices.IndexFunc(s.pending, func(old observation) bool { return !old.lists() })
			s.pending = slices.Delete(s.pending, i, i+1)
		}
	}
	s.pending = append(s.pending, o)
}

// adds reports whether the journal has begun, and is known to be of the history that etcd has: entries can be added.
func (s *session) adds() bool { return s.begins == nil && s.verify.Revision == 0 }

// release takes the observations whose revisions are in the journal. The facts of an observation are never before the
// revision for which they hold: a reader takes the entries in their order.
func (s *session) release() error {
	for s.adds() && len(s.pending) > 0 && s.pending[0].revision <= s.delivered {
		o := s.pending[0]
		for _, e := range o.facts {
			if err := s.journal.log.Append(e); err != nil {
				return err
			}
			if a, ok := e.(segment.Auth); ok {
				s.journal.auth, s.noted = &a, true
			}
		}
		if !o.time.IsZero() {
			s.mark = segment.Watermark{Revision: o.revision, Time: o.time}
			if err := s.sync(); err != nil {
				return err
			}
		}
		s.pending = s.pending[1:]
	}
	return nil
}
