package config

import (
	"time"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Defaults of a [Config] that others need, too.
const (
	DefaultListenGRPC      = "127.0.0.1:7379"
	DefaultDevDir          = "snapshotd-dev" // data directory of serve --dev, in the working directory
	DefaultWatchdogTimeout = cluster.DefaultWatchdog
	DefaultLockTTL         = catalog.DefaultLockTTL
	DefaultLeftoverAge     = cluster.DefaultLeftoverAge
	DefaultCatalogPrefix   = catalog.DefaultPrefix
	ScheduledPrefix        = "etcd-snapshot" // of scheduled snapshots, as K3s has it
)

// The other defaults.
const (
	defaultListenHTTP        = "127.0.0.1:7380"
	defaultDataDir           = "/var/lib/snapshotd"
	defaultReconcileInterval = 10 * time.Minute
	defaultShutdownTimeout   = 20 * time.Second
	defaultConcurrentDrills  = 1
	defaultCompression       = "zstd"
	defaultSchedule          = "default" // the name of --schedule's when it has none
	defaultFlushInterval     = 500 * time.Millisecond
	defaultUploadInterval    = 9 * time.Second
	defaultMaxLocalBytes     = 1 << 30 // of the journal
)

// Config is the whole configuration of the service, as the YAML file has it.
type Config struct {
	ListenGRPC        string        `yaml:"listen_grpc"`
	ListenHTTP        string        `yaml:"listen_http"`
	TLS               TLS           `yaml:"tls"`
	Access            *Access       `yaml:"access,omitempty"`
	AuditFile         string        `yaml:"audit_file,omitempty"`
	AuditURL          URL           `yaml:"audit_url,omitempty"` // of a directory or bucket for the same records
	AuditRequired     bool          `yaml:"audit_required"`      // refuse what cannot be recorded
	Limits            Limits        `yaml:"limits"`
	AllowPlaintext    bool          `yaml:"allow_plaintext"` // serve without TLS on addresses that others can reach
	DataDir           string        `yaml:"data_dir"`
	NodeName          string        `yaml:"node_name"` // becomes part of the snapshots' names
	MetricsPrefix     string        `yaml:"metrics_prefix"`
	ReconcileInterval time.Duration `yaml:"reconcile_interval"`

	MaxConcurrentSaves    int `yaml:"max_concurrent_saves,omitempty"`    // of all clusters; 0: as the machine allows
	MaxConcurrentRestores int `yaml:"max_concurrent_restores,omitempty"` // the same
	MaxConcurrentDrills   int `yaml:"max_concurrent_drills"`             // of all clusters

	ShutdownTimeout time.Duration `yaml:"shutdown_timeout"` // how long calls may go on after SIGTERM
	Log             Log           `yaml:"log"`
	TraceURL        string        `yaml:"trace_url,omitempty"`    // where a trace is shown, with {trace_id} in it
	Defaults        *Cluster      `yaml:"defaults,omitempty"`     // of clusters without their own; nil once applied
	ClustersDir     string        `yaml:"clusters_dir,omitempty"` // its files are further clusters
	Clusters        []Cluster     `yaml:"clusters"`

	origins origins
	file    string   // that it was read from; empty without one
	watched []string // the file, the directory of clusters, and its files
}

// Files returns the file that the configuration was read from, and the directory of clusters with its files.
func (c *Config) Files() []string { return c.watched }

// TLS is the certificate of both listeners. With ClientCA, clients of the API need a certificate of their own.
type TLS struct {
	Cert     string `yaml:"cert,omitempty"`
	Key      string `yaml:"key,omitempty"`
	ClientCA string `yaml:"client_ca,omitempty"`

	ClientCRL  string `yaml:"client_crl,omitempty"` // client certificates that were taken back
	MinVersion string `yaml:"min_version"`          // of the protocol
}

// The versions of TLS that can be the least.
const (
	TLS12 = "1.2"
	TLS13 = "1.3"
)

// Enabled reports whether there is a certificate.
func (t TLS) Enabled() bool { return t.Cert != "" || t.Key != "" }

// Log says which lines are logged, and in which format.
type Log struct {
	Level  string `yaml:"level"`  // debug, info, warn or error
	Format string `yaml:"format"` // text or json
}

// Cluster is one etcd cluster and where its snapshots go.
type Cluster struct {
	Name            string        `yaml:"name"`
	Etcd            Etcd          `yaml:"etcd"`
	Catalog         Catalog       `yaml:"catalog"`
	Prefix          *string       `yaml:"prefix"` // of the keys on the backends; "<name>/" unless set, may be empty
	Compression     string        `yaml:"compression"`
	WatchdogTimeout time.Duration `yaml:"watchdog_timeout"`       // how long etcd may give no byte of a snapshot
	LockTTL         time.Duration `yaml:"lock_ttl"`               // how long lock and leadership of a dead replica last
	StreamLimit     Rate          `yaml:"stream_limit,omitempty"` // of reading etcd's snapshot; none when empty
	UploadLimit     Rate          `yaml:"upload_limit,omitempty"` // of all uploads to S3 together; none when empty
	LeftoverAge     time.Duration `yaml:"leftover_age"`           // least age of leftovers of a crash that are swept
	Schedules       []Schedule    `yaml:"schedules,omitempty"`
	Retention       Retention     `yaml:"retention,omitempty"`
	Scrub           Scrub         `yaml:"scrub,omitempty"`
	Journal         Journal       `yaml:"journal,omitempty"`
	Encryption      Encryption    `yaml:"encryption,omitempty"`
	Signing         Signing       `yaml:"signing,omitempty"`
	Backends        []Backend     `yaml:"backends"`
}

// Schedule says when saves are made, and how.
type Schedule struct {
	Name       string            `yaml:"name"`
	Cron       string            `yaml:"cron"`                  // five fields, a descriptor, or "@every 6h"
	TimeZone   string            `yaml:"time_zone,omitempty"`   // of cron's fields; UTC
	Jitter     time.Duration     `yaml:"jitter,omitempty"`      // a save begins up to this much later than it is due
	NamePrefix string            `yaml:"name_prefix,omitempty"` // ScheduledPrefix
	Labels     map[string]string `yaml:"labels,omitempty"`
	Backends   []string          `yaml:"backends,omitempty"` // all of the cluster's when there are none
}

// Scrub says when snapshots are verified, and how. Without a schedule, none are.
type Scrub struct {
	Cron     string        `yaml:"cron,omitempty"`      // as of a schedule
	TimeZone string        `yaml:"time_zone,omitempty"` // of cron's fields; UTC
	Jitter   time.Duration `yaml:"jitter,omitempty"`    // it begins up to this much later than it is due
	Share    int           `yaml:"share,omitempty"`     // percent of the snapshots whose checksums are verified each time
	Drill    bool          `yaml:"drill"`               // restore the newest into a throw-away etcd each time
}

// Journal says whether the changes of the cluster are recorded between its snapshots, and how soon they are safe.
type Journal struct {
	Enabled        bool          `yaml:"enabled"`
	FlushInterval  time.Duration `yaml:"flush_interval,omitempty"`  // changes are on this machine's disk after it
	UploadInterval time.Duration `yaml:"upload_interval,omitempty"` // and on the way to the backends after this one
	MaxLocalBytes  Bytes         `yaml:"max_local_bytes,omitempty"` // on this disk, of what no backend has taken yet
	Window         time.Duration `yaml:"window,omitempty"`          // how far back; 0 for as far as the snapshots
}

// Retention says which snapshots stay. Without a rule, all do.
type Retention struct {
	KeepLast       int           `yaml:"keep_last,omitempty"`
	KeepHourly     int           `yaml:"keep_hourly,omitempty"`
	KeepDaily      int           `yaml:"keep_daily,omitempty"`
	KeepWeekly     int           `yaml:"keep_weekly,omitempty"`
	KeepMonthly    int           `yaml:"keep_monthly,omitempty"`
	KeepYearly     int           `yaml:"keep_yearly,omitempty"`
	KeepWithin     time.Duration `yaml:"keep_within,omitempty"`
	RecoveryWindow time.Duration `yaml:"recovery_window,omitempty"`
	MaxTotalBytes  Bytes         `yaml:"max_total_bytes,omitempty"`
	MinKeep        int           `yaml:"min_keep,omitempty"`
	OnDemand       bool          `yaml:"on_demand"`           // the rules also apply to snapshots that a caller asked for
	Adopted        bool          `yaml:"adopted"`             // and, once unpinned, to those that other programs took
	TimeZone       string        `yaml:"time_zone,omitempty"` // of hours, days and so on; UTC
}

// Etcd says how to reach an etcd cluster, in the way of etcdctl.
type Etcd struct {
	Endpoints        []string `yaml:"endpoints,omitempty"`
	DiscoverySRV     string   `yaml:"discovery_srv,omitempty"`
	DiscoverySRVName string   `yaml:"discovery_srv_name,omitempty"`
	CACert           string   `yaml:"ca_cert,omitempty"`
	Cert             string   `yaml:"cert,omitempty"`
	Key              string   `yaml:"key,omitempty"`
	User             string   `yaml:"user,omitempty"`
	Password         Secret   `yaml:"password,omitempty"`
	PasswordFile     string   `yaml:"password_file,omitempty"`
}

func (e Etcd) reachable() bool { return len(e.Endpoints) > 0 || e.DiscoverySRV != "" }

// Catalog says where the records are: in the saved cluster, unless another etcd is given.
type Catalog struct {
	Etcd   `yaml:",inline"`
	Prefix string `yaml:"prefix"`
}

// Separate reports whether the catalog is in another etcd than the one that is saved.
func (c Catalog) Separate() bool { return c.reachable() }

// Encryption says for whom snapshots are encrypted, by public keys. Without any, they are not encrypted.
type Encryption struct {
	Recipients     []string `yaml:"recipients,omitempty"`
	RecipientsFile string   `yaml:"recipients_file,omitempty"`
	IdentityFiles  []string `yaml:"identity_files,omitempty"` // private keys, to verify databases; safer without
}

// Enabled reports whether there are recipients.
func (e Encryption) Enabled() bool { return len(e.Recipients) > 0 || e.RecipientsFile != "" }

// Signing says how manifests are signed, and which signatures are trusted beside the key's own.
type Signing struct {
	KeyFile        string   `yaml:"key_file,omitempty"`
	PublicKeyFiles []string `yaml:"public_key_files,omitempty"`
	AcceptUnsigned bool     `yaml:"accept_unsigned"` // trust manifests without a signature, too
}

// Backend is a place for snapshots.
type Backend struct {
	Name string `yaml:"name"`
	URL  URL    `yaml:"url"`

	NodeLocal bool       `yaml:"node_local,omitempty"` // each node has a directory of its own at this place
	Retention *Retention `yaml:"retention,omitempty"`  // instead of the cluster's
}

// On returns the name of the backend in records, on a node.
func (b Backend) On(node string) string {
	if b.NodeLocal {
		return snapshot.BackendOn(b.Name, node)
	}
	return b.Name
}

func defaults() *Config {
	return &Config{
		ListenGRPC:        DefaultListenGRPC,
		ListenHTTP:        defaultListenHTTP,
		ReconcileInterval: defaultReconcileInterval,
		ShutdownTimeout:   defaultShutdownTimeout,
		Log:               Log{Level: "info", Format: "text"},
		TLS:               TLS{MinVersion: TLS13},
		Limits:            defaultLimits(),

		MaxConcurrentDrills: defaultConcurrentDrills,

		origins: origins{},
	}
}

// fillIn sets the fields of a cluster that were not set. A field that was set to a wrong value, such as nothing, is
// left to validation.
func (c *Cluster) fillIn(set func(key string) bool) {
	orDefault(&c.Name, snapshot.DefaultClusterName, set("name"))
	orDefault(&c.Compression, defaultCompression, set("compression"))
	orDefault(&c.WatchdogTimeout, DefaultWatchdogTimeout, set("watchdog_timeout"))
	orDefault(&c.LockTTL, DefaultLockTTL, set("lock_ttl"))
	orDefault(&c.LeftoverAge, DefaultLeftoverAge, set("leftover_age"))
	orDefault(&c.Catalog.Prefix, DefaultCatalogPrefix, set("catalog.prefix"))
	if c.Journal.Enabled {
		orDefault(&c.Journal.FlushInterval, defaultFlushInterval, set("journal.flush_interval"))
		orDefault(&c.Journal.UploadInterval, defaultUploadInterval, set("journal.upload_interval"))
		orDefault(&c.Journal.MaxLocalBytes, defaultMaxLocalBytes, set("journal.max_local_bytes"))
	}
	if c.Prefix == nil {
		c.Prefix = new(c.Name + "/")
	}
}

func orDefault[T any](v *T, def T, set bool) {
	if !set {
		*v = def
	}
}
