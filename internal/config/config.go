package config

import (
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Defaults of a [Config].
const (
	DefaultListenGRPC        = "127.0.0.1:7379"
	DefaultListenHTTP        = "127.0.0.1:7380"
	DefaultDataDir           = "/var/lib/snapshotd"
	DefaultDevDir            = "snapshotd-dev" // data directory of serve --dev, in the working directory
	DefaultClusterName       = "default"
	DefaultReconcileInterval = 10 * time.Minute
	DefaultShutdownTimeout   = 20 * time.Second
	DefaultWatchdogTimeout   = snapshot.DefaultWatchdog
	DefaultLockTTL           = 15 * time.Second
	DefaultLeftoverAge       = snapshot.DefaultLeftoverAge
	DefaultCatalogPrefix     = "/snapshotd/v1/"
	DefaultCompression       = "zstd"
	DefaultSchedule          = "default"       // the name of --schedule's when it has none
	DefaultNamePrefix        = "etcd-snapshot" // of scheduled snapshots, as K3s has it
)

// Config is the whole configuration of the service, as the YAML file has it.
type Config struct {
	ListenGRPC        string        `yaml:"listen_grpc"`
	ListenHTTP        string        `yaml:"listen_http"`
	TLS               TLS           `yaml:"tls,omitempty"`
	AllowPlaintext    bool          `yaml:"allow_plaintext"` // serve without TLS on addresses that others can reach
	DataDir           string        `yaml:"data_dir"`
	NodeName          string        `yaml:"node_name"` // becomes part of the snapshots' names
	MetricsPrefix     string        `yaml:"metrics_prefix"`
	ReconcileInterval time.Duration `yaml:"reconcile_interval"`
	ShutdownTimeout   time.Duration `yaml:"shutdown_timeout"` // how long calls may go on after SIGTERM
	Log               Log           `yaml:"log"`
	Clusters          []Cluster     `yaml:"clusters"`

	origins origins
}

// TLS is the certificate of both listeners. ClientCA asks clients of the API for a certificate of their own.
type TLS struct {
	Cert     string `yaml:"cert,omitempty"`
	Key      string `yaml:"key,omitempty"`
	ClientCA string `yaml:"client_ca,omitempty"`
}

// Enabled reports whether there is a certificate.
func (t TLS) Enabled() bool { return t.Cert != "" || t.Key != "" }

// Log says what is logged and how.
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
	LockTTL         time.Duration `yaml:"lock_ttl"`               // how long the lock and the leadership of a dead replica last
	StreamLimit     Rate          `yaml:"stream_limit,omitempty"` // of reading etcd's snapshot; none when empty
	UploadLimit     Rate          `yaml:"upload_limit,omitempty"` // of all uploads to S3 together; none when empty
	LeftoverAge     time.Duration `yaml:"leftover_age"`           // how old what a crash left on a backend must be to be swept
	Schedules       []Schedule    `yaml:"schedules,omitempty"`
	Retention       Retention     `yaml:"retention,omitempty"`
	Scrub           Scrub         `yaml:"scrub,omitempty"`
	Encryption      Encryption    `yaml:"encryption,omitempty"`
	Signing         Signing       `yaml:"signing,omitempty"`
	Backends        []Backend     `yaml:"backends"`
}

// Schedule is what is saved by itself, and when.
type Schedule struct {
	Name       string            `yaml:"name"`
	Cron       string            `yaml:"cron"`                  // five fields, a descriptor, or "@every 6h"
	TimeZone   string            `yaml:"time_zone,omitempty"`   // of cron's fields; UTC
	Jitter     time.Duration     `yaml:"jitter,omitempty"`      // a save begins up to so much later than it is due
	NamePrefix string            `yaml:"name_prefix,omitempty"` // DefaultNamePrefix
	Labels     map[string]string `yaml:"labels,omitempty"`
	Backends   []string          `yaml:"backends,omitempty"` // all of the cluster's when there are none
}

