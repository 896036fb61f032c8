package testenv

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// Prometheus is a real Prometheus in a process of its own.
type Prometheus struct {
	tb  testing.TB
	url string
}

// StartPrometheus starts a Prometheus with this configuration, and ends it with the test.
func StartPrometheus(tb testing.TB, config string) *Prometheus {
	tb.Helper()
	dir, addr := tb.TempDir(), freeAddr(tb)
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		tb.Fatalf("write the configuration of Prometheus: %v", err)
	}
	cmd := exec.Command(Tool(tb, "prometheus", "github.com/prometheus/prometheus/cmd/prometheus"),
		"--config.file", file, "--web.listen-address", addr, "--storage.tsdb.path", filepath.Join(dir, "data"))
	runServer(tb, "Prometheus", cmd)
	p := &Prometheus{tb: tb, url: "http://" + addr}
	eventually(tb, "Prometheus is ready", func(context.Context) error {
		_, err := p.get("/-/ready", nil)
		return err
	})
	return p
}

// Query asks for the values of an expression now. The error is Prometheus's error for the expression.
func (p *Prometheus) Query(expr string) ([]float64, error) {
	body, err := p.get("/api/v1/query", url.Values{"query": {expr}})
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("read the answer of Prometheus: %w", err)
	}
	var values []float64
	for _, r := range answer.Data.Result {
		text, _ := r.Value[1].(string)
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("read the answer of Prometheus: %w", err)
		}
		values = append(values, value)
	}
	return values, nil
}

// Alert is an alert that is pending or firing.
type Alert struct {
	Labels, Annotations map[string]string
	State               string
}

// Alerts returns the alerts that are pending or firing.
func (p *Prometheus) Alerts() []Alert {
	p.tb.Helper()
	var answer struct{ Data struct{ Alerts []Alert } }
	p.ask("/api/v1/alerts", &answer)
	return answer.Data.Alerts
}

// Rule is the state of an alerting rule.
type Rule struct {
	Name, LastError, State string
	Alerts                 []struct{ Annotations map[string]string }
}

// Rules returns the alerts that Prometheus has.
func (p *Prometheus) Rules() []Rule {
	p.tb.Helper()
	var answer struct {
		Data struct{ Groups []struct{ Rules []Rule } }
	}
	p.ask("/api/v1/rules", &answer)
	var rules []Rule
	for _, g := range answer.Data.Groups {
		rules = append(rules, g.Rules...)
	}
	return rules
}

func (p *Prometheus) ask(path string, answer any) {
	p.tb.Helper()
	body, err := p.get(path, nil)
	if err == nil {
		err = json.Unmarshal(body, answer)
	}
	if err != nil {
		p.tb.Fatalf("ask Prometheus for %s: %v", path, err)
	}
}

func (p *Prometheus) get(path string, query url.Values) ([]byte, error) {
	resp, err := http.Get(p.url + path + "?" + query.Encode())
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return body, err
}
