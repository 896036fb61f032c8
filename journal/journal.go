package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/journal/local"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Defaults of a [Config]. Each flush is a sync of the disk, and a linearizable read of etcd for the watermark: a
// crash may take half a second.
const (
	DefaultFlushInterval  = 500 * time.Millisecond
	DefaultUploadInterval = 9 * time.Second // and a second for the upload: all is on the backends within ten
	DefaultMaxBytes       = 1 << 30
)

// Pauses before another attempt.
const (
	firstRetry, lastRetry         = 250 * time.Millisecond, 10 * time.Second // to follow a member
	firstUploadRetry, uploadRetry = time.Second, time.Minute
	firstOpenRetry, lastOpenRetry = time.Second, time.Minute // to open the local part
	// Each attempt may be a save of the whole cluster, so the pauses are longer.
	firstBaseRetry, lastBaseRetry = 10 * time.Second, 10 * time.Minute
	badRetry                      = 10 * time.Minute // to upload a part that was passed over

	listTimeout = 5 * time.Minute // of listing one timeline on all backends
)

// Config of a [Journal].
type Config struct {
	Source Source
	Stores []Store // of the backends, in the order of the configuration
	Dir    string  // of the local part

	FlushInterval  time.Duration // DefaultFlushInterval
	UploadInterval time.Duration // DefaultUploadInterval
	MaxBytes       int64         // of the local part; DefaultMaxBytes

	// Base makes sure that there is a snapshot from which the journal can be replayed. It is tried again after an error,
	// such as a [PartialBase]. Optional.
	Base func(ctx context.Context, need Base) error
	// Broken is told of each timeline that begins because another one could not be continued, and, with segment.CauseFull,
	// when a backend lost a part of a timeline that others have; and of where that is. Optional.
	Broken func(ctx context.Context, why segment.Cause, where ...snapshot.JournalBreak)
	// Grown is told when more is missing where Broken was told of segment.CauseFull.
	Grown func(where snapshot.JournalBreak)
	// Latest returns the newest timeline that a leader has noted where all replicas see it, and Note notes one. So a
	// replica that leads again knows that another one has begun a timeline meanwhile, which is on no backend yet. Both are
	// optional.
	Latest func(ctx context.Context) (segment.Timeline, error)
	Note   func(ctx context.Context, t segment.Timeline) error

	Logger *slog.Logger
}

// Journal records the changes of one cluster. Use [New].
//
// Run is for as long as the process serves the cluster, whoever leads: also a replica that has led once has parts to
// upload. Follow is for each term. Both may run at once. Close comes last.
type Journal struct {
	cfg Config
	log *local.Log

	// Of the goroutine that follows.
	written    segment.Timeline // the last one to which this replica has added
	seen       seen             // state of the watchers at the end of written
	owed       []observation    // of written: each is made once, and these are not in a sealed part yet
	stamped    time.Time        // of the newest revision of written
	auth       *segment.Auth    // the newest state of users and roles in written; nil when it is not known
	positioned bool             // the local position is the newest: this replica has written since it leads
	recalled   bool             // the end of the journal was looked for in this term, though no member answered
	noted      segment.Timeline // that was noted last for all replicas (Config.Note)
	notedAt    time.Time
	fullSince  time.Time // the local part is full; zero when it is not

	bases  chan Base         // the newest that is needed; holds one
	losses chan []local.Loss // since the journal was opened; holds one

	stores   []*upload
	badRetry time.Duration

	removing sync.Mutex // held while a part is removed, or losses are resolved

	building sync.Mutex
	built    *segment.Segment // the last one that was made
	builtOf  int64            // the number of its part

	mu     sync.Mutex
	state  state
	live   segment.Timeline // to which this replica adds; empty when it is not known, or this replica does not lead
	latest segment.Timeline // that was found beside the live one
	why    *breakError      // a new timeline must begin
	bare   bare             // the live timeline has no snapshot to begin with yet
	stop   func(error)      // ends the session under way
}

