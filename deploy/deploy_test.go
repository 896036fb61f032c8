package deploy_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/snapshotd/snapshotd/deploy"
	"github.com/snapshotd/snapshotd/internal/cli"
)

// exported returns the metrics that telemetry pins as those of the service, the series of histograms included.
func exported(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, file := range []string{"own.golden", "six.golden", "six-k3s.golden"} {
		for line := range strings.Lines(read(t, "..", "telemetry", "testdata", file)) {
			if !strings.HasPrefix(line, "#") {
				names[line[:strings.IndexAny(line, "{ ")]] = true
			}
		}
	}
	return names
}

// The metrics of the service in a query: names, also in quotes, and with the dashboard's prefix.
var metric = regexp.MustCompile(`\b(?:k3s_)?(?:etcd_snapshot|snapshotd)_[a-z0-9_]+`)

func TestEveryMetricIsOneThatTheServiceExports(t *testing.T) {
	names := exported(t)
	alerts, records, err := deploy.Rules()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		check(t, names, map[string]bool{}, r)
		for i := range alerts {
			alerts[i].Expr = strings.ReplaceAll(alerts[i].Expr, r.Where, r.Expr)
		}
	}
	panels, err := deploy.Panels()
	if err != nil {
		t.Fatal(err)
	}
	if len(alerts) < 10 || len(panels) < 30 {
		t.Errorf("there are %d alerts and %d queries of the dashboard", len(alerts), len(panels))
	}
	used := map[string]bool{}
	for _, q := range alerts {
		check(t, names, used, q)
	}
	for _, q := range panels {
		check(t, names, used, q.Variables("", "1d"))
		check(t, names, used, q.Variables("k3s_", "1d"))
		if strings.Contains(q.Variables("", "1d").Expr, "$") {
			t.Errorf("%s has a variable that is not known here: %s", q.Where, q.Expr)
		}
	}
	for name := range names {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		if !used[name] && !used[base+"_bucket"] && !used[base+"_count"] {
			t.Errorf("neither an alert nor the dashboard shows %s", name)
		}
	}
}

func check(t *testing.T, names, used map[string]bool, q deploy.Query) {
	t.Helper()
	for _, name := range metric.FindAllString(q.Text, -1) {
		used[name] = true
	}
	for _, name := range metric.FindAllString(q.Expr, -1) {
		used[name] = true
		if !names[name] {
			t.Errorf("%s: the service exports no %s", q.Where, name)
		}
	}
}

func TestEveryAlertIsExplained(t *testing.T) {
	doc := read(t, "..", "docs", "metrics.md")
	alerts, records, err := deploy.Rules()
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range slices.Concat(alerts, records) {
		if !strings.Contains(doc, "\n| `"+q.Where+"` |") {
			t.Errorf("docs/metrics.md says nothing of %s", q.Where)
		}
	}
}

// Whoever looks at the dashboard sees each alert that fires.
func TestTheDashboardShowsEveryAlert(t *testing.T) {
	alerts, _, err := deploy.Rules()
	if err != nil {
		t.Fatal(err)
	}
	panels, err := deploy.Panels()
	if err != nil {
		t.Fatal(err)
	}
	var shown []*regexp.Regexp
	for _, q := range panels {
		if m := regexp.MustCompile(`^ALERTS\{alertname=~"([^"]*)"\}$`).FindStringSubmatch(q.Expr); m != nil {
			shown = append(shown, regexp.MustCompile("^(?:"+m[1]+")$")) // Prometheus anchors it so
		}
	}
	for _, q := range alerts {
		if !slices.ContainsFunc(shown, func(names *regexp.Regexp) bool { return names.MatchString(q.Where) }) {
			t.Errorf("no panel shows %s", q.Where)
		}
	}
}

// A service has several clusters: without one, most commands are refused, and --from looks at the wrong place.
func TestTheCommandsOfAnAlertNameItsCluster(t *testing.T) {
	found := regexp.MustCompile(`"snapshotd [^"]*"`).FindAllString(read(t, "prometheus", "rules.yaml"), -1)
	if len(found) < 20 {
		t.Errorf("only %d commands were found", len(found))
	}
	for _, command := range found {
		if !strings.Contains(command, "--cluster {{ $labels.cluster }}") {
			t.Errorf("%s names no cluster", command)
		}
	}
}

// promtool runs these tests (e2e, TestAlertsFireWhenTheyShould); here it is shown that they leave out no rule. An alert
// names the cluster, unless it is about the whole service.
func TestEveryRuleIsSeenAtWork(t *testing.T) {
	alerts, records, err := deploy.Rules()
	if err != nil {
		t.Fatal(err)
	}
	samples, err := deploy.SeenFiring()
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range alerts {
		i := slices.IndexFunc(samples, func(s string) bool {
			return strings.Contains(s, `alertname="`+q.Where+`"`) && strings.Contains(s, `alertstate="firing"`)
		})
		switch {
		case i < 0:
			t.Errorf("no test shows how %s fires", q.Where)
		case !strings.Contains(samples[i], "cluster=") && !strings.HasPrefix(q.Where, "Snapshotd"):
			t.Errorf("%s names no cluster: %s", q.Where, samples[i])
		}
	}
	for _, q := range records {
		if !slices.ContainsFunc(samples, func(s string) bool { return strings.HasPrefix(s, q.Where+"{") }) {
			t.Errorf("no test shows what %s records", q.Where)
		}
	}
}

