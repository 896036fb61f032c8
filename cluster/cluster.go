package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Defaults of a [Config].
const (
	// DefaultWatchdog is how long etcd may send no byte before the stream is ended.
	DefaultWatchdog = 30 * time.Second
	// DefaultLeftoverAge is how old the leftovers of a crash must be before reconcile removes them.
	DefaultLeftoverAge = time.Hour
)

// cleanupTimeout bounds the work after a call was cancelled: removing traces and writing the record.
const cleanupTimeout = 20 * time.Second

// Config says what a cluster is and where its snapshots are stored. Zero values of the optional fields mean the defaults.
type Config struct {
	Name     string               // of the cluster
	Node     string               // of this machine; becomes part of the snapshots' names
	Prefix   string               // of the cluster's keys on the backends: empty or ending with '/'
	SpoolDir string               // exists and belongs to this cluster alone
	Source   Source               // the etcd to save
	Records  Records              // the catalog, by what is needed of it
	Saves    Saves                //
	History  History              //
	Stores   repository.Stores    //
	Backends []repository.Backend // at least one; their order is kept wherever they are listed

	Retention   map[string]snapshot.Retention // optional; by the backend's name
	Compression snapshot.Compression          // optional; CompressionZstd
	Recipients  age.Recipients                // optional; whoever can decrypt new snapshots; not encrypted without any
	Signer      *repository.Signer            // optional; signs the manifests
	Fallback    repository.Backend            // optional; a place of this replica alone for a snapshot that no backend took
	Driller     repository.Driller            // optional; needed to verify at LevelDrill
	Identities  age.Identities                // optional; to verify the database in encrypted snapshots
	Trust       *repository.Trust             // optional; which manifests are trusted, all when nil
	Observer    snapshot.Observer             // optional
	Logger      *slog.Logger                  // optional
	StreamLimit Limiter                       // optional; of the bytes that are read from etcd
	Watchdog    time.Duration                 // optional; DefaultWatchdog
	LeftoverAge time.Duration                 // optional; DefaultLeftoverAge
	Now         func() time.Time              // optional; time.Now
}

