//go:build e2e

package e2e

import (
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/deploy"
	"github.com/snapshotd/snapshotd/internal/testenv"
)

// promtool runs promtool in deploy/prometheus and returns its output.
func promtool(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), testenv.Tool(t, "prometheus",
		"github.com/prometheus/prometheus/cmd/promtool"), args...)
	cmd.Dir = filepath.Join(testenv.Root(), "deploy", "prometheus")
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestAlertsFireWhenTheyShould lets promtool look at the rules and run their tests.
func TestAlertsFireWhenTheyShould(t *testing.T) {
	for _, args := range [][]string{
		{"check", "rules", "--lint=all", "--lint-fatal", "rules.yaml"},
		{"test", "rules", "rules_test.yaml"},
	} {
		if out, err := promtool(t, "", args...); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}

// TestPrometheusTakesTheConfiguration hands the samples to Prometheus as their heads say.
func TestPrometheusTakesTheConfiguration(t *testing.T) {
	for _, scrape := range []string{"scrape.yaml", "scrape-kubernetes.yaml"} {
		dir := filepath.Join(testenv.Root(), "deploy", "prometheus")
		config := filepath.Join(t.TempDir(), "prometheus.yml")
		content := fmt.Sprintf("rule_files: [%s/rules.yaml]\nscrape_config_files: [%s/%s]\n", dir, dir, scrape)
		if err := os.WriteFile(config, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := promtool(t, "", "check", "config", "--lint=all", "--lint-fatal", config); err != nil {
			t.Errorf("promtool check config with %s: %v\n%s", scrape, err, out)
		}
	}
}

// TestPrometheusShowsAServiceAtWork scrapes a service of which S3 is down, as the samples say it is done, under our
// names and under those of K3s. Alerts fire, and every panel of the dashboard shows something: the service has a journal,
// and a client certificate for its etcd.
func TestPrometheusShowsAServiceAtWork(t *testing.T) {
	for _, prefix := range []string{"", "k3s_"} {
		t.Run("prefix "+prefix, func(t *testing.T) {
			t.Parallel() // the journal is proven after a minute
			w := newWorld(t, 0)
			s := start(t, w.options(), "--config", w.shown(t), "--metrics-prefix", prefix)
			p := testenv.StartPrometheus(t, prometheusConfig(t, s.http, prefix))
			for _, expr := range []string{
				"increase(" + prefix + `etcd_snapshot_save_s3_duration_seconds_count{status="success"}[1m]) > 0`,
				"snapshotd_journal_proven_timestamp_seconds > 0",
				"snapshotd_journal_lacking >= 0", // both after a minute
			} {
				eventually(t, "Prometheus sees "+expr, func() bool {
					values, err := p.Query(expr)
					return err == nil && len(values) > 0
				})
			}
			s.must("verify", "latest", "--level", "drill")
			w.s3.Stop()
			firing := map[string]bool{"EtcdSnapshotFailed": true, "EtcdSnapshotCatalogDiffers": true}
			eventually(t, "these alerts fire and no others", func() bool { return maps.Equal(firing, firingAlerts(t, p)) })
			var blank []string
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("without a number: %q", blank)
				}
			})
			eventually(t, "every panel shows something", func() bool {
				blank = empty(t, p, prefix)
				return len(blank) == 0
			})
		})
	}
}

// shown writes the configuration of a service that has everything that the dashboard shows.
func (w *world) shown(t *testing.T) string {
	t.Helper()
	front := startTLS(t, strings.TrimPrefix(w.etcd.Endpoints()[0], "http://"))
	return writeConfig(t, `
reconcile_interval: 1s
clusters:
  - etcd: {endpoints: ["https://%[1]s"], ca_cert: %[2]s/ca.crt, cert: %[2]s/client.crt, key: %[2]s/client.key}
    schedules: [{name: often, cron: "@every 2s"}]
    scrub: {cron: "0 0 1 1 *", share: 1}
    journal: {enabled: true, upload_interval: 1s}
    backends: [{name: local, url: "file://%[3]s"}, {name: s3, url: %[4]q}]
`, front.addr, front.authority.dir, w.dir, w.s3URL(""))
}

// prometheusConfig is a configuration with the samples, of which the address and the prefix are edited, and the rules also
// by the caller.
func prometheusConfig(t *testing.T, addr, prefix string, rules ...func(string) string) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, edits ...func(string) string) {
		content, err := os.ReadFile(filepath.Join(testenv.Root(), "deploy", "prometheus", name))
		if err != nil {
			t.Fatal(err)
		}
		text := string(content)
		for _, edit := range edits {
			text = edit(text)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("scrape.yaml", func(s string) string { return strings.ReplaceAll(s, "127.0.0.1:7380", addr) })
	write("rules.yaml", append(rules, func(s string) string {
		return regexp.MustCompile(`\betcd_snapshot_`).ReplaceAllString(s, prefix+"$0")
	})...)
	return fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nscrape_config_files: "+
		"[%s/scrape.yaml]\nrule_files: [%s/rules.yaml]\n", dir, dir)
}

// firingAlerts are the names of the alerts that fire. Prometheus has to understand all of them.
func firingAlerts(t *testing.T, p *testenv.Prometheus) map[string]bool {
	t.Helper()
	firing := map[string]bool{}
	for _, r := range p.Rules() {
		if r.LastError != "" {
			t.Fatalf("%s: %s", r.Name, r.LastError)
		}
		if r.State == "firing" {
			firing[r.Name] = true
		}
	}
	return firing
}

// selector is a metric with conditions on its labels.
var selector = regexp.MustCompile(`(?:[a-z_]+:)?(?:etcd_snapshot|snapshotd)_[a-z0-9_:]+(?:{[^}]*})?`)

// empty returns the queries of the dashboard, and the selectors of the alerts, that Prometheus has no number for.
func empty(t *testing.T, p *testenv.Prometheus, prefix string) []string {
	t.Helper()
	panels, err := deploy.Panels()
	if err != nil {
		t.Fatal(err)
	}
	alerts, records, err := deploy.Rules()
	if err != nil {
		t.Fatal(err)
	}
	var queries []deploy.Query
	for _, q := range panels {
		q = q.Variables(prefix, "1m")
		if !strings.Contains(q.Where, ": ") { // an annotation shows something only when that happens
			q.Expr = strings.TrimSuffix(q.Expr, " > 0")
		}
		queries = append(queries, q)
	}
	for _, q := range slices.Concat(alerts, records) {
		for _, expr := range selector.FindAllString(q.Expr, -1) {
			if strings.HasPrefix(expr, "etcd_") {
				expr = prefix + expr
			}
			queries = append(queries, deploy.Query{Where: q.Where, Expr: expr})
		}
	}
	var blank []string
	for _, q := range queries {
		values, err := p.Query(q.Expr)
		if err != nil {
			t.Fatalf("%s: %v", q.Where, err)
		}
		if !slices.ContainsFunc(values, func(v float64) bool { return !math.IsNaN(v) }) {
			blank = append(blank, q.Where+": "+q.Expr)
		}
	}
	return blank
}
