package config

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/internal/duration"
	"github.com/snapshotd/snapshotd/snapshot"
)

// A setting can be given as a flag, as a variable, and in the file.
type setting struct {
	flag  string // etcd-user; its variable is SNAPSHOTD_ETCD_USER
	path  string // in the file; of a cluster's setting within the cluster
	usage string
	kind  string // kind of value in the help; "bool" shows none
	def   string // shown in the help
	many  bool   // may be repeated

	service func(*Config, []string) error  // exactly one of the two
	cluster func(*Cluster, []string) error //
}

func (s setting) env() string {
	return "SNAPSHOTD_" + strings.ToUpper(strings.ReplaceAll(s.flag, "-", "_"))
}

// clusterFlag is the flag that names a cluster. Its variable names none that the file names, see [Load].
const clusterFlag = "cluster"

var settings = []setting{
	{flag: "listen-grpc", path: "listen_grpc", kind: "address", def: DefaultListenGRPC,
		usage:   "`address` for gRPC: HOST:PORT, port 0 for a free one, or a socket: unix:///run/snapshotd.sock",
		service: func(c *Config, v []string) error { return setString(&c.ListenGRPC, v) }},
	{flag: "listen-http", path: "listen_http", kind: "address", def: defaultListenHTTP,
		usage:   "`address` for the console, /metrics, /healthz, /readyz and, under /v1/, the API as JSON",
		service: func(c *Config, v []string) error { return setString(&c.ListenHTTP, v) }},
	{flag: "tls-cert", path: "tls.cert", kind: "file",
		usage:   "`file` with the certificate of both listeners, PEM; read again when it changes",
		service: func(c *Config, v []string) error { return setString(&c.TLS.Cert, v) }},
	{flag: "tls-key", path: "tls.key", kind: "file",
		usage:   "`file` with the key of --tls-cert",
		service: func(c *Config, v []string) error { return setString(&c.TLS.Key, v) }},
	{flag: "tls-client-ca", path: "tls.client_ca", kind: "file",
		usage:   "`file` with the CA that clients of the API must have a certificate of",
		service: func(c *Config, v []string) error { return setString(&c.TLS.ClientCA, v) }},
	{flag: "tls-client-crl", path: "tls.client_crl", kind: "file",
		usage:   "`file` with client certificates that the CA has taken back, PEM or DER; read again when it changes",
		service: func(c *Config, v []string) error { return setString(&c.TLS.ClientCRL, v) }},
	{flag: "tls-min-version", path: "tls.min_version", kind: "version", def: TLS13,
		usage:   "least `version` of TLS: 1.3, or 1.2 for older clients",
		service: func(c *Config, v []string) error { return setString(&c.TLS.MinVersion, v) }},
	{flag: "audit-file", path: "audit_file", kind: "file",
		usage:   "`file` to which each changing call and each download is added as a line of JSON",
		service: func(c *Config, v []string) error { return setString(&c.AuditFile, v) }},
	{flag: "audit-url", path: "audit_url", kind: "url",
		usage:   "`url` of a directory or bucket, as of a backend, in which the same lines become objects",
		service: func(c *Config, v []string) error { return setString((*string)(&c.AuditURL), v) }},
	{flag: "audit-required", path: "audit_required", kind: "bool",
		usage:   "refuse changing calls and downloads while they cannot be recorded there",
		service: func(c *Config, v []string) error { return setBool(&c.AuditRequired, v) }},
	{flag: "allow-plaintext", path: "allow_plaintext", kind: "bool",
		usage:   "serve without TLS on addresses that other machines can reach",
		service: func(c *Config, v []string) error { return setBool(&c.AllowPlaintext, v) }},
	{flag: "data-dir", path: "data_dir", kind: "directory", def: defaultDataDir,
		usage:   "`directory` for the spool, and for the data of --dev (there ./" + DefaultDevDir + ")",
		service: func(c *Config, v []string) error { return setString(&c.DataDir, v) }},
	{flag: "node-name", path: "node_name", kind: "name",
		usage:   "`name` of this machine in the snapshots' names (default the host name)",
		service: func(c *Config, v []string) error { return setString(&c.NodeName, v) }},
	{flag: "reconcile-interval", path: "reconcile_interval", kind: "duration", def: "10m",
		usage:   "how often the leader reconciles catalog and backends (`duration`)",
		service: func(c *Config, v []string) error { return setDuration(&c.ReconcileInterval, v) }},
	{flag: "max-concurrent-saves", path: "max_concurrent_saves", kind: "number",
		usage:   "`number` of clusters that are saved at a time (default by CPUs, memory and free disk)",
		service: func(c *Config, v []string) error { return setInt(&c.MaxConcurrentSaves, v) }},
	{flag: "max-concurrent-restores", path: "max_concurrent_restores", kind: "number",
		usage:   "`number` of clusters of which a snapshot is restored for a check at a time (default half of the saves)",
		service: func(c *Config, v []string) error { return setInt(&c.MaxConcurrentRestores, v) }},
	{flag: "max-concurrent-drills", path: "max_concurrent_drills", kind: "number", def: "1",
		usage:   "`number` of drills that run at a time",
		service: func(c *Config, v []string) error { return setInt(&c.MaxConcurrentDrills, v) }},
	{flag: "shutdown-timeout", path: "shutdown_timeout", kind: "duration", def: "20s",
		usage:   "how long calls may go on after SIGTERM (`duration`)",
		service: func(c *Config, v []string) error { return setDuration(&c.ShutdownTimeout, v) }},
	{flag: "metrics-prefix", path: "metrics_prefix", kind: "prefix",
		usage:   "`prefix` of the six etcd_snapshot_* metrics, such as k3s_",
		service: func(c *Config, v []string) error { return setString(&c.MetricsPrefix, v) }},
	{flag: "log-level", path: "log.level", kind: "level", def: "info",
		usage:   "`level` of the log: debug, info, warn or error",
		service: func(c *Config, v []string) error { return setString(&c.Log.Level, v) }},
	{flag: "log-format", path: "log.format", kind: "format", def: "text",
		usage:   "`format` of the log: text or json",
		service: func(c *Config, v []string) error { return setString(&c.Log.Format, v) }},

	{flag: clusterFlag, path: "name", kind: "name", def: snapshot.DefaultClusterName,
		usage:   "`name` of the cluster",
		cluster: func(c *Cluster, v []string) error { return setString(&c.Name, v) }},
	{flag: "etcd-endpoints", path: "etcd.endpoints", kind: "urls", many: true,
		usage:   "`urls` of etcd's members, separated by commas",
		cluster: func(c *Cluster, v []string) error { c.Etcd.Endpoints = split(v, ","); return nil }},
	{flag: "etcd-discovery-srv", path: "etcd.discovery_srv", kind: "domain",
		usage:   "`domain` whose SRV records name etcd's members, instead of --etcd-endpoints",
		cluster: func(c *Cluster, v []string) error { return setString(&c.Etcd.DiscoverySRV, v) }},
	{flag: "etcd-discovery-srv-name", path: "etcd.discovery_srv_name", kind: "name",
		usage:   "`name` that is appended to the service in SRV records: etcd-client-NAME",
		cluster: func(c *Cluster, v []string) error { return setString(&c.Etcd.DiscoverySRVName, v) }},
	{flag: "etcd-cacert", path: "etcd.ca_cert", kind: "file",
		usage:   "`file` with the CA of etcd's certificates (default the system's)",
		cluster: func(c *Cluster, v []string) error { return setString(&c.Etcd.CACert, v) }},
	{flag: "etcd-cert", path: "etcd.cert", kind: "file",
		usage:   "`file` with the client certificate for etcd",
		cluster: func(c *Cluster, v []string) error { return setString(&c.Etcd.Cert, v) }},
	{flag: "etcd-key", path: "etcd.key", kind: "file",
		usage:   "`file` with the key of --etcd-cert",
		cluster: func(c *Cluster, v []string) error { return setString(&c.Etcd.Key, v) }},
	{flag: "etcd-user", path: "etcd.user", kind: "user",
		usage:   "`user` for etcd, or user:password; better in a variable or with --etcd-password-file",
		cluster: func(c *Cluster, v []string) error { return setUser(&c.Etcd, v) }},
	{flag: "etcd-password-file", path: "etcd.password_file", kind: "file",
		usage:   "`file` with the password of --etcd-user",
		cluster: func(c *Cluster, v []string) error { return setString(&c.Etcd.PasswordFile, v) }},
	{flag: "backend", path: "backends", kind: "name=url", many: true,
		usage: "where snapshots go, as `name=url`; may be repeated: local=file:///dir, s3=s3://bucket?region=eu-1; with " +
			"?node_local=true a directory that each node has for itself",
		cluster: setBackends},
	{flag: "compression", path: "compression", kind: "name", def: defaultCompression,
		usage:   "how snapshots are compressed (`codec`): zstd or none",
		cluster: func(c *Cluster, v []string) error { return setString(&c.Compression, v) }},
	{flag: "schedule", path: "schedules", kind: "[name=]cron", many: true,
		usage: "when a save is taken by itself, as `[name=]cron`: \"0 */6 * * *\" (UTC), @hourly, \"@every 6h\"; may be " +
			"repeated",
		cluster: setSchedules},
	{flag: "stream-limit", path: "stream_limit", kind: "rate",
		usage:   "how fast etcd is read, in `bytes` per second, such as 50MiB (default as fast as it can)",
		cluster: func(c *Cluster, v []string) error { return setString((*string)(&c.StreamLimit), v) }},
	{flag: "upload-limit", path: "upload_limit", kind: "rate",
		usage:   "how fast S3 is written to, all uploads together, in `bytes` per second (default as fast as it can)",
		cluster: func(c *Cluster, v []string) error { return setString((*string)(&c.UploadLimit), v) }},
	{flag: "encryption-recipient", path: "encryption.recipients", kind: "key", many: true,
		usage:   "public `key` that snapshots are encrypted for with age: age1…, ssh-ed25519 …, ssh-rsa …; may be repeated",
		cluster: func(c *Cluster, v []string) error { return setList(&c.Encryption.Recipients, v) }},
	{flag: "encryption-recipients-file", path: "encryption.recipients_file", kind: "file",
		usage:   "`file` with more such keys, one a line",
		cluster: func(c *Cluster, v []string) error { return setString(&c.Encryption.RecipientsFile, v) }},
	{flag: "signing-key-file", path: "signing.key_file", kind: "file",
		usage: "`file` with the Ed25519 private key that manifests are signed with, PEM; then only signed ones are " +
			"trusted",
		cluster: func(c *Cluster, v []string) error { return setString(&c.Signing.KeyFile, v) }},
	{flag: "signing-public-key-file", path: "signing.public_key_files", kind: "file", many: true,
		usage:   "`file` with another public key, PEM, whose signatures are trusted, such as the last one; may be repeated",
		cluster: func(c *Cluster, v []string) error { return setList(&c.Signing.PublicKeyFiles, v) }},
	{flag: "signing-accept-unsigned", path: "signing.accept_unsigned", kind: "bool",
		usage:   "trust manifests without a signature, too, such as those from before there was a key",
		cluster: func(c *Cluster, v []string) error { return setBool(&c.Signing.AcceptUnsigned, v) }},
}

