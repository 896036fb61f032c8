//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// chart is the chart of Helm, with the tools that look at it.
type chart struct {
	helm, judge string
	dir         string
	definitions string // of the resources of the Prometheus operator
}

func newChart(t *testing.T) *chart {
	t.Helper()
	return &chart{
		helm:        testenv.Tool(t, "helm", "helm.sh/helm/v4/cmd/helm"),
		judge:       testenv.Tool(t, "kubernetes", "github.com/snapshotd/snapshotd/tools/kubernetes"),
		dir:         filepath.Join(testenv.Root(), "deploy", "helm", "snapshotd"),
		definitions: definitions(t),
	}
}

// definitions returns the directory of the definitions of custom resources in the Prometheus operator's module.
func definitions(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", "github.com/prometheus-operator/prometheus-operator")
	cmd.Dir = filepath.Join(testenv.Root(), "tools", "kubernetes")
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
	out, err := cmd.Output()
	var module struct{ Dir string }
	if err != nil || json.Unmarshal(out, &module) != nil || module.Dir == "" {
		t.Fatalf("find the Prometheus operator: %v\n%s", err, out)
	}
	return filepath.Join(module.Dir, "example", "prometheus-operator-crd")
}

// values is the path of a file of values.
func values(name string) string {
	return filepath.Join(testenv.Root(), "deploy", "helm", "testdata", name+".yaml")
}

