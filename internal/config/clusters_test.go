package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/snapshotd/snapshotd/internal/config"
)

// writeFiles writes files below a directory and returns the first one's name.
func writeFiles(tb testing.TB, files ...[2]string) string {
	tb.Helper()
	dir := tb.TempDir()
	for _, f := range files {
		name := filepath.Join(dir, f[0])
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(f[1]), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return filepath.Join(dir, files[0][0])
}

const withDefaults = `
node_name: n1
defaults:
  etcd:
    ca_cert: /ca.crt
    cert: /client.crt
    key: /client.key
  schedules: [{name: hourly, cron: "@hourly"}]
  retention: {keep_last: 3, keep_daily: 7}
  watchdog_timeout: 1m
  backends:
    - name: local
      url: file:///srv/etcd
clusters:
  - name: a
    etcd: {endpoints: ["https://a:2379"]}
  - name: b
    etcd: {endpoints: ["https://b:2379"], ca_cert: /other.crt}
    schedules: [{name: nightly, cron: "0 3 * * *"}]
    retention: {keep_last: 9}
    watchdog_timeout: 2m
`

// Ten thousand clusters are more than a mebibyte of configuration, which takes a second to check. It once took minutes.
func TestAFileHasTenThousandClusters(t *testing.T) {
	var doc strings.Builder
	doc.WriteString("node_name: n1\ndefaults:\n  backends: [{name: local, url: \"file:///backups\"}]\nclusters:\n")
	for i := range 10_000 {
		fmt.Fprintf(&doc, "  - name: c%05d\n    etcd: {endpoints: [\"https://etcd-%d.example.org:2379\", \"https://b:2379\"]}\n", i, i)
	}
	cfg := mustLoad(t, given{yaml: doc.String()})
	if n := len(cfg.Clusters); n != 10_000 || cfg.Clusters[n-1].Name != "c09999" {
		t.Errorf("%d clusters, the last one is %q", n, cfg.Clusters[n-1].Name)
	}
}

// A cluster has the defaults where it says nothing: mappings are merged, lists and values are replaced.
func TestClustersHaveTheDefaults(t *testing.T) {
	cfg := mustLoad(t, given{yaml: withDefaults})
	a, b := cfg.Clusters[0], cfg.Clusters[1]
	if a.Etcd.CACert != "/ca.crt" || a.Etcd.Endpoints[0] != "https://a:2379" || a.Schedules[0].Name != "hourly" ||
		a.Retention.KeepDaily != 7 || a.WatchdogTimeout != time.Minute || *a.Prefix != "a/" {
		t.Errorf("a is %+v", a)
	}
	if b.Etcd.CACert != "/other.crt" || b.Etcd.Key != "/client.key" || len(b.Schedules) != 1 || b.Schedules[0].Name != "nightly" ||
		b.Retention.KeepLast != 9 || b.Retention.KeepDaily != 7 || b.WatchdogTimeout != 2*time.Minute {
		t.Errorf("b is %+v", b)
	}
	var out bytes.Buffer
	if err := cfg.Write(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"ca_cert: /ca.crt # snapshotd.yaml:5", "ca_cert: /other.crt # snapshotd.yaml:18"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the effective configuration does not say %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "defaults:") {
		t.Errorf("the defaults are shown beside the clusters that have them:\n%s", out.String())
	}
}

func TestEachFileOfADirectoryIsACluster(t *testing.T) {
	main := "node_name: n1\nclusters_dir: clusters.d\n" + strings.SplitN(withDefaults, "\n", 3)[2]
	file := writeFiles(t, [2]string{"snapshotd.yaml", main},
		[2]string{"clusters.d/d.yaml", "etcd: {endpoints: ['https://d:2379']}\nprefix: other/\n"},
		[2]string{"clusters.d/c.yml", "name: named\netcd: {endpoints: ['https://c:2379']}\n"},
		[2]string{"clusters.d/.hidden.yaml", "what: ever"}, [2]string{"clusters.d/notes.txt", "what: ever"})
	cfg := mustLoad(t, given{args: []string{"--config", file}})
	var names []string
	for _, c := range cfg.Clusters {
		names = append(names, c.Name+" "+*c.Prefix+" "+c.Etcd.CACert)
	}
	if want := []string{"a a/ /ca.crt", "b b/ /other.crt", "named named/ /ca.crt", "d other/ /ca.crt"}; !slices.Equal(names, want) {
		t.Errorf("the clusters are %q, want %q", names, want)
	}
	if len(cfg.Files()) != 4 {
		t.Errorf("the files are %q", cfg.Files())
	}
	var out bytes.Buffer
	if err := cfg.Write(&out); err != nil || !strings.Contains(out.String(), "prefix: other/ # clusters.d/d.yaml:2") ||
		strings.Count(out.String(), "ca_cert: /ca.crt # snapshotd.yaml:") != 3 {
		t.Errorf("%v in\n%s", err, out.String())
	}
}

// A mistake is reported with the name of its file.
func TestProblemsOfClustersNameTheirFile(t *testing.T) {
	for name, c := range map[string]struct {
		main  string
		files [][2]string
		want  []string
	}{
		"unknown key": {"", [][2]string{{"clusters.d/a.yaml", "etcd: {endpoint: x}"}},
			[]string{"clusters.d/a.yaml:1: clusters[0].etcd.endpoint: unknown key"}},
		"wrong value": {"", [][2]string{{"clusters.d/a.yaml", "etcd: {endpoints: [\"https://a:2379\"]}\nlock_ttl: 1\nbackends: []"}},
			[]string{"clusters.d/a.yaml:2: clusters[0].lock_ttl"}},
		"invalid": {"", [][2]string{{"clusters.d/a.yaml", "name: ../a\netcd: {endpoints: [\"https://a:2379\"]}\nbackends: [{name: l, url: \"file:///x\"}]"}},
			[]string{"clusters.d/a.yaml:1: clusters[0].name"}},
		"no YAML": {"", [][2]string{{"clusters.d/a.yaml", "etcd: [\n"}}, []string{"clusters.d/a.yaml:"}},
		"empty":   {"", [][2]string{{"clusters.d/a.yaml", ""}}, []string{"clusters.d/a.yaml: is empty"}},
		"a name twice": {"", [][2]string{{"clusters.d/a.yaml", one2("a")}, {"clusters.d/b.yaml", "name: a\n" + one2("b")}},
			[]string{"clusters.d/b.yaml:1: clusters[1].name: \"a\" is the name of clusters[0] already"}},
		"no directory": {"", nil, []string{"snapshotd.yaml:2: clusters_dir:"}},
		"of the defaults": {"defaults: {lock_ttl: soon}\n", [][2]string{{"clusters.d/a.yaml", one2("a")}},
			[]string{"snapshotd.yaml:3: defaults.lock_ttl"}},
		"a name for all": {"defaults: {name: x}\n", [][2]string{{"clusters.d/a.yaml", one2("a")}},
			[]string{"snapshotd.yaml:3: defaults.name: cannot be the same for all clusters"}},
		"a default that is not valid": {"defaults: {compression: rar}\n", [][2]string{{"clusters.d/a.yaml", one2("a")}},
			[]string{"snapshotd.yaml:3: clusters[0].compression"}},
	} {
		t.Run(name, func(t *testing.T) {
			files := append([][2]string{{"snapshotd.yaml", "node_name: n1\nclusters_dir: clusters.d\n" + c.main}}, c.files...)
			got := problems(t, given{args: []string{"--config", writeFiles(t, files...)}})
			if len(got) != len(c.want) {
				t.Fatalf("the problems are %q, want %q", got, c.want)
			}
			for i, want := range c.want {
				if !strings.HasPrefix(got[i], want) {
					t.Errorf("problem %d is %q, want %q", i, got[i], want)
				}
			}
		})
	}
}

// one2 is a cluster with a place of its own.
func one2(name string) string {
	return fmt.Sprintf("etcd: {endpoints: [\"https://%s:2379\"]}\nbackends: [{name: l, url: \"file:///srv/%s\"}]\n", name, name)
}

// Everything that is printed to begin with, and every example of the deployment, is a valid file by the program and by
// the schema.
func TestExamplesAreValidByTheSchema(t *testing.T) {
	b, err := config.Schema()
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(b, &schema); err != nil {
		t.Fatal(err)
	}
	docs, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, documented, _ := strings.Cut(string(docs), "```yaml\n")
	documented, _, _ = strings.Cut(documented, "```")
	examples := map[string]string{"config init": string(config.Example), "docs": documented, "defaults": withDefaults,
		"bytes as numbers": one + "    stream_limit: 50000000\n    upload_limit: 65536\n" +
			"    retention: {max_total_bytes: 500000000000}\n    journal: {enabled: true, max_local_bytes: 1073741824}\n"}
	for _, name := range []string{"systemd/snapshotd.yaml", "systemd/three-servers.yaml"} {
		text, err := os.ReadFile("../../deploy/" + name)
		if err != nil {
			t.Fatal(err)
		}
		examples[name] = string(text)
	}
	for name, text := range examples {
		var doc any
		if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
			t.Fatal(err)
		}
		if wrong := violations(schema, schema, doc, ""); len(wrong) > 0 {
			t.Errorf("%s: %q", name, wrong)
		}
		mustLoad(t, given{yaml: text})
	}
	for text, want := range map[string]string{
		"listen_grpcs: x": ".listen_grpcs: unknown", "clusters: [{etcd: {user: [x]}}]": ".clusters[0].etcd.user: not string",
		"log: {level: loud}": ".log.level: loud", "defaults: {name: x}": ".defaults.name: unknown", "clusters: x": ".clusters: not array",
		"clusters: [{compression: rar}]": ".clusters[0].compression: rar", "allow_plaintext: perhaps": ".allow_plaintext: not boolean",
	} {
		var doc any
		if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
			t.Fatal(err)
		}
		if wrong := violations(schema, schema, doc, ""); !slices.Equal(wrong, []string{want}) {
			t.Errorf("%s: %q, want %q", text, wrong, want)
		}
	}
}