// Scrub says what is verified by itself, and when. Without a schedule, nothing is.
type Scrub struct {
	Cron     string `yaml:"cron,omitempty"`      // as of a schedule
	TimeZone string `yaml:"time_zone,omitempty"` // of cron's fields; UTC
	Share    int    `yaml:"share,omitempty"`     // percent of the snapshots whose checksums are verified each time
	Drill    bool   `yaml:"drill"`               // restore the newest into a throw-away etcd each time
}

// Retention says which snapshots are kept. Without a rule, all are.
type Retention struct {
	KeepLast       int           `yaml:"keep_last,omitempty"`
	KeepHourly     int           `yaml:"keep_hourly,omitempty"`
	KeepDaily      int           `yaml:"keep_daily,omitempty"`
	KeepWeekly     int           `yaml:"keep_weekly,omitempty"`
	KeepMonthly    int           `yaml:"keep_monthly,omitempty"`
	KeepYearly     int           `yaml:"keep_yearly,omitempty"`
	KeepWithin     time.Duration `yaml:"keep_within,omitempty"`
	RecoveryWindow time.Duration `yaml:"recovery_window,omitempty"`
	MaxTotalBytes  int64         `yaml:"max_total_bytes,omitempty"`
	MinKeep        int           `yaml:"min_keep,omitempty"`
	OnDemand       bool          `yaml:"on_demand"`           // the rules are also for snapshots that somebody asked for
	Adopted        bool          `yaml:"adopted"`             // and, once they are unpinned, for those that other programs took
	TimeZone       string        `yaml:"time_zone,omitempty"` // of hours, days and so on; UTC
}

// Etcd says how an etcd cluster is reached, as etcdctl does it.
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

// Encryption says who can read what is saved: public keys alone. Without any, snapshots are not encrypted.
type Encryption struct {
	Recipients     []string `yaml:"recipients,omitempty"`
	RecipientsFile string   `yaml:"recipients_file,omitempty"`
	IdentityFiles  []string `yaml:"identity_files,omitempty"` // private keys, to verify what is in the snapshots; best without
}

// Enabled reports whether there is somebody to encrypt for.
func (e Encryption) Enabled() bool { return len(e.Recipients) > 0 || e.RecipientsFile != "" }

// Signing says how manifests are signed, and which signatures are believed beside the key's own.
type Signing struct {
	KeyFile        string   `yaml:"key_file,omitempty"`
	PublicKeyFiles []string `yaml:"public_key_files,omitempty"`
	AcceptUnsigned bool     `yaml:"accept_unsigned"` // believe manifests that have no signature, too
}

// Backend is a place for snapshots.
type Backend struct {
	Name string `yaml:"name"`
	URL  URL    `yaml:"url"`

	Retention *Retention `yaml:"retention,omitempty"` // instead of the cluster's
}

func defaults() *Config {
	return &Config{
		ListenGRPC:        DefaultListenGRPC,
		ListenHTTP:        DefaultListenHTTP,
		ReconcileInterval: DefaultReconcileInterval,
		ShutdownTimeout:   DefaultShutdownTimeout,
		Log:               Log{Level: "info", Format: "text"},
		origins:           origins{},
	}
}

// fillIn gives a cluster what nobody has set. What was set wrongly, to nothing for example, is left to be told.
func (c *Cluster) fillIn(set func(key string) bool) {
	orDefault(&c.Name, DefaultClusterName, set("name"))
	orDefault(&c.Compression, DefaultCompression, set("compression"))
	orDefault(&c.WatchdogTimeout, DefaultWatchdogTimeout, set("watchdog_timeout"))
	orDefault(&c.LockTTL, DefaultLockTTL, set("lock_ttl"))
	orDefault(&c.LeftoverAge, DefaultLeftoverAge, set("leftover_age"))
	orDefault(&c.Catalog.Prefix, DefaultCatalogPrefix, set("catalog.prefix"))
	if c.Prefix == nil {
		c.Prefix = new(c.Name + "/")
	}
}

func orDefault[T any](v *T, def T, set bool) {
	if !set {
		*v = def
	}
}
