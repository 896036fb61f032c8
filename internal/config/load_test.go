package config_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/snapshotd/snapshotd/internal/config"
)

// given is a command line, its environment, and the content of the file that --config names.
type given struct {
	yaml string
	args []string
	env  map[string]string
	dev  bool
}

func load(tb testing.TB, g given) (*config.Config, error) {
	tb.Helper()
	fs := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	flags := config.AddFlags(fs)
	args := g.args
	if g.yaml != "" {
		file := filepath.Join(tb.TempDir(), "snapshotd.yaml")
		if err := os.WriteFile(file, []byte(g.yaml), 0o600); err != nil {
			tb.Fatal(err)
		}
		args = append([]string{"--config", file}, args...)
	}
	if err := fs.Parse(args); err != nil {
		tb.Fatal(err)
	}
	return config.Load(config.Source{Flags: flags, Getenv: func(k string) string { return g.env[k] }, Dev: g.dev})
}

func mustLoad(tb testing.TB, g given) *config.Config {
	tb.Helper()
	cfg, err := load(tb, g)
	if err != nil {
		tb.Fatalf("load: %v", err)
	}
	return cfg
}

func problems(tb testing.TB, g given) []string {
	tb.Helper()
	_, err := load(tb, g)
	p, ok := errors.AsType[*config.Problems](err)
	if !ok {
		tb.Fatalf("load: got error %v, want problems", err)
	}
	return p.List()
}

const one = `
node_name: n1
clusters:
  - name: prod
    etcd:
      endpoints: [https://10.0.0.1:2379]
    backends:
      - name: local
        url: file:///srv/etcd
`