// violations holds a value against the part of JSON Schema that our schema uses.
func violations(root, schema map[string]any, value any, at string) []string {
	if ref, ok := schema["$ref"].(string); ok {
		schema = root["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
	}
	if !ofType(schema["type"], value) {
		return []string{fmt.Sprintf("%s: not %v", at, schema["type"])}
	}
	var wrong []string
	switch v := value.(type) {
	case map[string]any:
		properties, _ := schema["properties"].(map[string]any)
		for _, key := range slices.Sorted(maps.Keys(v)) {
			property, known := properties[key].(map[string]any)
			if !known {
				property, known = schema["additionalProperties"].(map[string]any)
			}
			if !known {
				wrong = append(wrong, at+"."+key+": unknown")
				continue
			}
			wrong = append(wrong, violations(root, property, v[key], at+"."+key)...)
		}
	case []any:
		for i, e := range v {
			wrong = append(wrong, violations(root, schema["items"].(map[string]any), e, fmt.Sprintf("%s[%d]", at, i))...)
		}
	default:
		if enum, ok := schema["enum"].([]any); ok && !slices.Contains(enum, value) {
			wrong = append(wrong, fmt.Sprintf("%s: %v", at, value))
		}
	}
	return wrong
}

func ofType(want, value any) bool {
	if several, ok := want.([]any); ok {
		return slices.ContainsFunc(several, func(w any) bool { return ofType(w, value) })
	}
	switch reflect.ValueOf(value).Kind() {
	case reflect.Map:
		return want == "object"
	case reflect.Slice:
		return want == "array"
	case reflect.Bool:
		return want == "boolean"
	case reflect.Int:
		return want == "integer"
	}
	return want == "string"
}

// The keys that need a restart are found by comparison, and those that take effect at once are not among them.
func TestKeysThatNeedARestartAreNamed(t *testing.T) {
	before := mustLoad(t, given{yaml: one})
	after := mustLoad(t, given{yaml: "log: {level: debug, format: json}\nlisten_http: 127.0.0.1:9\n" +
		"limits: {streams: 7, handshake_timeout: 7s}\naccess: {rules: [{role: admin, local: true}]}\n" +
		one + "      - {name: other, url: file:///srv/other}\n"})
	if got := before.AfterRestart(after); !slices.Equal(got, []string{"listen_http", "limits.handshake_timeout", "log.format"}) {
		t.Errorf("a restart is needed for %q", got)
	}
	if got := before.Settings(after); !slices.Equal(got, []string{"limits.streams", "log.level"}) {
		t.Errorf("the settings that have changed are %q", got)
	}
	same := mustLoad(t, given{yaml: one})
	if got := slices.Concat(before.AfterRestart(same), before.Settings(same)); len(got) != 0 {
		t.Errorf("nothing has changed but %q", got)
	}
	var out bytes.Buffer
	if err := before.WriteReload(&out); err != nil || !strings.Contains(out.String(), "# in effect after a restart: listen_grpc, ") {
		t.Errorf("%v, %s", err, out.String())
	}
}

func TestTheURLOfTracesHasAPlaceForTheID(t *testing.T) {
	mustLoad(t, given{yaml: "trace_url: https://jaeger.example/trace/{trace_id}\n" + one})
	mustLoad(t, given{yaml: "trace_url: https://jaeger.example/trace/{trace_id}?uiEmbed=v0\n" + one})
	for _, wrong := range []string{
		"https://jaeger.example/", "jaeger/{trace_id}", "javascript:alert('{trace_id}')",
		"https://u:hunter2@jaeger.example/trace/{trace_id}", "https://hunter2@jaeger.example/trace/{trace_id}",
		"https://jaeger.example/trace/{trace_id}?access_token=hunter2", "https://u:1/hunter2@jaeger.example/{trace_id}",
	} {
		got := problems(t, given{yaml: fmt.Sprintf("trace_url: %q\n", wrong) + one})
		if len(got) != 1 || !strings.Contains(got[0], "snapshotd.yaml:1: trace_url") ||
			strings.Contains(got[0], "hunter2") {
			t.Errorf("%s: %q", wrong, got)
		}
	}
}
