package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/cluster/fallback"
	"github.com/snapshotd/snapshotd/cluster/inflight"
	"github.com/snapshotd/snapshotd/cluster/pruning"
	"github.com/snapshotd/snapshotd/cluster/reading"
	"github.com/snapshotd/snapshotd/internal/cache"
	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/signing"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/snapshot/retention"
)

// Defaults of a [Config].
const (
	// DefaultWatchdog is how long etcd may send no byte before the stream is ended.
	DefaultWatchdog = 30 * time.Second
	// DefaultLeftoverAge is how old the leftovers of a crash must be before reconcile removes them.
	DefaultLeftoverAge = time.Hour
)

// maxCached is how many facts of one kind a process remembers of a cluster's objects: about 2 MB. It reads the
// objects beyond that again each time.
const maxCached = 10_000

// downloads is how many downloads of a cluster's snapshots are read at the same time: each one holds parts of an
// object and frames, about 60 MiB of a large one in a bucket, until it is closed.
const downloads = 2

// cleanupTimeout bounds the work after a call was cancelled: removing traces and writing the record.
const cleanupTimeout = 20 * time.Second

// Config describes a cluster and the places of its snapshots. Zero values of the optional fields mean the defaults.
type Config struct {
	Name string // of the cluster
	Node string // of this machine; becomes part of the snapshots' names
	// Prefix is that of the cluster's keys on the backends: empty or ending with '/'. Two clusters with one prefix
	// get into each other's retention, so it is the cluster's name unless the configuration says otherwise.
	Prefix   string
	SpoolDir string // exists and belongs to this cluster alone
	Source   Source // the etcd to save

	// The catalog, in one port for each need. Most operations get along with one or two of them.
	Records Records
	Saves   Saves
	History History
	Stores  repository.Stores

	Backends []repository.Backend // at least one; their order is kept wherever they are listed

	Retention   map[string]retention.Rules // optional; by the backend's name
	Compression snapshot.Compression       // optional; CompressionZstd
	Recipients  age.Recipients             // optional; can decrypt new snapshots, which are not encrypted without any
	Signer      *signing.Signer            // optional; signs the manifests
	// Fallback is optional: a place of this replica alone for a snapshot that no backend took.
	Fallback repository.Backend
	Driller  repository.Driller // optional; needed to verify at LevelDrill
	// Turn is optional. It waits until another program's snapshot may take room in the spool, among those of other
	// clusters.
	Turn func(ctx context.Context, what string) (release func(), err error)
	// Identities are optional. With them the service can verify the database in encrypted snapshots. Without them only
	// the stored bytes are verified, and drills must be made elsewhere.
	Identities  age.Identities
	Trust       *signing.Trust    // optional; which manifests are trusted, all when nil
	Observer    snapshot.Observer // optional
	Logger      *slog.Logger      // optional
	StreamLimit reading.Limiter   // optional; of the bytes that are read from etcd
	Watchdog    time.Duration     // optional; DefaultWatchdog
	LeftoverAge time.Duration     // optional; DefaultLeftoverAge
	Now         func() time.Time  // optional; time.Now
}