// New returns a journal. It does not touch the directory, in which another journal may still write: Run and Follow open
// the local part and repair it, and no other journal has it open then. Before that, the journal is empty.
func New(cfg Config) *Journal {
	cfg.FlushInterval = cmp.Or(cfg.FlushInterval, DefaultFlushInterval)
	cfg.UploadInterval = cmp.Or(cfg.UploadInterval, DefaultUploadInterval)
	cfg.MaxBytes = cmp.Or(cfg.MaxBytes, DefaultMaxBytes)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Broken == nil {
		cfg.Broken = func(context.Context, segment.Cause, ...snapshot.JournalBreak) {}
	}
	if cfg.Grown == nil {
		cfg.Grown = func(snapshot.JournalBreak) {}
	}
	j := &Journal{
		cfg: cfg, log: local.New(cfg.Dir, cfg.MaxBytes), bases: make(chan Base, 1), losses: make(chan []local.Loss, 1),
		badRetry: badRetry,
	}
	for _, s := range cfg.Stores {
		j.stores = append(j.stores, &upload{journal: j, store: s})
	}
	return j
}

// Run uploads sealed parts, also those of an earlier process, until ctx ends. A local part that cannot be opened is
// tried again: a person may have helped.
func (j *Journal) Run(ctx context.Context) {
	for attempt := 1; ; attempt++ {
		err := j.log.Open()
		if err == nil {
			break
		}
		pause := backoff.Delay(firstOpenRetry, lastOpenRetry, attempt)
		j.cfg.Logger.ErrorContext(ctx, "journal is not opened: the cluster is saved, and its changes are not recorded",
			"retry_after", pause, "error", err)
		if backoff.Wait(ctx, pause) != nil {
			return
		}
	}
	// Whoever has opened the log, this or a session, found losses are taken once, and here: a term may end before the
	// backends have answered.
	lost := j.log.TakeLosses()
	for i := range lost {
		j.noteLoss(ctx, &lost[i])
	}
	j.resolveLater(lost...)
	var work sync.WaitGroup
	for _, u := range j.stores {
		work.Go(func() { u.run(ctx) })
	}
	work.Go(func() { j.resolveLosses(ctx) })
	work.Wait()
}

// Follow records the changes of the cluster until ctx, the term of the leader, ends. It is called by one goroutine at a
// time, and returns when everything that came is sealed.
func (j *Journal) Follow(ctx context.Context, term int64) {
	var others sync.WaitGroup
	others.Go(func() { j.keepBase(ctx) })
	defer others.Wait()
	j.noteTerm(true)
	defer j.noteTerm(false)
	// Another replica may have led since the last term, so that the end on this disk is not the newest any more.
	j.positioned, j.recalled = false, false
	avoid := ""
	for attempt := 0; ctx.Err() == nil; {
		endpoint, useful, err := j.session(ctx, term, avoid)
		if ctx.Err() != nil {
			return
		}
		// After a session that has stored something, the next failure is a new one, with a short pause.
		if attempt++; useful {
			attempt = 1
		}
		if _, same := errors.AsType[*breakError](err); !same { // else the member is not at fault
			avoid = endpoint
		}
		j.noteFollowed("")
		pause := backoff.Delay(firstRetry, lastRetry, attempt)
		j.cfg.Logger.WarnContext(ctx, "journal does not follow etcd", "endpoint", endpoint, "retry_after", pause,
			"error", err)
		_ = backoff.Wait(ctx, pause)
	}
}

// session follows a member once.
func (j *Journal) session(ctx context.Context, term int64, avoid string) (endpoint string, useful bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(errEnded)
	j.mu.Lock()
	j.stop = cancel
	j.mu.Unlock()
	// Run opens the log as well, but it may be in a long pause after an error. A new leader tries at once.
	if err := j.log.Open(); err != nil {
		return "", false, err
	}
	// Nothing is asked of etcd that the disk could not keep.
	if err := j.shrink(ctx); err != nil {
		return "", false, err
	}
	endpoint, useful, err = j.follow(ctx, term, avoid)
	if e, ok := errors.AsType[*breakError](err); ok {
		j.breakWith(e)
	}
	return endpoint, useful, err
}

// breakWith makes the next session begin a new timeline.
func (j *Journal) breakWith(why *breakError) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.why = why
	// Between two sessions there is nothing to stop: the next one finds why.
	if j.stop != nil {
		j.stop(why)
	}
}

// pendingBreak returns why a new timeline must begin; nil when none must. It stays until that has begun (began), or
// the term ends (noteTerm): the session that finds it may fail before.
func (j *Journal) pendingBreak() *breakError {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.why
}

