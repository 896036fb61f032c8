// Package deploy reads the files beside it, with which operators run and watch snapshotd, so that tests can compare
// them with the program. Only tests use it.
package deploy

import (
	_ "embed" // of the files
	"encoding/json"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

//go:embed prometheus/rules.yaml
var rules []byte

//go:embed grafana/snapshotd.json
var dashboard []byte

// Query is an expression of PromQL.
type Query struct {
	Where string // the alert or the panel
	Expr  string
}

// Alerts returns the expressions of the alerts.
func Alerts() ([]Query, error) {
	var file struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal(rules, &file); err != nil {
		return nil, fmt.Errorf("read the rules: %w", err)
	}
	var queries []Query
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			queries = append(queries, Query{r.Alert, r.Expr})
		}
	}
	return queries, nil
}

// Panels returns the expressions of the dashboard, with Grafana's variables in them.
func Panels() ([]Query, error) {
	var file struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr, LegendFormat string }
		}
	}
	if err := json.Unmarshal(dashboard, &file); err != nil {
		return nil, fmt.Errorf("read the dashboard: %w", err)
	}
	var queries []Query
	for _, p := range file.Panels {
		for _, t := range p.Targets {
			queries = append(queries, Query{strings.TrimSpace(p.Title + ": " + t.LegendFormat), t.Expr})
		}
	}
	return queries, nil
}

// Variables replaces Grafana's variables: all jobs and clusters, this prefix, and this window.
func (q Query) Variables(prefix, window string) Query {
	q.Expr = strings.NewReplacer("$job", ".*", "$cluster", ".*", "${prefix}", prefix, "$window", window).Replace(q.Expr)
	return q
}
