package proving

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/cluster/amend"
	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/internal/disk"
	"github.com/snapshotd/snapshotd/internal/restore"
	"github.com/snapshotd/snapshotd/journal/plan"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/snapshot"
)

const (
	every  = time.Minute   // between two looks for snapshots before which the journal was not checked
	newest = 24            // snapshots that are looked at in a round, so that the work is bounded: older ones are left
	page   = 200           // records that are read from the catalog at once
	again  = 6 * time.Hour // after which a check that did not pass is made again: segments may have been put back

	// relist is after which the journal is listed again for snapshots before which it could not be checked.
	relist = 10 * time.Minute
)

// Catalog is the part of the catalog that is needed.
type Catalog interface {
	amend.Records
	List(ctx context.Context, q snapshot.Query) (snapshot.Page, error)
}

// Kind is the kind of check.
type Kind string

// The kinds.
const (
	KindSnapshot Kind = "snapshot" // the journal before a snapshot
	KindRevision Kind = "revision" // a random revision of the recovery window
)

// Kinds returns all kinds.
func Kinds() []Kind { return []Kind{KindSnapshot, KindRevision} }

// Config of a [Prover].
type Config struct {
	Catalog      Catalog
	Repositories []*repository.Repository // of all backends
	Identities   age.Identities           // without them nothing that is encrypted is checked
	Driller      repository.Driller
	Dir          string // with room for two databases and an etcd

	Turn    func(ctx context.Context) (release func(), err error)     // waits until a check may run; optional
	Checked func(ctx context.Context, k Kind, passed bool)            // is told of each verdict; optional
	Drilled func(ctx context.Context, d *snapshot.JournalDrill) error // notes the verdict on a random revision; optional
	Rand    func(n int64) int64                                       // rand.Int64N; another one is for tests
	Now     func() time.Time                                          // time.Now; another one is for tests
	Logger  *slog.Logger
}

// Prover checks the journal of one cluster. Use [New].
type Prover struct {
	cfg    Config
	places []*segments.Segments // of the repositories
	turn   chan struct{}        // of one check at a time: each needs room for databases
	mu     sync.Mutex
	upTo   time.Time         // of the newest snapshot to which the journal leads
	listed time.Time         // when the journal was listed last
	open   string            // the names of the snapshots before which it was not checked then
	noted  map[string]string // why something is not checked, as the log has it; by the name of a snapshot, or of the drill
	looked time.Time         // when holes were looked for last
	holes  map[string]hole   // that were found then, by the name of the snapshot behind
}

// New returns a prover. It does no I/O.
func New(cfg Config) *Prover {
	if cfg.Checked == nil {
		cfg.Checked = func(context.Context, Kind, bool) {}
	}
	if cfg.Drilled == nil {
		cfg.Drilled = func(context.Context, *snapshot.JournalDrill) error { return nil }
	}
	if cfg.Turn == nil {
		cfg.Turn = func(context.Context) (func(), error) { return func() {}, nil }
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Int64N
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	p := &Prover{cfg: cfg, turn: make(chan struct{}, 1), noted: map[string]string{}}
	for _, r := range cfg.Repositories {
		p.places = append(p.places, segments.New(segments.Config{Repository: r, Identities: cfg.Identities}))
	}
	return p
}

// UpTo returns the time of the newest snapshot to which the journal is known to lead; zero when none is.
func (p *Prover) UpTo() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.upTo
}

// Run checks the journal before each new snapshot until ctx, the term of a leader, ends.
func (p *Prover) Run(ctx context.Context) {
	for backoff.Wait(ctx, backoff.Spread(every, 0.1)) == nil {
		if err := p.Round(ctx); err != nil && ctx.Err() == nil {
			p.cfg.Logger.WarnContext(ctx, "journal is not checked", "next_in", every, "error", err)
		}
		if err := p.Holes(ctx); err != nil && ctx.Err() == nil {
			p.cfg.Logger.WarnContext(ctx, "journal is not looked at for holes", "next_in", everyHole, "error", err)
		}
	}
}