// setDefaults fills in the optional fields that code relies on.
func (cfg *Config) setDefaults() {
	if cfg.Compression == snapshot.CompressionUnspecified {
		cfg.Compression = snapshot.CompressionZstd
	}
	if cfg.Observer == nil {
		cfg.Observer = snapshot.Observers{}
	}
	if cfg.StreamLimit == nil {
		cfg.StreamLimit = unlimited{}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Watchdog == 0 {
		cfg.Watchdog = DefaultWatchdog
	}
	if cfg.LeftoverAge == 0 {
		cfg.LeftoverAge = DefaultLeftoverAge
	}
}

// unlimited lets everything pass.
type unlimited struct{}

func (unlimited) Wait(context.Context, int) error { return nil }

// Cluster is an etcd cluster under the service's care.
type Cluster struct {
	cfg      Config
	log      *slog.Logger
	repos    []*repository.Repository // of cfg.Backends, in their order
	fallback *repository.Repository   // nil without one

	inflight  inflight
	foreign   foreignMemory
	manifests timeMemory // when they were written
	scrubs    timeMemory // of copies in the directories of this node

	adopting    slots // one snapshot of another program is read at a time
	verifying   slots // one snapshot is verified at a time
	downloading slots
	repairing   slots         // one copy is repaired at a time
	saveEnded   chan struct{} // holds a token after a save has ended: there may be a copy to repair
}

// New returns a cluster. It does no I/O.
func New(cfg Config) (*Cluster, error) {
	switch {
	case cfg.Name == "" || cfg.Node == "" || cfg.SpoolDir == "":
		return nil, fmt.Errorf("make cluster %q: name, node and spool directory are needed", cfg.Name)
	case cfg.Source == nil || len(cfg.Backends) == 0:
		return nil, fmt.Errorf("make cluster %q: a source and at least one backend are needed", cfg.Name)
	case cfg.Records == nil || cfg.Saves == nil || cfg.History == nil || cfg.Stores == nil:
		return nil, fmt.Errorf("make cluster %q: a catalog is needed", cfg.Name)
	}
	cfg.setDefaults()
	c := &Cluster{
		cfg: cfg, log: cfg.Logger.With("cluster", cfg.Name),
		adopting: newSlots(1), verifying: newSlots(1), downloading: newSlots(downloads), repairing: newSlots(1),
		saveEnded: make(chan struct{}, 1),
	}
	for _, b := range cfg.Backends {
		if c.elsewhere(b.Info().Name) {
			return nil, fmt.Errorf("make cluster %q: backend %q is of another node than %s", cfg.Name, b.Info().Name, cfg.Node)
		}
		c.repos = append(c.repos, c.newRepository(b, cfg.Stores))
	}
	if cfg.Fallback != nil {
		c.fallback = c.newRepository(cfg.Fallback, nil)
	}
	return c, nil
}

func (c *Cluster) newRepository(b repository.Backend, stores repository.Stores) *repository.Repository {
	return repository.New(repository.Config{
		Backend: b, Cluster: c.cfg.Name, Prefix: c.cfg.Prefix, Signer: c.cfg.Signer, Trust: c.cfg.Trust, Stores: stores, Now: c.cfg.Now, Logger: c.log,
	})
}

// Name returns the cluster's name.
func (c *Cluster) Name() string { return c.cfg.Name }

// BackendNames returns the names of the cluster's backends in the order of the configuration.
func (c *Cluster) BackendNames() []string {
	names := make([]string, len(c.repos))
	for i, r := range c.repos {
		names[i] = r.Name()
	}
	return names
}

// repo returns the repository on the configured backend of a name, or nil.
func (c *Cluster) repo(backend string) *repository.Repository {
	for _, r := range c.repos {
		if r.Name() == backend {
			return r
		}
	}
	return nil
}

// choose returns the repositories on the named backends in the order of the configuration, all when names is empty.
func (c *Cluster) choose(names []string) ([]*repository.Repository, error) {
	if len(names) == 0 {
		return c.repos, nil
	}
	for _, n := range names {
		if _, err := c.named("backends", n); err != nil {
			return nil, err
		}
	}
	var chosen []*repository.Repository
	for _, r := range c.repos {
		if slices.ContainsFunc(names, func(n string) bool { return snapshot.IsBackend(r.Name(), n) }) {
			chosen = append(chosen, r)
		}
	}
	return chosen, nil
}

// noBackend is the error for a field that names a backend which is not configured.
func (c *Cluster) noBackend(field, name string) error {
	return snapshot.Invalid(field, "cluster %q has no backend %q; it has %s", c.cfg.Name, name, snapshot.Join(c.BackendNames()))
}

// Get returns a record of the catalog; a [snapshot.Error] with ReasonSnapshotNotFound when there is none of that name.
func (c *Cluster) Get(ctx context.Context, name string) (*snapshot.Record, error) {
	if name == "" {
		return nil, snapshot.Invalid("name", "is empty; give a snapshot's name, as list shows it")
	}
	rec, err := c.cfg.Records.Get(ctx, name)
	if snapshot.IsNotFound(err) {
		return nil, snapshot.ReasonSnapshotNotFound.New("cluster %q has no snapshot %q", c.cfg.Name, name).
			Advise("list shows the snapshots; reconcile looks for those that the catalog has missed")
	}
	return rec, err
}

// List returns a page of the catalog, newest first.
func (c *Cluster) List(ctx context.Context, q snapshot.Query) (snapshot.Page, error) {
	return c.cfg.History.List(ctx, q)
}

// amend changes a record on condition that it is as it was read. When another replica was faster, it reads the record
// again, asks changed whether it is still to be changed, and tries anew; again is true then. It returns the record as the
// catalog has it. errUnchanged of change ends it without a write.
func (c *Cluster) amend(ctx context.Context, rec *snapshot.Record, change func(next *snapshot.Record, again bool) error) (*snapshot.Record, error) {
	again := false
	err := retryConflict(func() error {
		if again {
			current, err := c.cfg.Records.Get(ctx, rec.Name)
			if err != nil {
				return err
			}
			rec = current
		}
		next := rec.Copy()
		if err := change(next, again); err != nil {
			return err
		}
		again = true
		if err := c.cfg.Records.Update(ctx, next); err != nil {
			return err
		}
		rec = next
		return nil
	})
	switch {
	case errors.Is(err, errUnchanged):
		return rec, nil
	case errors.Is(err, errAlwaysChanged):
		return rec, snapshot.ReasonConflict.New("change the record of %s", rec.Name).Because(err)
	}
	return rec, err
}

var (
	// errUnchanged says that a record needs no change.
	errUnchanged = errors.New("unchanged")
	// errAlwaysChanged says that every attempt met a change by another replica.
	errAlwaysChanged = errors.New("it was changed again and again meanwhile")
)

// retryConflict makes an attempt, and repeats it a few times while another replica is faster.
func retryConflict(attempt func() error) error {
	for range 5 {
		err := attempt()
		if !errors.Is(err, snapshot.ErrConflict) && !errors.Is(err, snapshot.ErrExists) {
			return err
		}
	}
	return errAlwaysChanged
}

// changedMeanwhile says of a conflict what was to be done.
func changedMeanwhile(err error, format string, args ...any) error {
	if !errors.Is(err, snapshot.ErrConflict) {
		return err
	}
	return snapshot.ReasonConflict.New(format, args...).Because(err).Advise("look at it again, and decide anew")
}

// observe reports an event.
func (c *Cluster) observe(ctx context.Context, ev snapshot.Event) {
	ev.Time, ev.Cluster = c.cfg.Now(), c.cfg.Name
	c.cfg.Observer.Observe(ctx, ev)
}

// slots limits how many calls of one kind run at the same time.
type slots chan struct{}

func newSlots(n int) slots { return make(slots, n) }

// take waits for a slot; the caller calls release. The error is that ctx is done.
func (s slots) take(ctx context.Context, format string, args ...any) (release func(), err error) {
	select {
	case s <- struct{}{}:
		return func() { <-s }, nil
	case <-ctx.Done():
		return nil, snapshot.Cancelled(ctx, format, args...)
	}
}
