package daemon

import (
	"context"
	"net/url"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/disk"
	"github.com/snapshotd/snapshotd/internal/proving"
	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/journal/keeping"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/server"
	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

// diskTimeout is how long the free space of a directory is waited for: a network file system may hang.
const diskTimeout = 500 * time.Millisecond

// facts are what is known of a cluster beside its snapshots.
type facts struct {
	catalog *catalog.Catalog
	store   status.Store
	places  []*place
	times   []status.Schedule
	scrub   *status.Scrub // nil without one
	node    string
	certs   certificates // for etcd
	saving  func() *status.Moving
	noting  *noting          // what this replica has found and not noted yet
	kept    time.Duration    // how far back the journal reaches
	journal *journal.Journal // nil without one
	keeper  *keeping.Keeper  // nil without a journal
	noter   *keeping.Noter   // the same
	prover  *proving.Prover  // the same
}

var (
	_ server.Facts   = facts{}
	_ server.Journal = facts{}
)

// place is a backend as it is configured.
type place struct {
	status.Place
	space *space // nil unless it is a directory
}

// space is the room on the disk of a directory.
type space struct {
	free func() (int64, error) // asks the disk

	mu    sync.Mutex
	asked *question // the question that is under way; nil when there is none
}

// question is one that a disk was asked.
type question struct {
	begun    time.Time
	answered chan struct{} // closed when free is known
	free     int64
}

func (s *Service) factsOf(cfg *config.Cluster, p parts, t timetable) facts {
	f := facts{
		catalog: p.catalog,
		store:   storeOf(cfg),
		node:    s.cfg.NodeName,
		certs:   certificates{&s.certificates, certificateFiles(cfg)},
		saving:  func() *status.Moving { return s.events.Moving(cfg.Name) },
		kept:    cfg.Journal.Window,
		journal: p.following.journal,
		keeper:  p.following.keeper,
		noter:   p.following.noter,
		prover:  p.following.prover,
	}
	rules := retentions(cfg, s.cfg.NodeName)
	for i, b := range cfg.Backends {
		at := newPlace(b, p.backends[i].Info())
		at.Retention = rules[at.Name]
		f.places = append(f.places, at)
	}
	if len(t.scrubs) > 0 {
		sch := t.scrubs[0]
		f.scrub = &status.Scrub{Cron: cfg.Scrub.Cron, Jitter: sch.Jitter, Drill: cfg.Scrub.Drill, Next: sch.Spec.Next}
	}
	for i, sch := range t.schedules {
		f.times = append(f.times, status.Schedule{
			Name: sch.Name, Cron: cfg.Schedules[i].Cron, TimeZone: cfg.Schedules[i].TimeZone, Jitter: sch.Jitter,
			Backends: sch.Save.Backends, Next: sch.Spec.Next,
		})
	}
	return f
}

func storeOf(cfg *config.Cluster) status.Store {
	return status.Store{
		Prefix: *cfg.Prefix, Encrypted: cfg.Encryption.Enabled(), Decrypts: len(cfg.Encryption.IdentityFiles) > 0,
		Signed: cfg.Signing.KeyFile != "" && !cfg.Signing.AcceptUnsigned,
	}
}

func newPlace(cfg config.Backend, info repository.Info) *place {
	p := &place{Place: status.Place{Name: info.Name, Kind: info.Kind, URI: info.Root, URL: cfg.URL.String(), Free: -1}}
	if u, err := url.Parse(info.Root); err == nil && info.Kind == snapshot.BackendLocal {
		p.space = &space{free: func() (int64, error) { return disk.Free(u.Path) }}
	}
	return p
}

// bytes returns how many bytes the disk can take; -1 when it is not known, or the disk does not answer. Those who ask
// while a question is under way get the answer to that one: a disk that hangs keeps one goroutine for each of its
// places.
func (s *space) bytes() int64 {
	s.mu.Lock()
	if s.asked == nil {
		s.asked = &question{begun: time.Now(), answered: make(chan struct{})}
		go s.ask(s.asked)
	}
	q := s.asked
	s.mu.Unlock()
	late := time.NewTimer(time.Until(q.begun.Add(diskTimeout)))
	defer late.Stop()
	select {
	case <-q.answered:
		return q.free
	case <-late.C:
		return -1
	}
}

func (s *space) ask(q *question) {
	free, err := s.free()
	if err != nil {
		free = -1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q.free, s.asked = free, nil
	close(q.answered)
}

// Configured implements [server.Facts].
func (f facts) Configured() status.Known {
	known := status.Known{
		Node: f.node, Store: f.store, Schedules: f.times, Moving: f.saving(), Journal: f.followed(),
		Certificates: f.certs.all(), Scrub: f.scrub,
	}
	for _, p := range f.places {
		at := p.Place
		if p.space != nil {
			at.Free = p.space.bytes()
		}
		known.Places = append(known.Places, at)
	}
	return known
}

// LastDue implements [server.Facts].
func (f facts) LastDue(ctx context.Context, name string) (time.Time, error) {
	return f.catalog.LastDue(ctx, name)
}

// Saving implements [server.Facts].
func (f facts) Saving(ctx context.Context) (*status.Moving, error) {
	p, err := f.catalog.Told(ctx)
	if p == nil {
		return nil, err
	}
	return &status.Moving{
		Name: p.Name, Since: time.Now().Add(-p.Elapsed), Read: p.Read, Total: p.Total, Written: p.Written,
	}, nil
}

// Scrubbed implements [server.Facts].
func (f facts) Scrubbed(ctx context.Context) (snapshot.ScrubNote, error) {
	return f.catalog.Scrubbed(ctx, scrubName)
}

// Reconciled implements [server.Facts]. What this replica has found is known here before the catalog takes it.
func (f facts) Reconciled(ctx context.Context) (snapshot.ReconcileNote, error) {
	note, err := f.catalog.Reconciled(ctx)
	if err == nil {
		f.noting.unwritten(&note)
	}
	return note, err
}

// Record implements [server.Facts].
func (f facts) Record(ctx context.Context, name string) (*snapshot.Record, error) {
	rec, err := f.catalog.Get(ctx, name)
	if snapshot.IsNotFound(err) {
		return nil, nil //nolint:nilnil // it is gone, which is no fault
	}
	return rec, err
}

// JournalNotes implements [server.Facts].
func (f facts) JournalNotes(ctx context.Context) (snapshot.JournalNotes, error) {
	return f.catalog.JournalNotes(ctx)
}

// Leader implements [server.Facts].
func (f facts) Leader(ctx context.Context) (string, error) { return f.catalog.Leader(ctx) }
