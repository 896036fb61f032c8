package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/internal/loopback"
	"github.com/snapshotd/snapshotd/server/socket"
	"github.com/snapshotd/snapshotd/storage"
	"github.com/snapshotd/snapshotd/telemetry"
)

// The values of settings that have few.
var (
	levels       = []string{"debug", "info", "warn", "error"}
	formats      = []string{"text", "json"}
	compressions = []string{"zstd", "none"}
)

// traceID stands for the id of a trace in trace_url.
const traceID = "{trace_id}"

func (c *Config) validate(dev bool, problems *Problems) {
	v := validator{Config: c, dev: dev, problems: problems, parts: c.origins.parts(), names: map[string]int{}}
	for i := range slices.Backward(c.Clusters) {
		v.names[c.Clusters[i].Name] = i
	}
	v.listeners()
	v.service()
	if len(c.Clusters) == 0 {
		v.problem("clusters",
			"none is configured; give --etcd-endpoints and --backend, or a --config file, or try serve --dev")
	}
	for i := range c.Clusters {
		v.cluster(&c.Clusters[i], fmt.Sprintf("clusters[%d]", i))
	}
	v.apart()
	v.access()
	v.limits()
}

func (v validator) listeners() {
	if socket.Is(v.ListenGRPC) {
		if _, _, err := socket.Parse(v.ListenGRPC); err != nil {
			v.problem("listen_grpc", "%v", err)
		}
	} else {
		v.listener("listen_grpc", v.ListenGRPC, DefaultListenGRPC)
	}
	v.listener("listen_http", v.ListenHTTP, defaultListenHTTP)
	if _, port, _ := net.SplitHostPort(v.ListenGRPC); port != "0" && v.ListenGRPC == v.ListenHTTP {
		v.problem("listen_http", "%s is the address of gRPC already; give each its own port", v.ListenHTTP)
	}
	v.pair("tls.cert", "tls.key", v.TLS.Cert, v.TLS.Key)
	v.oneOf("tls.min_version", v.TLS.MinVersion, TLS13, TLS12)
	v.audit()
	if v.TLS.ClientCA != "" && v.TLS.Cert == "" {
		v.problem("tls.client_ca", "needs a certificate of the service; set tls.cert and tls.key (--tls-cert, --tls-key)")
	}
	if v.TLS.ClientCRL != "" && v.TLS.ClientCA == "" {
		v.problem("tls.client_crl", "needs the CA whose certificates it takes back; set tls.client_ca (--tls-client-ca)")
	}
}

// audit refuses a place of audit records that is none, and records that have no place.
func (v validator) audit() {
	if v.AuditRequired && v.AuditFile == "" && v.AuditURL == "" {
		v.problem("audit_required",
			"there is no place for the records; set audit_file or audit_url (--audit-file, --audit-url)")
	}
	if v.AuditURL == "" {
		return
	}
	if _, err := storage.New(storage.Config{Name: "audit", URL: v.AuditURL.Reveal()}); err != nil {
		v.problem("audit_url", "%v", err)
	}
}

func (v validator) listener(path, addr, example string) {
	host, port, err := net.SplitHostPort(addr)
	if _, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil {
		v.problem(path, "%q is not an address; write it as HOST:PORT, such as %s", addr, example)
		return
	}
	if !v.TLS.Enabled() && !v.AllowPlaintext && !loopback.Is(host) {
		v.problem(path,
			"%s can be reached from other machines, and there is no TLS; set tls.cert and tls.key (--tls-cert, --tls-key), "+
				"listen on 127.0.0.1, or set allow_plaintext (--allow-plaintext) if the network is to be trusted", addr)
	}
}

func (v validator) service() {
	v.name("node_name", v.NodeName)
	if err := telemetry.ValidPrefix(v.MetricsPrefix); err != nil {
		v.problem("metrics_prefix", "%v", err)
	}
	v.atLeast("reconcile_interval", v.ReconcileInterval, time.Second)
	v.atLeast("shutdown_timeout", v.ShutdownTimeout, time.Second)
	v.oneOf("log.level", v.Log.Level, levels...)
	v.oneOf("log.format", v.Log.Format, formats...)
	switch shown := redactURL(v.TraceURL); {
	case v.TraceURL != "" && !traceURL(v.TraceURL):
		v.problem("trace_url", "%q is not the URL of a trace; write it as https://jaeger.example.org/trace/%s",
			shown, traceID)
	case shown != v.TraceURL:
		v.problem("trace_url", "%q carries credentials, which the console would show to everybody; leave them out",
			shown)
	}
}