// The units and manifests start the program with arguments that it has, and configurations that it takes.
func TestTheProgramIsStartedAsItCanBe(t *testing.T) {
	for _, start := range []struct {
		args   []string
		config string // where the arguments' --config is here
	}{
		{unitArgs(t), filepath.Join("systemd", "snapshotd.yaml")},
		{unitArgs(t), filepath.Join("systemd", "three-servers.yaml")},
		{unitArgs(t), migration(t)},
		{podArgs(t), filepath.Join("kubernetes", "snapshotd.yaml")},
	} {
		i := slices.Index(start.args, "--config")
		if len(start.args) < 3 || start.args[0] != "serve" || i < 0 {
			t.Fatalf("the arguments are %q", start.args)
		}
		args := slices.Concat([]string{"config", "check"}, start.args[1:])
		args[i+2] = start.config
		var out, said bytes.Buffer
		sys := cli.System{Stdout: &out, Stderr: &said, Getenv: func(string) string { return "" }, Now: time.Now}
		if code := cli.Run(t.Context(), sys, args); code != 0 {
			t.Errorf("snapshotd %q: exit code %d\n%s", args, code, said.String())
		}
	}
}

// migration writes the configuration of docs/migrating-from-k3s.md to a file.
func migration(t *testing.T) string {
	t.Helper()
	_, doc, _ := strings.Cut(read(t, "..", "docs", "migrating-from-k3s.md"), "```yaml\n")
	doc, _, ok := strings.Cut(doc, "```")
	if !ok {
		t.Fatal("the page has no configuration")
	}
	path := filepath.Join(t.TempDir(), "snapshotd.yaml")
	if err := os.WriteFile(path, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The configuration for three servers differs from the other one only in the settings of each server.
func TestTheConfigurationForThreeServers(t *testing.T) {
	one, three := read(t, "systemd", "snapshotd.yaml"), read(t, "systemd", "three-servers.yaml")
	setting := regexp.MustCompile(`(?m)^ *(- )?\w+:[^#\n]*`)
	for _, s := range setting.FindAllString(one, -1) {
		if !strings.Contains(three, strings.TrimRight(s, " ")) {
			t.Errorf("three-servers.yaml has no %q", s)
		}
	}
	if !strings.Contains(three, "        node_local: true") {
		t.Error("three-servers.yaml has no directory for each server")
	}
}

// The directories of the unit, where the configuration's paths must be.
func TestTheUnitAndItsConfigurationAgree(t *testing.T) {
	unit, config := read(t, "systemd", "snapshotd.service"), read(t, "systemd", "snapshotd.yaml")
	const dir = "/run/credentials/snapshotd.service/"
	credentials := regexp.MustCompile(dir+`\w[\w.-]*`).FindAllString(unit+config, -1)
	if len(credentials) == 0 {
		t.Error("the configuration names no file of " + dir)
	}
	for _, m := range credentials {
		if !strings.Contains(unit, "\nLoadCredential="+strings.TrimPrefix(m, dir)+":") {
			t.Errorf("the unit does not load %s", m)
		}
	}
	for _, want := range []string{"\nReadWritePaths=-/var/backups/etcd\n", "\nStateDirectory=snapshotd\n"} {
		if !strings.Contains(unit, want) {
			t.Errorf("the unit has no %q", want)
		}
	}
	for _, want := range []string{"url: file:///var/backups/etcd", "data_dir: /var/lib/snapshotd"} {
		if !strings.Contains(config, want) {
			t.Errorf("the configuration has no %q", want)
		}
	}
}

// The names and numbers that one file takes from another: Kubernetes accepts a port that does not exist.
func TestTheManifestsAgree(t *testing.T) {
	for file, want := range map[string][]string{
		"snapshotd.yaml": {"listen_http: 0.0.0.0:7380", "listen_grpc: 127.0.0.1:", "data_dir: /var/lib/snapshotd",
			": /etc/snapshotd/etcd/ca.crt"},
		"statefulset.yaml": {"- name: http\n              containerPort: 7380", "mountPath: /var/lib/snapshotd",
			"mountPath: /etc/snapshotd/etcd", "secretName: snapshotd-etcd", "secretName: snapshotd-s3",
			"value: /etc/snapshotd/s3/credentials"},
		"service.yaml":       {"targetPort: http"},
		"networkpolicy.yaml": {"port: http,"},
		filepath.Join("..", "prometheus", "scrape-kubernetes.yaml"): {"regex: snapshotd;http", "names: [snapshotd]"},
		"secrets.example.yaml": {"name: snapshotd-etcd", "ca.crt:", "client.crt:", "client.key:", "name: snapshotd-s3",
			"credentials:"},
	} {
		for _, w := range want {
			if !strings.Contains(read(t, "kubernetes", file), w) {
				t.Errorf("%s has no %q", file, w)
			}
		}
	}
	probes := regexp.MustCompile(`httpGet: {path: /(?:readyz|healthz), port: (\w+)}`).
		FindAllStringSubmatch(read(t, "kubernetes", "statefulset.yaml"), -1)
	if len(probes) < 2 {
		t.Errorf("there are %d probes", len(probes))
	}
	for _, probe := range probes {
		if probe[1] != "http" {
			t.Errorf("a probe asks port %s", probe[1])
		}
	}
}

// systemd itself looks at the unit, where there is one.
func TestSystemdHasNoComplaint(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze (Debian's package systemd), and so nothing that would take the unit")
	}
	unit := filepath.Join(t.TempDir(), "snapshotd.service")
	there := strings.ReplaceAll(read(t, "systemd", "snapshotd.service"), "=/usr/local/bin/snapshotd", "=/bin/true")
	if err := os.WriteFile(unit, []byte(there), 0o600); err != nil {
		t.Fatal(err)
	}
	// It exits with 0 although it warns of a setting that it does not know.
	out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", unit).CombinedOutput()
	if err != nil || strings.Contains(string(out), "snapshotd.service:") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	out, err = exec.CommandContext(t.Context(), analyze, "security", "--offline=yes", "--threshold=20",
		unit).CombinedOutput()
	if err != nil && !strings.Contains(string(out), "unrecognized option") { // before systemd 250
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}

// unitArgs are the arguments in the unit.
func unitArgs(t *testing.T) []string {
	t.Helper()
	for line := range strings.Lines(read(t, "systemd", "snapshotd.service")) {
		if command, ok := strings.CutPrefix(line, "ExecStart=/usr/local/bin/snapshotd "); ok {
			return strings.Fields(command)
		}
	}
	t.Fatal("the unit starts nothing")
	return nil
}

// podArgs are the arguments of the container.
func podArgs(t *testing.T) []string {
	t.Helper()
	var set struct {
		Spec struct {
			Template struct {
				Spec struct {
					Containers []struct{ Args []string }
				}
			}
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, "kubernetes", "statefulset.yaml")), &set); err != nil {
		t.Fatal(err)
	}
	if n := len(set.Spec.Template.Spec.Containers); n != 1 {
		t.Fatalf("there are %d containers", n)
	}
	return set.Spec.Template.Spec.Containers[0].Args
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A page that is wrapped can make one line of two commands.
func TestTheCommandsOfThePagesCanBePasted(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join("..", "docs", "*.md"))
	if err != nil || len(pages) < 10 {
		t.Fatalf("the pages are %q, %v", pages, err)
	}
	second := regexp.MustCompile(`[^|&;(\x60"'=\s-] +((?:kubectl|helm|openssl|etcdctl|etcdutl|systemctl|age-keygen) [a-z-]+.*)`)
	for _, page := range append(pages, filepath.Join("..", "README.md")) {
		fenced := false
		for i, line := range strings.Split(read(t, page), "\n") {
			if strings.HasPrefix(strings.TrimSpace(line), "```") {
				fenced = !fenced
				continue
			}
			if !fenced && !strings.HasPrefix(line, "    ") {
				continue
			}
			line, _, _ = strings.Cut(line, " # ")
			text := strings.TrimSpace(line)
			if strings.HasPrefix(text, "#") {
				continue
			}
			if m := second.FindStringSubmatch(text); m != nil && !strings.HasPrefix(text, "sudo ") {
				t.Errorf("%s:%d: %q is behind another command", page, i+1, m[1])
			}
		}
	}
}

// The first row of the dashboard must say how it is now. A counter says what has happened, a limit that fits one
// schedule is wrong for another, and a tile that is filtered away hides the worst cluster.
func TestTheTilesOfTheDashboardTellHowItIsNow(t *testing.T) {
	panels, err := deploy.Panels()
	if err != nil {
		t.Fatal(err)
	}
	tiles := map[string]string{}
	for _, q := range panels {
		for _, title := range []string{"Last good save", "Last proven restore", "Damaged"} {
			if strings.HasPrefix(q.Where, title) {
				tiles[title] = q.Expr
			}
		}
	}
	for title, want := range map[string]string{
		"Last good save": "snapshotd_schedule_interval_seconds", "Damaged": "snapshotd_snapshots_damaged",
		"Last proven restore": "snapshotd_last_proven_restore_timestamp_seconds",
	} {
		expr := tiles[title]
		if !strings.Contains(expr, want) || strings.Contains(expr, "> 0") || strings.Contains(expr, "increase(") {
			t.Errorf("%s is %q", title, expr)
		}
	}
}