func TestFlagsWinOverVariablesOverFileOverDefaults(t *testing.T) {
	file := "log: {level: warn}\nmetrics_prefix: file_\nlisten_grpc: 127.0.0.1:1\n" + one
	env := map[string]string{
		"SNAPSHOTD_METRICS_PREFIX": "env_", "SNAPSHOTD_LISTEN_GRPC": "127.0.0.1:2", "SNAPSHOTD_LOG_FORMAT": "",
	}
	cfg := mustLoad(t, given{yaml: file, env: env, args: []string{"--listen-grpc=127.0.0.1:3"}})
	got := []string{cfg.ListenGRPC, cfg.MetricsPrefix, cfg.Log.Level, cfg.Log.Format}
	want := []string{"127.0.0.1:3", "env_", "warn", "text"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestOneClusterFitsIntoFlags(t *testing.T) {
	cfg := mustLoad(t, given{args: []string{
		"--etcd-endpoints", "https://a:2379,https://b:2379", "--etcd-endpoints", "c:2379",
		"--etcd-cacert", "ca.pem", "--etcd-cert", "c.pem", "--etcd-key", "k.pem", "--etcd-user", "root:s3cr:et",
		"--backend", "local=file:///srv/etcd", "--backend", "s3=s3://bucket?region=eu-1&prefix=x/",
		"--compression", "none", "--node-name", "n1", "--reconcile-interval", "1h",
	}})
	want := config.Cluster{
		Name: "default",
		Etcd: config.Etcd{
			Endpoints: []string{"https://a:2379", "https://b:2379", "c:2379"},
			CACert:    "ca.pem", Cert: "c.pem", Key: "k.pem", User: "root", Password: "s3cr:et",
		},
		Catalog:         config.Catalog{Prefix: config.DefaultCatalogPrefix},
		Prefix:          new("default/"),
		Compression:     "none",
		WatchdogTimeout: config.DefaultWatchdogTimeout,
		LockTTL:         config.DefaultLockTTL,
		LeftoverAge:     config.DefaultLeftoverAge,
		Backends: []config.Backend{
			{Name: "local", URL: "file:///srv/etcd"}, {Name: "s3", URL: "s3://bucket?region=eu-1&prefix=x/"},
		},
	}
	if len(cfg.Clusters) != 1 || !reflect.DeepEqual(cfg.Clusters[0], want) {
		t.Errorf("clusters %+v\nwant     %+v", cfg.Clusters, want)
	}
}

func TestDirectoryOfEachNodeInAFlagAndInTheFile(t *testing.T) {
	flag := mustLoad(t, given{args: []string{"--etcd-endpoints", "a:2379", "--node-name", "n1", "--backend", "local=file:///srv?node_local=true"}})
	file := mustLoad(t, given{yaml: "node_name: n1\nclusters: [{etcd: {endpoints: [a:2379]}, backends: [{name: local, url: 'file:///srv', node_local: true}]}]"})
	for _, cfg := range []*config.Config{flag, file} {
		b := cfg.Clusters[0].Backends[0]
		if b.URL != "file:///srv" || b.On("n1") != "local@n1" {
			t.Errorf("%+v is %s", b, b.On("n1"))
		}
	}
}

func TestSchedulesInFlagsAndVariables(t *testing.T) {
	base := []string{"--node-name=n1", "--etcd-endpoints=http://a:2379", "--backend=local=file:///srv"}
	cfg := mustLoad(t, given{args: append(slices.Clone(base), "--schedule=0 3 * * 1,5", "--schedule=often=@every 1h")})
	want := []config.Schedule{{Name: "default", Cron: "0 3 * * 1,5"}, {Name: "often", Cron: "@every 1h"}}
	if got := cfg.Clusters[0].Schedules; !reflect.DeepEqual(got, want) {
		t.Errorf("schedules %+v, want %+v", got, want)
	}
	cfg = mustLoad(t, given{args: base, env: map[string]string{"SNAPSHOTD_SCHEDULE": "0 3 * * 1,5"}})
	if got := cfg.Clusters[0].Schedules; !reflect.DeepEqual(got, want[:1]) {
		t.Errorf("schedules %+v, want %+v", got, want[:1])
	}
}

func TestBackendsInAVariable(t *testing.T) {
	cfg := mustLoad(t, given{env: map[string]string{
		"SNAPSHOTD_ETCD_ENDPOINTS": "http://a:2379 http://b:2379",
		"SNAPSHOTD_BACKEND":        "local=file:///srv/etcd, s3=s3://bucket",
		"SNAPSHOTD_NODE_NAME":      "n1",
	}})
	want := []config.Backend{{Name: "local", URL: "file:///srv/etcd"}, {Name: "s3", URL: "s3://bucket"}}
	if got := cfg.Clusters[0].Backends; !reflect.DeepEqual(got, want) {
		t.Errorf("backends %+v, want %+v", got, want)
	}
}

func TestFlagsOverrideTheOnlyClusterOfAFile(t *testing.T) {
	file := strings.Replace(one, "endpoints: [https://10.0.0.1:2379]",
		"discovery_srv: example.org\n      user: root\n      password_file: /f", 1)
	cfg := mustLoad(t, given{
		yaml: file, args: []string{"--etcd-endpoints=http://b:2379", "--etcd-user=u:p", "--backend=x=file:///other"},
	})
	c := cfg.Clusters[0]
	want := config.Etcd{Endpoints: []string{"http://b:2379"}, User: "u", Password: "p"}
	if !reflect.DeepEqual(c.Etcd, want) || c.Name != "prod" || len(c.Backends) != 1 || c.Backends[0].Name != "x" {
		t.Errorf("cluster %+v, want the etcd %+v", c, want)
	}
}

// The variable chooses a cluster for the other commands. It names the service's own only where nothing else does.
func TestTheVariableOfAClusterRenamesNone(t *testing.T) {
	directory := writeFiles(t, [2]string{"snapshotd.yaml", "node_name: n1\nclusters_dir: clusters.d\n"},
		[2]string{"clusters.d/c.yaml", one2("c")})
	for name, tc := range map[string]struct {
		given
		want string
	}{
		"one in the file":         {given{yaml: strings.Replace(one, "prod", "production", 1)}, "production/"},
		"one in the file, a flag": {given{yaml: one, args: []string{"--cluster=x"}}, "x/"},
		"two in the file":         {given{yaml: twoClusters("a", "b", "")}, "a/ b/"},
		"one in a directory":      {given{args: []string{"--config", directory}}, "c/"},
		"one without a name":      {given{yaml: strings.Replace(one, "name: prod\n    etcd", "etcd", 1)}, "other/"},
		"one in flags": {given{args: []string{"--node-name=n", "--etcd-endpoints=a:1", "--backend=l=file:///srv"}},
			"other/"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.env = map[string]string{"SNAPSHOTD_CLUSTER": "other"}
			var prefixes []string
			for _, c := range mustLoad(t, tc.given).Clusters {
				if prefixes = append(prefixes, *c.Prefix); *c.Prefix != c.Name+"/" {
					t.Errorf("cluster %q has the prefix %q", c.Name, *c.Prefix)
				}
			}
			if got := strings.Join(prefixes, " "); got != tc.want {
				t.Errorf("the clusters have the prefixes %q, want %q", got, tc.want)
			}
		})
	}
}

func TestPrefixOfAClusterMayBeEmpty(t *testing.T) {
	cfg := mustLoad(t, given{yaml: one + "    prefix: \"\"\n"})
	if p := cfg.Clusters[0].Prefix; p == nil || *p != "" {
		t.Errorf("got prefix %v, want the empty one", p)
	}
}

func TestAnchorsSpareRepetition(t *testing.T) {
	cfg := mustLoad(t, given{yaml: `
node_name: n1
clusters:
  - name: a
    etcd: &tls {endpoints: ["https://a:2379"], ca_cert: ca.pem, cert: c.pem, key: k.pem}
    backends: &places [{name: local, url: "file:///srv"}]
  - name: b
    etcd: {<<: *tls, endpoints: ["https://b:2379"]}
    backends: *places
`})
	if e := cfg.Clusters[1].Etcd; e.CACert != "ca.pem" || e.Endpoints[0] != "https://b:2379" {
		t.Errorf("got %v", e)
	}
}

func TestDevNeedsNothing(t *testing.T) {
	cfg := mustLoad(t, given{dev: true, env: map[string]string{"SNAPSHOTD_NODE_NAME": "n1"}})
	if cfg.DataDir != config.DefaultDevDir || len(cfg.Clusters) != 1 || cfg.Clusters[0].Name != "default" {
		t.Errorf("got %v", cfg)
	}
}

// login is a configuration of an issuer at which people log in.
func login(settings string) string {
	return "access: {oidc: [{name: corp, url: 'https://login.example', audience: a, login: {" + settings +
		"}}], rules: [{role: admin, identities: ['corp:*']}]}\n"
}

func TestProblemsNameTheKeyTheValueAndTheWayOut(t *testing.T) {
	replace := func(old, new string) string { return strings.Replace(one, old, new, 1) }
	valid := []string{"--node-name=n1", "--etcd-endpoints=http://a:2379", "--backend=local=file:///srv"}
	flags := func(more ...string) given { return given{args: append(slices.Clone(valid), more...)} }
	for name, tc := range map[string]struct {
		given
		want []string // all of them, by a part of each
	}{
		"nothing configured": {given{env: map[string]string{"SNAPSHOTD_NODE_NAME": "n"}}, []string{
			"clusters: none is configured; give --etcd-endpoints and --backend, or a --config file, or try serve --dev",
		}},
		"unknown key, one like it": {given{yaml: "listen-grcp: x\n" + one},
			[]string{`snapshotd.yaml:1: listen-grcp: unknown key; did you mean "listen_grpc"?`}},
		"unknown key, none like it": {given{yaml: "schedule: x\n" + one}, []string{
			"schedule: unknown key; known here: listen_grpc, ",
		}},
		"unknown key, nested": {given{yaml: replace("endpoints:", "endpoint:")},
			[]string{`snapshotd.yaml:6: clusters[0].etcd.endpoint: unknown key; did you mean "endpoints"?`}},
		"a login that leads elsewhere": {given{yaml: login("redirect_url: 'https://a.example/elsewhere'") + one}, []string{
			"access.oidc[0].login.client_id: is missing",
			`access.oidc[0].login.redirect_url: "https://a.example/elsewhere" is not where browsers reach the console; write it ` +
				"as https://HOST/console/callback",
		}},
		"a login without TLS": {given{yaml: login("client_id: a, redirect_url: 'http://a.example/console/callback'") + one},
			[]string{"access.oidc[0].login.redirect_url: "}},
		"a login with scopes in one": {given{yaml: login("client_id: a, redirect_url: 'http://127.0.0.1:7380/console/callback', "+
			"scopes: ['openid groups']") + one}, []string{`access.oidc[0].login.scopes[0]: "openid groups" is no scope`}},
		"audit records that have no place": {given{yaml: "audit_required: true\n" + one},
			[]string{"audit_required: there is no place for the records; set audit_file or audit_url"}},
		"a place of audit records that is none": {given{yaml: "audit_url: ftp://user:hunter2@host/a\n" + one},
			[]string{"audit_url: "}},
		"a key of sessions without a login": {given{yaml: "access: {session_key_file: /k, rules: [{role: admin, local: true}]}\n" +
			one}, []string{"access.session_key_file: is for people who log in to the console, and no issuer"}},
		"key twice": {given{yaml: "data_dir: /a\ndata_dir: /b\n" + one}, []string{
			"snapshotd.yaml:2: data_dir: is set twice, first in line 1",
		}},
		"all keys at once": {given{yaml: "a_b_c: 1\nd_e_f: 2\n" + one}, []string{"a_b_c", "d_e_f"}},
		"no YAML":          {given{yaml: "a: b: c"}, []string{"snapshotd.yaml: "}},
		"two documents":    {given{yaml: one + "---\n" + one}, []string{"second document"}},
		"no mapping":       {given{yaml: "- a"}, []string{"must be a mapping, with keys such as listen_grpc"}},
		"no list": {given{yaml: "clusters: {name: a}"},
			[]string{`clusters: must be a list; begin each entry with "- "`}},
		"no single value": {given{yaml: "data_dir: [a]\n" + one}, []string{"data_dir: must be a single value"}},
		"no value":        {given{yaml: "data_dir:\n" + one}, []string{"data_dir: has no value"}},
		"duration in the file": {given{yaml: "reconcile_interval: 10x\n" + one},
			[]string{`snapshotd.yaml:1: reconcile_interval: "10x" is not a duration; write it as 30s`}},
		"bool in the file": {given{yaml: "allow_plaintext: maybe\n" + one},
			[]string{`allow_plaintext: "maybe" is neither true nor false`}},
		"missing file": {given{args: []string{"--config", "does-not-exist.yaml"}},
			[]string{"--config: stat does-not-exist.yaml: no such file or directory"}},
		"duration in a flag": {flags("--reconcile-interval=soon"),
			[]string{`--reconcile-interval: "soon" is not a duration`}},
		"duration too short": {flags("--reconcile-interval=0s"),
			[]string{"--reconcile-interval: 0s is too short; 1s is the least"}},
		"zero is no default": {given{yaml: one + "    watchdog_timeout: 0s\n"},
			[]string{"clusters[0].watchdog_timeout: 0s is too short"}},
		"lock that no replica believes": {given{yaml: one + "    lock_ttl: 2d\n"},
			[]string{"clusters[0].lock_ttl: 48h0m0s is too long; 1h0m0s is the most, and 15s is usual"}},
		"address": {flags("--listen-grpc=7379"),
			[]string{`--listen-grpc: "7379" is not an address; write it as HOST:PORT`}},
		"address in a variable": {given{args: valid, env: map[string]string{"SNAPSHOTD_LISTEN_HTTP": "localhost:http"}},
			[]string{`SNAPSHOTD_LISTEN_HTTP: "localhost:http" is not an address`}},
		"both on one port": {flags("--listen-grpc=127.0.0.1:7380"),
			[]string{"listen_http (--listen-http): 127.0.0.1:7380 is the address of gRPC already"}},
		"plaintext for everybody": {flags("--listen-grpc=:7379", "--listen-http=0.0.0.0:7380"), []string{
			"--listen-grpc: :7379 can be reached from other machines, and there is no TLS; set tls.cert",
			"--listen-http: 0.0.0.0:7380 can be",
		}},
		"certificate, no key": {flags("--tls-cert=c"), []string{"tls.key (--tls-key): is missing"}},
		"client CA alone": {flags("--tls-client-ca=c"),
			[]string{"--tls-client-ca: needs a certificate of the service"}},
		"node name": {flags("--node-name=a b"),
			[]string{`--node-name: "a b" is not a name; use up to 100 letters`}},
		"metrics prefix": {flags("--metrics-prefix=9"), []string{"--metrics-prefix: metrics prefix \"9\""}},
		"log level": {flags("--log-level=loud"), []string{
			`--log-level: "loud" is not one of debug, info, warn, error`,
		}},
		"limit": {flags("--stream-limit=fast"),
			[]string{`--stream-limit: "fast" is not a number of bytes per second; write it as 50MiB or 20MB`}},
		"limit below zero": {flags("--upload-limit=-5MB"),
			[]string{`--upload-limit: "-5MB" is not a number of bytes per second`}},
		"limit that is too slow": {flags("--upload-limit=1KiB"),
			[]string{`--upload-limit: "1KiB" is too slow; allow at least 64 KiB per second`}},
		"compression": {flags("--compression=gzip"), []string{
			`--compression: "gzip" is not one of zstd, none`,
		}},
		"cluster name":       {flags("--cluster=../etc"), []string{`--cluster: "../etc" is not a name`}},
		"empty cluster name": {flags("--cluster="), []string{`--cluster: "" is not a name`}},
		"no endpoints": {given{args: []string{"--node-name=n", "--backend=local=file:///srv"}},
			[]string{`clusters[0].etcd.endpoints (--etcd-endpoints): cluster "default" has none`}},
		"no backends": {given{args: []string{"--node-name=n", "--etcd-endpoints=a:2379"}},
			[]string{`clusters[0].backends (--backend): cluster "default" has none`}},
		"endpoint without a port": {flags("--etcd-endpoints=http://a"),
			[]string{`--etcd-endpoints: "http://a" has no host and port`}},
		"endpoint with a path": {flags("--etcd-endpoints=http://a:2379/v3"),
			[]string{"has more than an address in it"}},
		"endpoint with a scheme": {flags("--etcd-endpoints=ftp://a:2379"), []string{`has the scheme "ftp"`}},
		"endpoint with a user": {flags("--etcd-endpoints=http://u:hunter2@a:2379"),
			[]string{`"http://<redacted>@a:2379" carries credentials`}},
		"endpoint with a user, without a scheme": {flags("--etcd-endpoints=root:hunter2@10.0.0.1:2379"),
			[]string{`--etcd-endpoints: "<redacted>" carries credentials; set user and password_file`}},
		"endpoint with a user alone": {flags("--etcd-endpoints=hunter2@10.0.0.1:2379"),
			[]string{`--etcd-endpoints: "<redacted>" carries credentials`}},
		"endpoint with a user and one slash": {flags("--etcd-endpoints=http:/root:hunter2@a:2379"),
			[]string{`--etcd-endpoints: "<redacted>" carries credentials`}},
		"endpoint with a user and no colon": {flags("--etcd-endpoints=http//root:hunter2@a:2379"),
			[]string{`--etcd-endpoints: "<redacted>" carries credentials`}},
		"endpoint with a password that looks like a fragment": {flags("--etcd-endpoints=http://root:1#hunter2@a:2379"),
			[]string{`--etcd-endpoints: "http://<redacted>" `}},
		"endpoint with a password that looks like a path": {flags("--etcd-endpoints=http://root:1/hunter2@a:2379"),
			[]string{`--etcd-endpoints: "http://<redacted>" `}},
		"endpoint with a password that looks like a query": {flags("--etcd-endpoints=http://root:1?hunter2@a:2379"),
			[]string{`--etcd-endpoints: "http://root:1?<redacted>" `}},
		"bucket with a user in its endpoint, without a name": {flags("--backend=s3://b?region=x&endpoint=http://u:hunter2@a"),
			[]string{`--backend: "s3://b?region=x&endpoint=<redacted>" is not NAME=URL`}},
		"page of traces with a user, without a scheme": {given{yaml: "trace_url: 'u:hunter2@a/{trace_id}'\n" + one},
			[]string{`trace_url: "<redacted>" is not the URL of a trace`}},
		"issuer with a user, without a scheme": {given{yaml: "access: {rules: [{role: admin, local: true}], " +
			"oidc: [{name: a, audience: b, url: 'u:hunter2@a.example'}]}\n" + one},
			[]string{`access.oidc[0].url: "<redacted>" is no URL of an issuer`}},
		"endpoints and SRV": {flags("--etcd-discovery-srv=example.org"), []string{
			"--etcd-discovery-srv: there are endpoints, too",
		}},
		"SRV name alone": {flags("--etcd-discovery-srv-name=x"),
			[]string{"--etcd-discovery-srv-name: needs the domain"}},
		"user without password": {flags("--etcd-user=root"),
			[]string{"--etcd-user: a user and a password are needed together"}},
		"empty password": {flags("--etcd-user=root:"),
			[]string{`--etcd-user: the password after "root:" is empty`}},
		"two passwords": {flags("--etcd-user=root:hunter2", "--etcd-password-file=f"), []string{
			"--etcd-password-file: there is a password, too",
		}},
		"etcd certificate alone": {flags("--etcd-cert=c"), []string{"clusters[0].etcd.key (--etcd-key): is missing"}},
		"backend without a name": {flags("--backend=file:///x"), []string{`--backend: "file:///x" is not NAME=URL`}},
		"backend twice": {flags("--backend=local=file:///b"),
			[]string{`--backend: "local" is the name of backends[0] already`}},
		"backend scheme": {flags("--backend=x=gs://b"),
			[]string{`--backend: backend "x": its URL has the scheme "gs"; file and s3 are known`}},
		"relative directory": {flags("--backend=x=file://dir"),
			[]string{`--backend: backend "x": its URL does not name a directory`}},
		"bucket without a name": {flags("--backend=x=s3://?region=a"), []string{"does not name a bucket"}},
		"bucket with a path": {flags("--backend=x=s3://b/etcd"),
			[]string{`its URL has a path; write it as s3://b?prefix=etcd/`}},
		"backend with a password": {flags("--backend=x=s3://u:hunter2@b"),
			[]string{"credentials come from the environment or a profile"}},
		"backend parameter": {flags("--backend=x=s3://b?use_path_style=hunter3&region=x"), []string{
			`parameter "use_path_style" is "hunter3"; allowed: true, false`,
		}},
		"one place, two backends": {flags("--backend=x=file:///srv/"),
			[]string{`--backend: backend "x" of cluster "default" is the same place as backend "local" of cluster "default"`}},
		"one prefix, written twice": {given{yaml: replace("        url: file:///srv/etcd",
			"        url: s3://b?endpoint=http://x:1&prefix=p/\n      - {name: again, url: "+
				"\"s3://b?prefix=/p&endpoint=http://X:1/\"}")}, []string{"is the same place as"}},
		"cluster prefix": {given{yaml: one + "    prefix: ../x/\n"}, []string{
			`clusters[0].prefix: "../x/" must be empty, or names that each end with '/'`,
		}},
		"catalog prefix": {given{yaml: one + "    catalog: {prefix: x}\n"},
			[]string{`clusters[0].catalog.prefix: "x" must begin and end with '/'`}},
		"catalog without an etcd": {given{yaml: one + "    catalog: {user: x, password: hunter2}\n"}, []string{
			"clusters[0].catalog.endpoints: there are none, but credentials",
		}},
		"cluster flags, two clusters": {given{yaml: twoClusters("a", "b", ""), args: []string{"--etcd-user=root:hunter2"}},
			[]string{"--etcd-user: is about one cluster, but"}},
		"two clusters of a name": {given{yaml: twoClusters("a", "a", "prefix: b/")},
			[]string{`clusters[1].name: "a" is the name of clusters[0] already`}},
		"two clusters in one place": {given{yaml: twoClusters("a", "b", "prefix: a/")},
			[]string{"snapshotd.yaml:8: clusters[1].backends[0].url: " +
				`backend "l" of cluster "b" is the same place as backend "l" of cluster "a"`}},
		"schedule": {flags("--schedule=0 3 * *"), []string{`--schedule: "0 3 * *" is no schedule`}},
		"scrub without a time": {given{yaml: one + "    scrub: {share: 10}\n"},
			[]string{`clusters[0].scrub.cron: "" is no schedule`}},
		"scrub in no zone": {given{yaml: one + "    scrub: {cron: soon, time_zone: Mars, drill: true}\n"},
			[]string{`scrub.time_zone: "Mars" is not`, `scrub.cron: "soon" is no schedule`}},
		"schedules without names": {given{yaml: one + "    schedules: [{cron: '@daily'}, {cron: '@daily'}]\n"}, []string{
			`schedules[0].name: "" is not a name`, `schedules[1].name: "" is not a name`,
		}},
		"duration in months": {given{yaml: one + "    retention: {keep_within: 2 months}\n"}, []string{
			`clusters[0].retention.keep_within: "2 months" is not a duration; write it as 30s, 10m, 36h or 7d`,
		}},
		"size of another kind": {given{yaml: one + "    retention: {max_total_bytes: 500 pages}\n"}, []string{
			`clusters[0].retention.max_total_bytes: "500 pages" is not a number of bytes; write it as 500GB, 200GiB or 500000000000`,
		}},
		"duration in a variable": {given{env: map[string]string{"SNAPSHOTD_SHUTDOWN_TIMEOUT": "1 week"}}, []string{
			`SNAPSHOTD_SHUTDOWN_TIMEOUT: "1 week" is not a duration; write it as 30s, 10m, 36h or 7d`,
		}},
		"indented with a tab": {given{yaml: "log:\n\tlevel: info\n" + one},
			[]string{"snapshotd.yaml:2: is no YAML there"}},
		"scrub of nothing": {given{yaml: one + "    scrub: {cron: '@daily'}\n"},
			[]string{"clusters[0].scrub: asks for nothing"}},
		"scrub before its time": {given{yaml: one + "    scrub: {cron: '@daily', jitter: -1s, share: 1}\n"},
			[]string{"clusters[0].scrub.jitter: -1s is too short"}},
		"scrub of too much": {given{yaml: one + "    scrub: {cron: '@daily', share: 101}\n"},
			[]string{"clusters[0].scrub.share: 101 is not a percentage"}},
		"drill without identity": {given{yaml: one + "    scrub: {cron: '@daily', drill: true}\n    encryption: " +
			"{recipients_file: /r}\n"}, []string{"clusters[0].scrub.drill: cannot be done: snapshots are encrypted"}},
		"schedule without a name": {flags("--schedule==@daily"), []string{`--schedule: "" is not a name`}},
		"schedule twice": {flags("--schedule=@daily", "--schedule=@hourly"),
			[]string{`"default" is the name of another schedule`}},
		"schedule, all of it": {given{yaml: one + "    schedules:\n      - {name: a, cron: '@daily', time_zone: Mars, " +
			"jitter: -1s, name_prefix: ../x, labels: {'': x}, backends: [s4]}\n"}, []string{
			"snapshotd.yaml:11: clusters[0].schedules[0].time_zone: \"Mars\" is not a time zone",
			"schedules[0].jitter: -1s is too short", "schedules[0].name_prefix: \"../x\" is not a name prefix",
			"schedules[0].labels: key \"\" has 0 bytes",
			"schedules[0].backends[0]: cluster \"prod\" has no backend \"s4\"; it has local"}},
		"labels": {given{yaml: one + "    schedules: [{name: a, cron: '@daily', labels: [x]}]\n"}, []string{
			"clusters[0].schedules[0].labels: must be a mapping, such as key: value",
		}},
		"label twice": {given{yaml: one + "    schedules: [{name: a, cron: '@daily', labels: {x: y, x: z}}]\n"},
			[]string{"clusters[0].schedules[0].labels.x: is set twice"}},
		"label that is no text": {given{yaml: one + "    schedules: [{name: a, cron: '@daily', labels: {x: [y]}}]\n"},
			[]string{"clusters[0].schedules[0].labels.x: must be a single value"}},
		"a bucket of each node": {given{args: []string{"--node-name=n1", "--etcd-endpoints=http://a:2379",
			"--backend=s3=s3://bucket?node_local=true&region=x"}}, []string{`"s3" is no directory (file://), and node_local is for directories`}},
		"neither true nor false": {given{args: []string{"--node-name=n1", "--etcd-endpoints=http://a:2379",
			"--backend=local=file:///srv?node_local=maybe"}}, []string{`node_local is "maybe" in the URL of "local"; write true or false`}},
		"dev with a file": {given{dev: true, yaml: one}, []string{"--dev: brings its own etcd and needs no --config"}},
		"dev with an etcd": {given{dev: true, env: map[string]string{"SNAPSHOTD_ETCD_ENDPOINTS": "a:2379"}},
			[]string{"--dev: brings its own etcd; leave out"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := problems(t, tc.given)
			if len(got) != len(tc.want) {
				t.Fatalf("got %d problems %q, want %q", len(got), got, tc.want)
			}
			for i := range got {
				if !strings.Contains(got[i], tc.want[i]) {
					t.Errorf("problem %d:\n got %s\nwant %s", i, got[i], tc.want[i])
				}
				if strings.Contains(got[i], "hunter2") {
					t.Errorf("problem %d shows the password: %s", i, got[i])
				}
			}
		})
	}
}

// Days and units of bytes are read in every place that takes a duration or a size.
func TestDurationsInDaysAndSizesWithUnits(t *testing.T) {
	cfg := mustLoad(t, given{
		args: []string{"--reconcile-interval=1d"},
		env:  map[string]string{"SNAPSHOTD_SHUTDOWN_TIMEOUT": "1d12h"},
		yaml: one + `        retention: {keep_within: 7d, max_total_bytes: 2 TiB}
    watchdog_timeout: 1d
    lock_ttl: 30m
    leftover_age: &age 7d
    stream_limit: 1GB
    schedules: [{name: a, cron: '@every 7d', jitter: *age}]
    retention: {keep_within: 2w, recovery_window: 1w1d, max_total_bytes: 500GB}
`})
	const day = 24 * time.Hour
	c := cfg.Clusters[0]
	for name, d := range map[string]struct{ got, want time.Duration }{
		"reconcile_interval": {cfg.ReconcileInterval, day}, "shutdown_timeout": {cfg.ShutdownTimeout, 36 * time.Hour},
		"watchdog_timeout": {c.WatchdogTimeout, day}, "lock_ttl": {c.LockTTL, 30 * time.Minute}, "leftover_age": {c.LeftoverAge, 7 * day},
		"jitter": {c.Schedules[0].Jitter, 7 * day}, "keep_within": {c.Retention.KeepWithin, 14 * day},
		"recovery_window": {c.Retention.RecoveryWindow, 8 * day}, "the backend's": {c.Backends[0].Retention.KeepWithin, 7 * day},
	} {
		if d.got != d.want {
			t.Errorf("%s is %v, want %v", name, d.got, d.want)
		}
	}
	if got := c.Retention.MaxTotalBytes; got != 500e9 {
		t.Errorf("500GB are %d bytes", got)
	}
	if got := c.Backends[0].Retention.MaxTotalBytes; got != 2<<40 {
		t.Errorf("2 TiB are %d bytes", got)
	}
	if got, err := c.StreamLimit.PerSecond(); got != 1e9 || err != nil {
		t.Errorf("1GB are %d bytes per second, %v", got, err)
	}
}

func twoClusters(a, b, more string) string {
	return fmt.Sprintf(`node_name: n
clusters:
  - {name: %s, etcd: {endpoints: ["a:2379"]}, backends: [{name: l, url: "file:///srv"}]}
  - name: %s
    etcd: {endpoints: ["b:2379"]}
    backends:
      - name: l
        url: file:///srv
    %s
`, a, b, more)
}

func TestClustersMayShareABucket(t *testing.T) {
	mustLoad(t, given{yaml: twoClusters("a", "b", "")})
	mustLoad(t, given{yaml: twoClusters("a", "b", `prefix: ""`)})
}

// A link and the directory that it leads to are one place, also below it.
func TestOneDirectoryUnderTwoNamesIsOnePlace(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/real/below", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	load := func(a, b string) []string {
		return problems(t, given{args: []string{
			"--node-name=n", "--etcd-endpoints=a:2379", "--backend=a=file://" + dir + a, "--backend=b=file://" + dir + b,
		}})
	}
	for a, b := range map[string]string{"/real": "/link", "/link/below": "/real?prefix=below",
		"/real?prefix=new/": "/link?prefix=new"} {
		if got := load(a, b); len(got) != 1 || !strings.Contains(got[0], "is the same place as") {
			t.Errorf("%s and %s: %q", a, b, got)
		}
	}
	mustLoad(t, given{args: []string{
		"--node-name=n", "--etcd-endpoints=a:2379", "--backend=a=file://" + dir + "/real",
		"--backend=b=file://" + dir + "/link?prefix=below",
	}})
}