// Round checks the journal before each of the newest snapshots where that was not done, the oldest first. A verdict is
// in the catalog, and no error.
func (p *Prover) Round(ctx context.Context) error {
	if err := p.take(ctx); err != nil {
		return err
	}
	defer func() { <-p.turn }()
	records, err := p.records(ctx, newest)
	if err != nil {
		return err
	}
	p.forget(records)
	unchecked := p.unchecked(records)
	var names strings.Builder
	for _, rec := range unchecked {
		names.WriteString(rec.Name + "\n")
	}
	now := p.cfg.Now()
	if len(unchecked) == 0 || names.String() == p.open && now.Sub(p.listed) < relist {
		return nil
	}
	j := plan.Load(ctx, p.places)
	p.open, p.listed = names.String(), now
	var errs []error
	for _, rec := range unchecked {
		t, base := base(j, rec, records)
		if t == nil {
			continue
		}
		// A check that cannot be made does not keep the others waiting. It is tried again when the journal is listed again.
		if err := p.proveInTurn(ctx, t, base, rec); err != nil {
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// unchecked returns the snapshots before which the journal is to be checked, the oldest first.
func (p *Prover) unchecked(records []*snapshot.Record) (all []*snapshot.Record) {
	for _, rec := range slices.Backward(records) {
		if v := rec.JournalProof; v != nil && (v.Passed || p.cfg.Now().Sub(v.Time) < again) {
			p.passed(rec, v)
			continue
		}
		all = append(all, rec)
	}
	return all
}

// take waits until no other check runs.
func (p *Prover) take(ctx context.Context) error {
	select {
	case p.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// records returns the newest snapshots that can be restored, the newest first; all of them when most is 0.
func (p *Prover) records(ctx context.Context, most int) (all []*snapshot.Record, err error) {
	q := snapshot.Query{States: []snapshot.State{snapshot.StateReady, snapshot.StatePartial}, PageSize: cmp.Or(most, page)}
	for {
		found, err := p.cfg.Catalog.List(ctx, q)
		if err != nil {
			return nil, err
		}
		all = append(all, found.Records...)
		if q.PageToken = found.NextPageToken; q.PageToken == "" || most > 0 {
			return slices.DeleteFunc(all, func(r *snapshot.Record) bool { return len(r.ReadyOn()) == 0 }), nil
		}
	}
}

// base returns the timeline that a snapshot is of, and the newest snapshot before it in that; nil when there is none.
func base(j *plan.Journal, rec *snapshot.Record, records []*snapshot.Record) (*plan.Timeline, *snapshot.Record) {
	for _, t := range j.Holding(rec.Revision) {
		if b := below(t, records, rec.Revision-1); b != nil && t.HistoryOf(rec.EtcdClusterID, rec.CreateTime) {
			return t, b
		}
	}
	return nil, nil
}

// obstacle returns why the journal before a snapshot cannot be checked; empty when it can.
func (p *Prover) obstacle(t *plan.Timeline, base, rec *snapshot.Record) string {
	hole := t.Hole(base.Revision, rec.Revision)
	free, err := disk.Free(p.cfg.Dir)
	need := 2*rec.DBSize + snapshot.MemberRoom
	switch {
	case hole != nil:
		return fmt.Sprintf("it lacks %s behind %s", hole, base.Name)
	case p.withoutIdentity(rec):
		return noIdentity
	case err == nil && free < need:
		return fmt.Sprintf("that needs %d bytes in %s, and %d are free", need, p.cfg.Dir, free)
	}
	return ""
}

// proveInTurn waits for its turn, and checks the journal before a snapshot if there is no obstacle then.
func (p *Prover) proveInTurn(ctx context.Context, t *plan.Timeline, base, rec *snapshot.Record) error {
	release, err := p.cfg.Turn(ctx)
	if err != nil {
		return err
	}
	defer release()
	if why := p.obstacle(t, base, rec); why != "" {
		p.note(ctx, rec.Name, why, "journal before the snapshot cannot be checked", "snapshot", rec.Name)
		return nil
	}
	return p.prove(ctx, rec)
}

// noIdentity is the obstacle that a snapshot, and the journal beside it, cannot be decrypted here.
const noIdentity = "it is encrypted, and the service has no identity (encryption.identity_files)"

func (p *Prover) withoutIdentity(rec *snapshot.Record) bool {
	return rec.Encrypted() && !p.cfg.Identities.Of(rec.EncryptionRecipients)
}

// prove checks the journal before a snapshot, and notes the verdict. An error is no verdict.
func (p *Prover) prove(ctx context.Context, rec *snapshot.Record) error {
	opts, backends := p.options(rec)
	v := snapshot.Verification{Level: snapshot.LevelDrill, Time: p.cfg.Now().UTC(), Backends: backends}
	proof, err := restore.Prove(ctx, opts)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == nil:
		v.Passed, v.HashKV = true, proof.HashKV
		v.Live = fmt.Sprintf("from %s, revision %d", proof.Base.Name, proof.Base.Revision)
	case restore.IsVerdict(err):
		v.Error = err.Error()
	default:
		return fmt.Errorf("check the journal before %s: %w", rec.Name, err)
	}
	v.Duration = p.cfg.Now().Sub(v.Time)
	log := p.cfg.Logger.With("snapshot", rec.Name, "revision", rec.Revision, "duration", v.Duration)
	if v.Passed {
		log.InfoContext(ctx, "journal leads to the snapshot", "base", proof.Base.Name,
			"segments", len(proof.Replayed.Segments))
	} else {
		log.ErrorContext(ctx, "journal does not lead to the snapshot", "error", err)
	}
	return p.record(ctx, rec, v)
}

// record counts a verdict, and notes it with its snapshot.
func (p *Prover) record(ctx context.Context, rec *snapshot.Record, v snapshot.Verification) error {
	p.cfg.Checked(ctx, KindSnapshot, v.Passed)
	p.passed(rec, &v)
	_, err := amend.Record(ctx, p.cfg.Catalog, rec, func(next *snapshot.Record, _ bool) error {
		next.JournalProof = &v
		return nil
	})
	if snapshot.IsNotFound(err) {
		return nil // it was removed meanwhile
	}
	return err
}

// options returns the repositories with copies of a snapshot before the others, and the names of those.
func (p *Prover) options(rec *snapshot.Record) (o restore.VerifyOptions, backends []string) {
	ready := rec.ReadyOn()
	repos := slices.Clone(p.cfg.Repositories)
	has := func(r *repository.Repository) int {
		if slices.Contains(ready, r.Name()) {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(repos, func(a, b *repository.Repository) int { return cmp.Compare(has(a), has(b)) })
	return restore.VerifyOptions{
		Repository: repos[0], Others: repos[1:], Choice: restore.Choice{Name: rec.Name}, Identities: p.cfg.Identities,
		Dir: p.cfg.Dir, Driller: p.cfg.Driller,
	}, []string{repos[0].Name()}
}

// passed notes how far the journal is known to lead.
func (p *Prover) passed(rec *snapshot.Record, v *snapshot.Verification) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if v.Passed && rec.CreateTime.After(p.upTo) {
		p.upTo = rec.CreateTime
	}
}

// note logs once why something is not checked.
func (p *Prover) note(ctx context.Context, what, why, message string, args ...any) {
	if short, _, _ := strings.Cut(why, ", and "); p.noted[what] != short { // without how many bytes are free
		p.noted[what] = short
		p.cfg.Logger.WarnContext(ctx, message, append(args, "why", why)...)
	}
}

// forget forgets the notes of snapshots that are not looked at any more.
func (p *Prover) forget(records []*snapshot.Record) {
	for name := range p.noted {
		if name != theDrill && !slices.ContainsFunc(records, func(r *snapshot.Record) bool { return r.Name == name }) {
			delete(p.noted, name)
		}
	}
}