// traceURL reports whether a text is the URL of a page of any trace.
func traceURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && strings.Contains(text, traceID)
}

func (v validator) cluster(c *Cluster, at string) {
	v.clusterName(c, at+".name")
	v.needed(c, at)
	v.etcd(&c.Etcd, at+".etcd")
	v.catalog(&c.Catalog, at+".catalog")
	if p := *c.Prefix; p != "" && path.Clean("/"+p)+"/" != "/"+p && v.origins[at+".prefix"] != "" {
		v.problem(at+".prefix", "%q must be empty, or names that each end with '/', such as production/", p)
	}
	v.oneOf(at+".compression", c.Compression, compressions...)
	v.atLeast(at+".watchdog_timeout", c.WatchdogTimeout, time.Second)
	v.lockTTL(at+".lock_ttl", c.LockTTL)
	v.rate(at+".stream_limit", c.StreamLimit)
	v.rate(at+".upload_limit", c.UploadLimit)
	v.atLeast(at+".leftover_age", c.LeftoverAge, time.Millisecond)
	v.schedules(c, at+".schedules")
	v.scrub(c.Scrub, at+".scrub")
	v.drillable(c, at+".scrub.drill")
	v.journal(c.Journal, at+".journal")
	v.retention(c.Retention, at+".retention")
	v.encryption(c.Encryption, at+".encryption")
	v.signing(c.Signing, at+".signing")
	v.backends(c, at+".backends")
}

// lockTTL refuses a lock that no replica would believe: one that lasts longer is taken for somebody else's.
func (v validator) lockTTL(path string, d time.Duration) {
	v.atLeast(path, d, time.Second)
	if d > catalog.MaxLockTTL {
		v.problem(path, "%v is too long; %v is the most, and %v is usual: after a replica has died, nothing is saved "+
			"for so long", d, catalog.MaxLockTTL, DefaultLockTTL)
	}
}

// clusterName refuses a name that is none, or that a cluster before it has.
func (v validator) clusterName(c *Cluster, at string) {
	v.name(at, c.Name)
	if first := v.names[c.Name]; &v.Clusters[first] != c {
		v.problem(at, "%q is the name of clusters[%d] already", c.Name, first)
	}
}

// needed refuses a cluster that cannot be read or stored anywhere; serve --dev brings both.
func (v validator) needed(c *Cluster, at string) {
	if v.dev {
		return
	}
	if !c.Etcd.reachable() {
		v.problem(at+".etcd.endpoints", "cluster %q has none; give etcd's addresses, such as https://10.0.0.1:2379", c.Name)
	}
	if len(c.Backends) == 0 {
		v.problem(at+".backends", "cluster %q has none; give at least one, such as local=file:///var/backups/etcd", c.Name)
	}
}

func (v validator) catalog(c *Catalog, at string) {
	v.etcd(&c.Etcd, at)
	if e := c.Etcd; !e.reachable() && (e.CACert != "" || e.Cert != "" || e.User != "") {
		v.problem(at+".endpoints",
			"there are none, but credentials; give the endpoints of the catalog's etcd, or remove the credentials to use etcd's")
	}
	if p := c.Prefix; len(p) < 2 || path.Clean(p)+"/" != p {
		v.problem(at+".prefix", "%q must begin and end with '/', such as %s", p, DefaultCatalogPrefix)
	}
}

// drillable refuses drills of snapshots that the service cannot read.
func (v validator) drillable(c *Cluster, at string) {
	if c.Scrub.Drill && c.Encryption.Enabled() && len(c.Encryption.IdentityFiles) == 0 {
		v.problem(at,
			"cannot be done: snapshots are encrypted, and the service has no identity to read them with; "+
				"set encryption.identity_files, or leave drill out and drill elsewhere: snapshotd verify latest --from URL "+
				"--identity FILE --level drill")
	}
}

