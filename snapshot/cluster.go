package snapshot

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/internal/codec/age"
)

// Defaults of a [Config].
const (
	// DefaultNamePrefix begins the name of a snapshot that somebody asked for, as K3s has it.
	DefaultNamePrefix = "on-demand"
	// DefaultWatchdog is how long etcd may give no byte before the stream is ended.
	DefaultWatchdog = 30 * time.Second
	// DefaultLeftoverAge is how old what a crash left must be before reconcile removes it.
	DefaultLeftoverAge = time.Hour
)

// Config says what a cluster is and where its snapshots go. Zero values of the optional fields mean the defaults.
type Config struct {
	Name     string    // of the cluster
	Node     string    // of this machine; becomes part of the snapshots' names
	Prefix   string    // of the cluster's keys on the backends: empty or ending with '/'
	SpoolDir string    // exists and belongs to this cluster alone
	Source   Source    // the etcd to save
	Catalog  Catalog   // its records
	Backends []Backend // at least one; their order is kept wherever they are listed

	Retention   map[string]Retention // optional; by the backend's name
	Compression Compression          // optional; CompressionZstd
	Recipients  age.Recipients       // optional; who can read what is saved, everybody when there are none
	Signer      *Signer              // optional; signs the manifests
	Kept        Backend              // optional; a place of this replica alone for what no backend took
	Driller     Driller              // optional; needed to verify at LevelDrill
	Identities  age.Identities       // optional; to verify what is in encrypted snapshots
	Trust       *Trust               // optional; which manifests are believed, all when nil
	Observer    Observer             // optional
	Events      *Events              // optional
	Logger      *slog.Logger         // optional
	StreamLimit Limiter              // optional; of the bytes that are read from etcd
	Watchdog    time.Duration        // optional; DefaultWatchdog
	LeftoverAge time.Duration        // optional; DefaultLeftoverAge
	Now         func() time.Time     // optional; time.Now
}

// Cluster is an etcd cluster under the service's care.
type Cluster struct {
	cfg Config
	log *slog.Logger

	mu       sync.Mutex
	flight   *flight // the save that runs in this process, if one does
	lastUnix int64   // the newest second that a name was made of
	stores   map[string]string

	adopting     chan struct{}                       // holds one while a snapshot of another program is read
	notSnapshots map[string]map[string]foreignObject // by backend and key; guarded by mu

	verifying   chan struct{} // holds a token while a snapshot is verified: one at a time
	downloading chan struct{} // holds a token for each download under way
	repairing   chan struct{} // holds a token while a copy is repaired: one at a time
	copying     string        // name of the snapshot that is being repaired; guarded by mu
	landed      chan struct{} // holds a token after a save has ended: there may be something to repair
}