// run runs helm with a home of its own, and returns both of its outputs.
func (c *chart) run(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	home := t.TempDir()
	cmd := exec.CommandContext(t.Context(), c.helm, args...)
	cmd.Env = append(os.Environ(), "HOME="+home, "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home, "KUBECONFIG="+home+"/none")
	var out, said strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &said
	err = cmd.Run()
	return out.String(), said.String(), err
}

// object is a manifest; only parts of it are read.
type object struct {
	Kind     string
	Metadata struct {
		Name, Namespace string
		Labels          map[string]string
	}
	Spec map[string]any
	Data map[string]string
}

// rendered returns the objects that the chart makes of values, after the API server's own code has taken them.
func (c *chart) rendered(t *testing.T, args ...string) map[string]object {
	t.Helper()
	out, said, err := c.run(t, append([]string{"template", "backup", c.dir, "--namespace", "snapshotd"}, args...)...)
	if err != nil {
		t.Fatalf("helm template: %v\n%s", err, said)
	}
	path := filepath.Join(t.TempDir(), "all.yaml")
	if err := os.WriteFile(path, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	judged := exec.CommandContext(t.Context(), c.judge, "-definitions", c.definitions, path)
	if b, err := judged.CombinedOutput(); err != nil {
		t.Fatalf("Kubernetes does not take the manifests: %v\n%s\n%s", err, b, out)
	}
	all := map[string]object{}
	for docs := yaml.NewDecoder(strings.NewReader(out)); ; {
		var o object
		if docs.Decode(&o) != nil {
			return all
		}
		if o.Metadata.Namespace != "snapshotd" || !strings.Contains(o.Metadata.Name, "backup") {
			t.Errorf("%s is %s in the namespace %q", o.Kind, o.Metadata.Name, o.Metadata.Namespace)
		}
		all[o.Kind] = o
	}
}

func TestTheChartIsWhatHelmAndKubernetesWant(t *testing.T) {
	c := newChart(t)
	base := []string{"ConfigMap", "Service", "StatefulSet"}
	for name, further := range map[string][]string{
		"small":  {"PodDisruptionBudget", "ServiceAccount"},
		"memory": nil,
		"large":  {"NetworkPolicy", "PodDisruptionBudget", "PodMonitor", "PrometheusRule", "ServiceAccount"},
	} {
		t.Run(name, func(t *testing.T) {
			if out, said, err := c.run(t, "lint", "--strict", c.dir, "--values", values(name)); err != nil {
				t.Fatalf("helm lint: %v\n%s%s", err, out, said)
			}
			all := c.rendered(t, "--values", values(name))
			kinds := make([]string, 0, len(all))
			for kind := range all {
				kinds = append(kinds, kind)
			}
			slices.Sort(kinds)
			if want := slices.Sorted(slices.Values(slices.Concat(base, further))); !slices.Equal(kinds, want) {
				t.Errorf("there are %q, want %q", kinds, want)
			}
			config := filepath.Join(t.TempDir(), "snapshotd.yaml")
			if err := os.WriteFile(config, []byte(all["ConfigMap"].Data["snapshotd.yaml"]), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.CommandContext(t.Context(), program(t, ""), "config", "check", "--config", config).CombinedOutput(); err != nil {
				t.Errorf("the service does not take the configuration: %v\n%s", err, out)
			}
		})
	}
}

// rules are those of deploy/prometheus/rules.yaml for a job, without some alerts.
func rules(t *testing.T, job string, without ...string) map[string]any {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(testenv.Root(), "deploy", "prometheus", "rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := yaml.Unmarshal([]byte(strings.ReplaceAll(string(b), `{job="snapshotd"}`, `{job="`+job+`"}`)), &all); err != nil {
		t.Fatal(err)
	}
	group := all["groups"].([]any)[0].(map[string]any)
	group["rules"] = slices.DeleteFunc(group["rules"].([]any), func(r any) bool {
		name, _ := r.(map[string]any)["alert"].(string)
		return slices.Contains(without, name)
	})
	return all
}

// Two services may have clusters of the same name, and one that is gone is missed although the other one answers.
func TestTheChartHasTheRulesThatAreTested(t *testing.T) {
	c := newChart(t)
	for _, tc := range []struct {
		set, job string
		without  []string
	}{
		{"replicas=3", "snapshotd/backup-snapshotd", nil},
		{"podMonitor.job=etcd-west", "etcd-west", nil},
		{"prometheusRule.disabled={SnapshotdDown,EtcdSnapshotNotProven}", "snapshotd/backup-snapshotd",
			[]string{"SnapshotdDown", "EtcdSnapshotNotProven"}},
	} {
		all := c.rendered(t, "--values", values("large"), "--set", tc.set)
		if got, want := all["PrometheusRule"].Spec, rules(t, tc.job, tc.without...); !reflect.DeepEqual(got, want) {
			t.Errorf("--set %s: the rules are\n%v, want\n%v", tc.set, got, want)
		}
		if got := endpoint(t, all)["relabelings"].([]any)[1]; !reflect.DeepEqual(got, map[string]any{"targetLabel": "job", "replacement": tc.job}) {
			t.Errorf("--set %s: the PodMonitor sets %v, and the rules look for %s", tc.set, got, tc.job)
		}
	}
	for _, file := range []string{"prometheusrule.yaml", "podmonitor.yaml"} {
		path := filepath.Join(testenv.Root(), "deploy", "prometheus", file)
		if out, err := exec.CommandContext(t.Context(), c.judge, "-definitions", c.definitions, path).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
}

// endpoint is the one endpoint of the PodMonitor.
func endpoint(t *testing.T, all map[string]object) map[string]any {
	t.Helper()
	endpoints, _ := all["PodMonitor"].Spec["podMetricsEndpoints"].([]any)
	if len(endpoints) != 1 {
		t.Fatalf("the PodMonitor has the endpoints %v", endpoints)
	}
	return endpoints[0].(map[string]any)
}

// Settings of the endpoint that the chart has, too, are there once, and relabelings are added.
func TestTheEndpointOfThePodMonitorIsAsTheValuesSay(t *testing.T) {
	c := newChart(t)
	got := endpoint(t, c.rendered(t, "--values", values("large"), "--set-json", `podMonitor.endpoint={"interval": "7s", "scheme": "http", `+
		`"honorLabels": true, "relabelings": [{"targetLabel": "team", "replacement": "platform"}]}`))
	relabelings, _ := got["relabelings"].([]any)
	if got["interval"] != "7s" || got["scheme"] != "http" || got["honorLabels"] != true || got["port"] != "http" || len(relabelings) != 3 ||
		!reflect.DeepEqual(relabelings[2], map[string]any{"targetLabel": "team", "replacement": "platform"}) {
		t.Errorf("the endpoint is %v", got)
	}
}

// Kubernetes kills no pod whose calls still have time.
func TestTheChartGivesAPodTheTimeOfItsCalls(t *testing.T) {
	c := newChart(t)
	for timeout, want := range map[string]int{"": 60, "1m30s": 130} {
		pod, _ := c.rendered(t, "--values", values("small"), "--set", "config.shutdown_timeout="+timeout)["StatefulSet"].Spec["template"].(map[string]any)
		if got := pod["spec"].(map[string]any)["terminationGracePeriodSeconds"]; got != want {
			t.Errorf("with the shutdown_timeout %q, a pod has %v s, want %d", timeout, got, want)
		}
	}
}

// The clusters may all be in files of their own.
func TestTheChartTakesADirectoryOfClusters(t *testing.T) {
	c := newChart(t)
	args := []string{"--values", values("small"), "--set-json", `config.clusters=[]`, "--set", "config.clusters_dir=/etc/snapshotd/clusters"}
	if got := c.rendered(t, args...)["ConfigMap"].Data["snapshotd.yaml"]; !strings.Contains(got, "clusters_dir: /etc/snapshotd/clusters\n") {
		t.Errorf("the configuration is\n%s", got)
	}
	notes, said, err := c.run(t, append([]string{"install", "backup", c.dir, "--dry-run=client"}, args...)...)
	if err != nil || !strings.Contains(notes, "etcd: those in /etc/snapshotd/clusters.\n") || !strings.Contains(notes, " save --cluster NAME\n") {
		t.Errorf("the notes: %v\n%s%s", err, notes, said)
	}
}

// A changed configuration makes new pods, or none when the service is to apply it itself.
func TestTheChartRollsAChangedConfigurationOut(t *testing.T) {
	c := newChart(t)
	for _, tc := range []struct {
		restart string
		differ  bool
	}{{"true", true}, {"false", false}} {
		args := []string{"--values", values("small"), "--set", "restartOnConfigChange=" + tc.restart}
		before := c.rendered(t, args...)["StatefulSet"].Spec["template"]
		after := c.rendered(t, append(args, "--set", "config.reconcile_interval=5m")...)["StatefulSet"].Spec["template"]
		if differ := !reflect.DeepEqual(before, after); differ != tc.differ {
			t.Errorf("with restartOnConfigChange=%s, the pods differ: %v, want %v", tc.restart, differ, tc.differ)
		}
	}
}

// Values that would make a service that does not work, or is open to everyone, are refused with the key.
func TestTheChartRefusesValuesThatCannotWork(t *testing.T) {
	c := newChart(t)
	for set, want := range map[string]string{
		"replica=3":                         "replica",
		"config.reconcile_intervall=5m":     "reconcile_intervall",
		"config.clusters=null":              "clusters",
		"config.defaults.etcd.password=x":   "password",
		"config.listen_http=127.0.0.1:7380": "config.listen_http is on loopback",
		"config.listen_http=0.0.0.0:0":      "has no port",
		"grpc.enabled=true":                 "set config.tls",
		"config.listen_grpc=0.0.0.0:7379":   "set config.tls",
		"config.access.health=viewer":       "config.access.health",
		"config.node_name=node-1":           "config.node_name",
		"config.shutdown_timeout=1d":        "config.shutdown_timeout",
		"podMonitor.job=a b":                "job",
		"prometheusRule.enabled=true,prometheusRule.disabled={SnapshotdUp}": `no alert "SnapshotdUp"`,
		// TLS alone asks nobody who they are.
		"config.listen_grpc=0.0.0.0:7379,config.tls.cert=/tls.crt,config.tls.key=/tls.key":                    "set config.tls.client_ca or config.access",
		"grpc.enabled=true,config.listen_grpc=:7379,config.tls.cert=/tls.crt,config.tls.key=/tls.key":         "set config.tls.client_ca or config.access",
		"grpc.enabled=true,config.tls.cert=/tls.crt,config.tls.key=/tls.key,config.tls.client_ca=/tls/ca.crt": "set config.listen_grpc to",
		"secrets.data.secretName=x":                                "data",
		"networkPolicy.enabled=true,networkPolicy.prometheus=null": "networkPolicy.prometheus",
	} {
		_, said, err := c.run(t, "template", "backup", c.dir, "--values", values("small"), "--set", set)
		if err == nil || !strings.Contains(said, want) {
			t.Errorf("--set %s: %v, want an error about %q:\n%s", set, err, want, said)
		}
	}
	// Nothing is there to be saved before someone says what.
	if _, said, err := c.run(t, "template", "backup", c.dir, "--set", "image.repository=x"); err == nil ||
		!strings.Contains(said, "config.clusters is empty") {
		t.Errorf("without clusters: %v\n%s", err, said)
	}
}

// The commands in the notes have the flags without which the service does not know the caller.
func TestTheNotesOfTheChartHaveTheFlagsOfTheCommands(t *testing.T) {
	c := newChart(t)
	for name, tc := range map[string]struct {
		values, set string
		flags       string
	}{
		"loopback":            {"small", "replicas=2", ""},
		"TLS":                 {"small", "config.tls.cert=/tls/tls.crt,config.tls.key=/tls/tls.key", " --cacert CA"},
		"client certificates": {"large", "replicas=2", " --cacert CA --cert CERT --key KEY"},
		"a socket":            {"small", "config.listen_grpc=unix:///run/s.sock?mode=0660", " --addr unix:///run/s.sock"},
	} {
		notes, said, err := c.run(t, "install", "backup", c.dir, "--dry-run=client", "--namespace", "snapshotd",
			"--values", values(tc.values), "--set", tc.set)
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, said)
		}
		for _, want := range []string{" -- snapshotd status" + tc.flags + "\n", " -- snapshotd save" + tc.flags + " --cluster production\n"} {
			if !strings.Contains(notes, want) {
				t.Errorf("%s: the notes do not have %q", name, want)
			}
		}
		if strings.Contains(notes, "config.tls is set") != strings.Contains(tc.flags, "--cacert") {
			t.Errorf("%s: the notes explain flags that they do not have, or the other way round", name)
		}
	}
}