func TestTheJournalIsOffUntilItIsAskedFor(t *testing.T) {
	const cluster = "clusters: [{etcd: {endpoints: [http://e:2379]}, backends: [{name: l, url: 'file:///b'}]%s}]"
	load := func(journal string) (config.Journal, error) {
		cfg, err := load(t, given{yaml: fmt.Sprintf(cluster, journal)})
		if err != nil {
			return config.Journal{}, err
		}
		return cfg.Clusters[0].Journal, nil
	}
	if j, err := load(""); err != nil || j != (config.Journal{}) {
		t.Errorf("without it: %+v, %v", j, err)
	}
	want := config.Journal{Enabled: true, FlushInterval: 500 * time.Millisecond, UploadInterval: 9 * time.Second, MaxLocalBytes: 1 << 30}
	if j, err := load(", journal: {enabled: true}"); err != nil || j != want {
		t.Errorf("with its defaults: %+v, %v", j, err)
	}
	want.Window = 7 * 24 * time.Hour
	if j, err := load(", journal: {enabled: true, window: 7d}"); err != nil || j != want {
		t.Errorf("with a window: %+v, %v", j, err)
	}
	for journal, says := range map[string]string{
		"{window: 7d}":                                             "enabled",
		"{enabled: true, window: 0s}":                              "window: 0s is too short",
		"{enabled: true, window: 5s}":                              "window: 5s is too short; 1m0s is the least",
		"{enabled: true, window: a week}":                          "window",
		"{upload_interval: 20s}":                                   "enabled",
		"{enabled: true, flush_interval: 1ms}":                     "flush_interval: 1ms is too short",
		"{enabled: true, flush_interval: 1m}":                      "flush_interval: 1m0s is too long",
		"{enabled: true, upload_interval: 2d}":                     "upload_interval: 48h0m0s is too long",
		"{enabled: true, flush_interval: 5s, upload_interval: 2s}": "shorter than flush_interval",
		"{enabled: true, max_local_bytes: 1MiB}":                   "max_local_bytes: 1048576 is too little",
	} {
		if _, err := load(", journal: " + journal); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want it to say %q", journal, err, says)
		}
	}
}
