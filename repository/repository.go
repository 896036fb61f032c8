package repository

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/repository/signing"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Content types of the objects that are written.
const (
	DataContentType = "application/octet-stream"
	JSONContentType = "application/json"
)

// Config says where the snapshots of which cluster are.
type Config struct {
	Backend Backend
	Cluster string           // whose snapshots these are; empty (read without a service, cluster not given): any
	Prefix  string           // of the cluster's keys: empty or ending with '/'
	Signer  *signing.Signer  // optional; signs updated manifests, marks of removals, and the manifests of segments
	Trust   *signing.Trust   // optional; which manifests are trusted, all when nil
	Stores  Stores           // optional; without it the marker is not compared with anything
	Now     func() time.Time // optional; time.Now
	Logger  *slog.Logger     // optional
}

// Repository is the snapshots of one cluster on one backend. All methods may be called at once from several goroutines.
type Repository struct {
	backend Backend
	info    Info // of backend
	cluster string
	prefix  string
	signer  *signing.Signer
	trust   *signing.Trust
	stores  Stores
	now     func() time.Time
	log     *slog.Logger

	mu    sync.Mutex
	store string // id of the store as this process has seen it last; empty before
}

// New returns the repository on a backend. It does no I/O.
func New(cfg Config) *Repository {
	r := &Repository{
		backend: cfg.Backend, info: cfg.Backend.Info(), cluster: cfg.Cluster, prefix: cfg.Prefix,
		signer: cfg.Signer, trust: cfg.Trust, stores: cfg.Stores, now: cfg.Now, log: cfg.Logger,
	}
	if r.now == nil {
		r.now = time.Now
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	return r
}

// Config returns how the repository was made; its journal is on the same backend, with the same trust.
func (r *Repository) Config() Config {
	return Config{
		Backend: r.backend, Cluster: r.cluster, Prefix: r.prefix, Signer: r.signer, Trust: r.trust, Stores: r.stores,
		Now: r.now, Logger: r.log,
	}
}

// Name returns the name of the backend.
func (r *Repository) Name() string { return r.info.Name }

// Kind returns the kind of the backend.
func (r *Repository) Kind() snapshot.BackendKind { return r.info.Kind }

// Prefix returns the prefix of the cluster's keys.
func (r *Repository) Prefix() string { return r.prefix }

// URI returns where a file below the prefix is, for a person.
func (r *Repository) URI(file string) string { return r.info.URI(r.key(file)) }

// key returns the key of a file below the prefix.
func (r *Repository) key(file string) string { return r.prefix + file }

// dataKey returns the key of a snapshot's data.
func (r *Repository) dataKey(rec *snapshot.Record) string { return r.key(rec.DataKey()) }

// manifestKey returns the key of a snapshot's manifest.
func (r *Repository) manifestKey(name string) string { return r.key(snapshot.ManifestKey(name)) }

// Location returns the location of a snapshot here, without state and size.
func (r *Repository) Location(rec *snapshot.Record, at time.Time) snapshot.Location {
	return snapshot.Location{Backend: r.info.Name, Kind: r.info.Kind, URI: r.URI(rec.DataKey()), UpdateTime: at.UTC()}
}

// List yields the objects below the prefix as the backend lists them.
func (r *Repository) List(ctx context.Context) iter.Seq2[Object, error] {
	return r.backend.List(ctx, r.prefix)
}

// Sweep removes the leftovers of crashed writers below the prefix, and those of the marker, which is outside of it.
// Only a directory can have some of that one: a bucket takes it in one request.
func (r *Repository) Sweep(ctx context.Context, opts SweepOptions) (int64, error) {
	n, err := r.backend.Sweep(ctx, r.prefix, opts)
	if err != nil || r.info.Kind != snapshot.BackendLocal {
		return n, err
	}
	opts.Keep = func(key string) bool { return key != snapshot.MarkerKey }
	markers, err := r.backend.Sweep(ctx, "", opts)
	return n + markers, err
}

// PutDataOptions are the options of [Repository.PutData].
type PutDataOptions struct {
	SizeHint int64 // how many bytes are expected, at most; 0 when not known
	Replace  bool  // an object that is there; without it, one is an error that wraps ErrExists

	Taken func(bytes int64) // optional; as that of [PutOptions]
}

// PutData stores the data of a snapshot. Without its manifest it is no snapshot yet.
func (r *Repository) PutData(ctx context.Context, rec *snapshot.Record, in io.Reader, opts PutDataOptions) error {
	// Data is replaced only when a caller has found out that it is of no use: another cluster may write under the same
	// key by mistake.
	return r.backend.Put(ctx, r.dataKey(rec), in, PutOptions{
		ContentType: DataContentType, SizeHint: opts.SizeHint, IfAbsent: !opts.Replace, Taken: opts.Taken,
	})
}

// PutManifest stores the manifest of a snapshot whose data is durable, and replaces one that is there.
func (r *Repository) PutManifest(ctx context.Context, name string, doc []byte) error {
	// The manifest of a copy changes with labels, pin and removal, so it is replaced without a condition.
	opts := PutOptions{ContentType: JSONContentType, SizeHint: int64(len(doc))}
	return r.backend.Put(ctx, r.manifestKey(name), bytes.NewReader(doc), opts)
}

// ManifestTime returns when the manifest of a snapshot was last written, as the backend says.
func (r *Repository) ManifestTime(ctx context.Context, name string) (time.Time, error) {
	o, err := r.backend.Stat(ctx, r.manifestKey(name))
	return o.ModTime, err
}

// DeleteFiles deletes files below the prefix in their order and checks nothing: a save takes back its own writes. It
// ends at the first error, which names the key, because the order keeps a manifest from outliving its data.
func (r *Repository) DeleteFiles(ctx context.Context, files ...string) error {
	for _, file := range files {
		if err := r.backend.Delete(ctx, r.key(file)); err != nil {
			return fmt.Errorf("delete %s: %w", r.key(file), err)
		}
	}
	return nil
}
