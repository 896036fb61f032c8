//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// promtool runs promtool in deploy/prometheus and returns what it said.
func promtool(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), testenv.Tool(t, "prometheus", "github.com/prometheus/prometheus/cmd/promtool"), args...)
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