// position returns how far the journal is: on this machine, or on the backends where another replica has led since; and
// why another timeline must begin behind it, or nil. When no backend answers, a new leader goes on from its own disk,
// and waits if that has nothing: the history is compared with etcd's before anything is added, so that revisions that
// another replica has written meanwhile come out the same.
func (j *Journal) position(ctx context.Context) (newest local.Position, why *breakError, err error) {
	newest = j.log.Position()
	switch {
	case local.Ahead(newest.Timeline): // this process began it while its clock was wrong
		newest = local.Position{}
	case j.positioned:
		return newest, nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	ends := j.askEnds(ctx)
	var silent []error
	for _, e := range ends {
		if e.err != nil && !e.unusable() {
			silent = append(silent, e.err)
		} else if e.position.Newer(newest) {
			newest = e.position
		}
	}
	// A replica with an empty disk would begin a timeline here, although the backends may have one that can go on.
	if len(silent) > 0 && len(silent) == len(j.stores) && newest.Timeline == "" {
		return newest, nil, fmt.Errorf("find the end of the journal: no backend answers: %w", errors.Join(silent...))
	}
	for i, u := range j.stores {
		e := ends[i]
		if e.unusable() {
			if w := j.passBy(ctx, u.store.Name(), e.err, newest); w != nil {
				why = w
				continue
			}
		}
		u.compareEnd(ctx, e, newest)
	}
	if why != nil && len(silent) > 0 { // one of these may have a good end
		return newest, nil, fmt.Errorf("find the end of the journal: that on one backend cannot be used, and others do "+
			"not answer: %w",
			errors.Join(silent...))
	}
	j.noteKnown(newest.Timeline)
	overtaken, err := j.compareLatest(ctx, newest.Timeline)
	return newest, cmp.Or(overtaken, why), err
}

// askEnds asks all backends where their journal ends.
func (j *Journal) askEnds(ctx context.Context) []end {
	ends := make([]end, len(j.stores))
	var all sync.WaitGroup
	for i, u := range j.stores {
		// Before the question: an upload that succeeds from here on is of this process, whether the answer has it or not.
		u.asks()
		all.Go(func() { ends[i].position, ends[i].err = u.newest(ctx) })
	}
	all.Wait()
	return ends
}

// nameAfter returns the name of a new timeline, which is later than another one.
func nameAfter(last segment.Timeline, cluster uint64) segment.Timeline {
	now := time.Now()
	// Names have whole seconds, and of two timelines of one second neither is later.
	if start := last.Start(); !now.Truncate(time.Second).After(start) {
		now = start.Add(time.Second) // also after a clock that was wrong
	}
	return segment.NewTimeline(cluster, now)
}

// began notes that a timeline has begun with a revision, behind the known end of another one.
func (j *Journal) began(ctx context.Context, t segment.Timeline, first int64, known local.Position, why *breakError) {
	after := j.lastTime(known.Timeline)
	j.forgetMarks()
	j.mu.Lock()
	j.why = nil
	j.mu.Unlock()
	log := j.cfg.Logger.With("timeline", t, "revision", first)
	switch {
	case why.cause == "":
		log.InfoContext(ctx, "journal begins")
	case why.cause == segment.CauseOvertaken:
		log.ErrorContext(ctx, "journal begins anew: another replica has begun a later timeline", "reason", why.reason)
	case why.cause.Alarming():
		log.ErrorContext(ctx, "journal begins anew: the cluster has another history than before", "reason", why.reason)
	default:
		log.ErrorContext(ctx, "journal begins anew: revisions are missing", "reason", why.reason)
	}
	if why.cause != "" {
		j.cfg.Broken(ctx, why.cause, snapshot.JournalBreak{
			Timeline: string(t), After: known.Revision, Before: first, AfterTime: after, BeforeTime: time.Now(),
			Reason:       why.reason,
			OtherHistory: why.cause.Alarming(),
		})
	}
}

// Close seals the open part and uploads all parts, as far as that can be done before ctx ends; the rest waits on the
// disk for the next start. Follow and Run have ended, or were not called.
func (j *Journal) Close(ctx context.Context) error {
	if err := j.log.Close(); err != nil {
		// Entries that the disk did not take cannot be sealed. Those before them can, and are uploaded by the next start.
		return errors.Join(err, j.log.Abandon())
	}
	var uploads sync.WaitGroup
	for _, u := range j.stores {
		uploads.Go(func() { u.last(ctx) })
	}
	uploads.Wait()
	return nil
}