func setString(to *string, values []string) error {
	*to = values[len(values)-1]
	return nil
}

// setList splits values at commas and lines, because SSH keys have spaces.
func setList(to *[]string, values []string) error {
	*to = nil
	for _, v := range values {
		for _, part := range strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == '\n' }) {
			if part = strings.TrimSpace(part); part != "" {
				*to = append(*to, part)
			}
		}
	}
	if len(*to) == 0 {
		return errors.New("is empty; give a value, or leave it out")
	}
	return nil
}

func setBool(to *bool, values []string) error {
	v := values[len(values)-1]
	b, err := strconv.ParseBool(v)
	if err != nil {
		return fmt.Errorf("%q is neither true nor false", v)
	}
	*to = b
	return nil
}

func setInt(to *int, values []string) error {
	v := values[len(values)-1]
	n, err := strconv.Atoi(v)
	if err != nil {
		return fmt.Errorf("%.60q is not a whole number", v)
	}
	*to = n
	return nil
}

func setDuration(to *time.Duration, values []string) error {
	v := values[len(values)-1]
	d, err := duration.Parse(v)
	if err != nil {
		return notADuration(v)
	}
	*to = d
	return nil
}

func notADuration(v string) error {
	return fmt.Errorf("%q is not a duration; write it as %s", v, duration.Forms)
}