// setDefaults fills in the optional fields that code relies on. The others are looked at where they matter, because
// their absence has a meaning of its own.
func (cfg *Config) setDefaults() {
	if cfg.Compression == snapshot.CompressionUnspecified {
		cfg.Compression = snapshot.CompressionZstd
	}
	if cfg.Observer == nil {
		cfg.Observer = snapshot.Observers{}
	}
	if cfg.StreamLimit == nil {
		cfg.StreamLimit = reading.Unlimited{}
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

// Cluster is an etcd cluster under the service's care.
type Cluster struct {
	cfg       Config
	node      snapshot.Node
	log       *slog.Logger
	repos     []*repository.Repository // of cfg.Backends, in their order
	fallback  *repository.Repository   // nil without one
	fallbacks *fallback.Fallback       // what is in it; nil without one

	inflight inflight.Work[SaveResult]

	// These are remembered between reconciliations, and lost with the process: then the objects are read once more.
	foreign   *cache.Cache[foreignObject] // by key: it need not be read again
	manifests *cache.Cache[time.Time]     // by name: the time of the manifest that was read, by the store's clock
	counted   *cache.Cache[pruning.Facts] // by backend and name: the facts that its manifest has confirmed to retention
	scrubs    *cache.Cache[time.Time]     // by backend, empty for all, and name: when this process has scrubbed it

	// Another program's snapshot is read whole into the spool, and a verification or a drill has one there, too. One
	// at a time of each kind keeps the room that the spool needs known.
	adopting     inflight.Slots
	verifying    inflight.Slots
	downloading  inflight.Slots
	repairing    inflight.Slots // one copy is repaired at a time
	repairWanted chan struct{}  // holds a token when there may be a copy to repair
}

// foreignObject is an object that was read, as it was then, and found to be no snapshot.
type foreignObject struct {
	size    int64
	modTime time.Time
}

// New returns a cluster. It does no I/O: the service starts also when etcd or a backend is down, and a save must be
// possible as soon as they are back.
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
		cfg: cfg, node: snapshot.Node(cfg.Node), log: cfg.Logger.With("cluster", cfg.Name),
		foreign: cache.New[foreignObject](maxCached), manifests: cache.New[time.Time](maxCached),
		scrubs: cache.New[time.Time](maxCached), counted: cache.New[pruning.Facts](maxCached),
		adopting: inflight.NewSlots(1), verifying: inflight.NewSlots(1), downloading: inflight.NewSlots(downloads),
		repairing: inflight.NewSlots(1), repairWanted: make(chan struct{}, 1),
	}
	for _, b := range cfg.Backends {
		if c.node.Elsewhere(b.Info().Name) {
			return nil, fmt.Errorf("make cluster %q: backend %q is of another node than %s", cfg.Name, b.Info().Name, cfg.Node)
		}
		c.repos = append(c.repos, c.newRepository(b, cfg.Stores))
	}
	if cfg.Fallback != nil {
		c.fallback = c.newRepository(cfg.Fallback, nil)
		c.fallbacks = fallback.New(fallback.Config{
			Place: c.fallback, Backends: c.repos, Node: cfg.Node, Records: cfg.Records, History: cfg.History,
			Requests: cfg.Saves, OwnerAlive: c.ownerAlive, LiveEtcd: c.liveEtcd, LeftoverAge: cfg.LeftoverAge,
			Now: cfg.Now, Logger: c.log,
		})
	}
	return c, nil
}

// newRepository returns the cluster's repository on a backend. The fallback has no stores: its directory belongs to
// this replica, and the catalog does not know it.
func (c *Cluster) newRepository(b repository.Backend, stores repository.Stores) *repository.Repository {
	return repository.New(repository.Config{
		Backend: b, Cluster: c.cfg.Name, Prefix: c.cfg.Prefix, Signer: c.cfg.Signer, Trust: c.cfg.Trust, Stores: stores,
		Now: c.cfg.Now, Logger: c.log,
	})
}

// Name returns the cluster's name.
func (c *Cluster) Name() string { return c.cfg.Name }

// Repositories returns those on the cluster's backends, in the order of the configuration.
func (c *Cluster) Repositories() []*repository.Repository { return slices.Clone(c.repos) }

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

// List returns a page of the catalog, newest first. It asks no backend: a page must not cost a request for each object.
// A backend that is neither configured nor in the catalog is an error: nothing would be listed for a name that is
// wrong.
func (c *Cluster) List(ctx context.Context, q snapshot.Query) (snapshot.Page, error) {
	page, err := c.cfg.History.List(ctx, q)
	if err != nil || q.Backend == "" || q.PageToken != "" || !isEmpty(page) || c.configured(q.Backend) {
		return page, err
	}
	left, err := c.cfg.History.List(ctx, snapshot.Query{Backend: q.Backend, PageSize: 1}) // by an earlier configuration
	if err == nil && isEmpty(left) {
		err = c.noBackend("backend", q.Backend)
	}
	return page, err
}

func isEmpty(p snapshot.Page) bool {
	return len(p.Records) == 0 && len(p.Unreadable) == 0 && p.NextPageToken == ""
}

// ownerAlive reports whether the replica that saves a snapshot holds the save lock still. A record without an owner
// is of no save that runs. The lock is the only witness: the clock of a record, or the silence of a replica, proves
// nothing.
func (c *Cluster) ownerAlive(ctx context.Context, rec *snapshot.Record) (bool, error) {
	owner, err := c.cfg.Saves.LockOwner(ctx)
	return owner != "" && owner == rec.Owner(), err
}

// liveEtcd returns the id of the etcd cluster that is saved now. Another etcd may have been saved to the same place,
// or this one before it was restored: the outcome of its requests must not be told to a caller of this one. When the
// id is not known, no request id is taken in.
func (c *Cluster) liveEtcd(ctx context.Context) string {
	source, ok := c.cfg.Source.(Identifier)
	if !ok {
		return ""
	}
	id, err := source.ClusterID(ctx)
	if err != nil {
		c.log.WarnContext(ctx, "requests of snapshots that are found are not known: etcd does not say its cluster id",
			"error", err)
	}
	return id
}

// observe reports an event. Metrics, watchers and the log of the service live from these events, so each of them is
// reported once, at the moment when it is certain.
func (c *Cluster) observe(ctx context.Context, ev snapshot.Event) {
	ev.Time, ev.Cluster = c.cfg.Now(), c.cfg.Name
	c.cfg.Observer.Observe(ctx, ev)
}