func (v validator) retention(r Retention, at string) {
	for _, rule := range []struct {
		key string
		n   int64
	}{
		{"keep_last", int64(r.KeepLast)}, {"keep_hourly", int64(r.KeepHourly)}, {"keep_daily", int64(r.KeepDaily)},
		{"keep_weekly", int64(r.KeepWeekly)}, {"keep_monthly", int64(r.KeepMonthly)}, {"keep_yearly", int64(r.KeepYearly)},
	} {
		v.notNegative(at+"."+rule.key, rule.n, rule.n)
	}
	v.notNegative(at+".keep_within", int64(r.KeepWithin), r.KeepWithin)
	v.notNegative(at+".recovery_window", int64(r.RecoveryWindow), r.RecoveryWindow)
	v.notNegative(at+".max_total_bytes", int64(r.MaxTotalBytes), r.MaxTotalBytes)
	v.notNegative(at+".min_keep", int64(r.MinKeep), r.MinKeep)
	if _, err := time.LoadLocation(r.TimeZone); err != nil || r.TimeZone == "Local" {
		v.problem(at+".time_zone", "%q is not a time zone; write it as Europe/Berlin, or leave it out for UTC", r.TimeZone)
	}
}

// encryption refuses settings that ask for encryption and make it impossible. Files are read when the service starts.
// Values are not shown: one may be a private key.
func (v validator) encryption(e Encryption, at string) {
	if v.given(at) && !e.Enabled() {
		v.problem(at, "asks for encryption and names no recipient; give recipients or recipients_file "+
			"(--encryption-recipient, --encryption-recipients-file), or remove it to store plaintext")
	}
	if err := age.CheckRecipient(e.RecipientsFile); errors.Is(err, age.ErrPrivate) {
		v.problem(at+".recipients_file", "%v; it must name a file", err)
	}
	wrong := false
	for i, r := range e.Recipients {
		if err := age.CheckRecipient(r); err != nil {
			wrong = true
			v.problem(fmt.Sprintf("%s.recipients[%d]", at, i), "%v", err)
		}
	}
	if len(e.Recipients) > 0 && !wrong {
		if _, err := age.NewRecipients(e.Recipients); err != nil {
			v.problem(at+".recipients", "%v", err)
		}
	}
}

// signing refuses settings that ask for signatures and make them impossible.
func (v validator) signing(s Signing, at string) {
	if v.given(at) && s.KeyFile == "" {
		v.problem(at+".key_file",
			"is missing; without it nothing is signed, and the service's own manifests would not be trusted")
	}
	for i, f := range s.PublicKeyFiles {
		if f == "" {
			v.problem(fmt.Sprintf("%s.public_key_files[%d]", at, i), "is empty")
		}
	}
}

func (v validator) etcd(e *Etcd, at string) {
	if len(e.Endpoints) > 0 && e.DiscoverySRV != "" {
		v.problem(at+".discovery_srv", "there are endpoints, too; give one or the other")
	}
	if e.DiscoverySRVName != "" && e.DiscoverySRV == "" {
		v.problem(at+".discovery_srv_name", "needs the domain to look in; set discovery_srv (--etcd-discovery-srv)")
	}
	for i, ep := range e.Endpoints {
		if err := checkEndpoint(ep); err != nil {
			v.problem(fmt.Sprintf("%s.endpoints[%d]", at, i), "%v", err)
		}
	}
	v.pair(at+".cert", at+".key", e.Cert, e.Key)
	if e.Password != "" && e.PasswordFile != "" {
		v.problem(at+".password_file", "there is a password, too; give one or the other")
	}
	if (e.Password != "" || e.PasswordFile != "") != (e.User != "") {
		v.problem(at+".user",
			"a user and a password are needed together; set user and password_file (--etcd-user, --etcd-password-file)")
	}
}

// checkEndpoint accepts the endpoints of etcdctl: host:port, or a URL of it.
func checkEndpoint(ep string) error {
	const want = "write it as https://HOST:PORT"
	credentials := fmt.Errorf(
		"%q carries credentials; set user and password_file (--etcd-user, --etcd-password-file) instead", redactURL(ep))
	hostport := ep
	if scheme, _, ok := strings.Cut(ep, "://"); ok {
		u, err := url.Parse(ep)
		switch {
		case err != nil:
			return fmt.Errorf("%q is not a URL; %s", redactURL(ep), want)
		case u.User != nil:
			return credentials
		case scheme == "unix" || scheme == "unixs":
			return nil
		case scheme != "http" && scheme != "https":
			return fmt.Errorf("%q has the scheme %q; %s", redactURL(ep), scheme, want)
		case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
			return fmt.Errorf("%q has more than an address in it; %s", redactURL(ep), want)
		}
		hostport = u.Host
	} else if strings.Contains(ep, "@") {
		return credentials
	}
	host, port, err := net.SplitHostPort(hostport)
	if _, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || host == "" {
		return fmt.Errorf("%q has no host and port; %s", redactURL(ep), want)
	}
	return nil
}