// setUser takes user or user:password, as etcdctl does.
func setUser(e *Etcd, values []string) error {
	user, password, ok := strings.Cut(values[len(values)-1], ":")
	e.User = user
	if ok {
		if password == "" {
			return fmt.Errorf("the password after %q is empty; leave out the colon if --etcd-password-file has it", user+":")
		}
		e.Password = Secret(password)
	}
	return nil
}

// setBackends replaces the backends of the file: a mixture of both would be worse than an error.
func setBackends(c *Cluster, values []string) error {
	c.Backends = nil
	var errs []error
	for _, v := range values {
		name, u, ok := strings.Cut(v, "=")
		if !ok || strings.Contains(name, "://") {
			errs = append(errs, fmt.Errorf("%q is not NAME=URL, such as local=file:///var/backups/etcd", redactURL(v)))
			continue
		}
		b, err := backendOf(name, u)
		errs = append(errs, err)
		c.Backends = append(c.Backends, b)
	}
	return errors.Join(errs...)
}

// backendOf takes node_local out of the URL of a flag, which has no other place for it.
func backendOf(name, text string) (Backend, error) {
	b := Backend{Name: name, URL: URL(text)}
	u, _ := url.Parse(text)
	if u == nil {
		return b, nil // validation says why
	}
	params := u.Query()
	value := params.Get(nodeLocal)
	if value == "" {
		return b, nil
	}
	var err error
	if b.NodeLocal, err = strconv.ParseBool(value); err != nil {
		return b, fmt.Errorf("%s is %q in the URL of %q; write true or false", nodeLocal, value, name)
	}
	params.Del(nodeLocal)
	u.RawQuery = params.Encode()
	b.URL = URL(u.String())
	return b, nil
}

// nodeLocal is the parameter of a flag's URL that stands for the key of this name in the file.
const nodeLocal = "node_local"

func setSchedules(c *Cluster, values []string) error {
	c.Schedules = nil
	for _, v := range values {
		name, spec, ok := strings.Cut(v, "=")
		if !ok {
			name, spec = defaultSchedule, v
		}
		c.Schedules = append(c.Schedules, Schedule{Name: name, Cron: spec})
	}
	return nil
}

func split(values []string, separators string) []string {
	var out []string
	for _, v := range values {
		out = append(out, strings.FieldsFunc(v,
			func(r rune) bool { return r == ' ' || strings.ContainsRune(separators, r) })...)
	}
	return out
}