// New returns a cluster. It does no I/O.
func New(cfg Config) (*Cluster, error) {
	switch {
	case cfg.Name == "" || cfg.Node == "" || cfg.SpoolDir == "":
		return nil, fmt.Errorf("make cluster %q: name, node and spool directory are needed", cfg.Name)
	case cfg.Source == nil || cfg.Catalog == nil || len(cfg.Backends) == 0:
		return nil, fmt.Errorf("make cluster %q: a source, a catalog and at least one backend are needed", cfg.Name)
	}
	if cfg.Compression == CompressionUnspecified {
		cfg.Compression = CompressionZstd
	}
	if cfg.Observer == nil {
		cfg.Observer = nopObserver{}
	}
	if cfg.StreamLimit == nil {
		cfg.StreamLimit = unlimited{}
	}
	if cfg.Events == nil {
		cfg.Events = new(Events)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	setDefault(&cfg.Watchdog, DefaultWatchdog)
	setDefault(&cfg.LeftoverAge, DefaultLeftoverAge)
	return &Cluster{
		cfg: cfg, log: cfg.Logger.With("cluster", cfg.Name), stores: map[string]string{}, adopting: make(chan struct{}, 1), notSnapshots: map[string]map[string]foreignObject{},
		verifying: make(chan struct{}, 1), downloading: make(chan struct{}, downloads), repairing: make(chan struct{}, 1), landed: make(chan struct{}, 1),
	}, nil
}

func setDefault(d *time.Duration, def time.Duration) {
	if *d == 0 {
		*d = def
	}
}

// Name returns the cluster's name.
func (c *Cluster) Name() string { return c.cfg.Name }

// BackendNames returns the names of the cluster's backends in the order of the configuration.
func (c *Cluster) BackendNames() []string {
	names := make([]string, len(c.cfg.Backends))
	for i, b := range c.cfg.Backends {
		names[i] = b.Name()
	}
	return names
}

// backend returns the configured backend of a name, or nil.
func (c *Cluster) backend(name string) Backend {
	for _, b := range c.cfg.Backends {
		if b.Name() == name {
			return b
		}
	}
	return nil
}

// Get returns a record of the catalog; an [Error] with ReasonSnapshotNotFound when there is none of that name.
func (c *Cluster) Get(ctx context.Context, name string) (*Record, error) {
	if name == "" {
		return nil, Invalid("name", "is empty; give a snapshot's name, as list shows it")
	}
	rec, err := c.cfg.Catalog.Get(ctx, name)
	if isNotFound(err) {
		return nil, &Error{
			Reason:  ReasonSnapshotNotFound,
			Message: fmt.Sprintf("cluster %q has no snapshot %q", c.cfg.Name, name),
			Hint:    "list shows what there is; reconcile looks for what the catalog has missed",
		}
	}
	return rec, err
}

// List returns a page of the catalog, newest first.
func (c *Cluster) List(ctx context.Context, q Query) (Page, error) {
	return c.cfg.Catalog.List(ctx, q)
}

func (c *Cluster) publish(ev Event) {
	ev.Time, ev.Cluster = c.cfg.Now(), c.cfg.Name
	c.cfg.Events.Publish(ev)
}

// choose returns the named backends in the order of the configuration, all when names is empty.
func (c *Cluster) choose(names []string) ([]Backend, error) {
	if len(names) == 0 {
		return c.cfg.Backends, nil
	}
	for _, n := range names {
		if !slices.Contains(c.BackendNames(), n) {
			return nil, Invalid("backends", "cluster %q has no backend %q; it has %s", c.cfg.Name, n, listed(c.BackendNames()))
		}
	}
	var chosen []Backend
	for _, b := range c.cfg.Backends {
		if slices.Contains(names, b.Name()) {
			chosen = append(chosen, b)
		}
	}
	return chosen, nil
}

// key returns the key of an object of this cluster on a backend.
func (c *Cluster) key(rest string) string { return c.cfg.Prefix + rest }

// unlimited lets everything pass.
type unlimited struct{}

func (unlimited) Wait(context.Context, int) error { return nil }

// nopObserver observes nothing.
type nopObserver struct{}

func (nopObserver) Saved(context.Context, *Snapshot, time.Duration, error)    {}
func (nopObserver) SaveRejected(context.Context, string)                      {}
func (nopObserver) Wrote(context.Context, BackendKind, time.Duration, error)  {}
func (nopObserver) Reconciled(context.Context, string, time.Duration, error)  {}
func (nopObserver) Listed(context.Context, BackendKind, time.Duration, error) {}
func (nopObserver) Counted(context.Context, string, map[State]int64)          {}
func (nopObserver) Swept(context.Context, string, string, int64)              {}
func (nopObserver) Verified(context.Context, *Snapshot, Verification)         {}
func (nopObserver) Proven(context.Context, string, int64, time.Time)          {}
func (nopObserver) Deleted(context.Context, string, string)                   {}
func (nopObserver) Repaired(context.Context, string, string, error)           {}
func (nopObserver) Waiting(context.Context, string, map[string]Waiting)       {}
