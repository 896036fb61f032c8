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
	Where string // the rule, the panel or the annotation
	Expr  string
	Text  string // of an alert, which may have queries, too
}

//go:embed prometheus/rules_test.yaml
var rulesTest []byte

// Rules returns the expressions of the alerts, and those of the recording rules.
func Rules() (alerts, records []Query, err error) {
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert, Record, Expr string
				Annotations         struct{ Summary, Description string }
			}
		}
	}
	if err := yaml.Unmarshal(rules, &file); err != nil {
		return nil, nil, fmt.Errorf("read the rules: %w", err)
	}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if r.Record != "" {
				records = append(records, Query{Where: r.Record, Expr: r.Expr})
				continue
			}
			alerts = append(alerts, Query{r.Alert, r.Expr, r.Annotations.Summary + r.Annotations.Description})
		}
	}
	return alerts, records, nil
}

// SeenFiring returns the samples that the tests of the rules expect: series of ALERTS, and of the recording rules.
func SeenFiring() ([]string, error) {
	var file struct {
		Tests []struct {
			Queries []struct {
				Samples []struct{ Labels string } `yaml:"exp_samples"`
			} `yaml:"promql_expr_test"`
		}
	}
	if err := yaml.Unmarshal(rulesTest, &file); err != nil {
		return nil, fmt.Errorf("read the tests of the rules: %w", err)
	}
	var samples []string
	for _, t := range file.Tests {
		for _, q := range t.Queries {
			for _, s := range q.Samples {
				samples = append(samples, s.Labels)
			}
		}
	}
	return samples, nil
}

// Panels returns the expressions of the dashboard's panels and annotations, with Grafana's variables in them.
func Panels() ([]Query, error) {
	var file struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr, LegendFormat string }
		}
		Annotations struct{ List []struct{ Name, Expr string } }
	}
	if err := json.Unmarshal(dashboard, &file); err != nil {
		return nil, fmt.Errorf("read the dashboard: %w", err)
	}
	var queries []Query
	for _, p := range file.Panels {
		for _, t := range p.Targets {
			queries = append(queries, Query{Where: strings.TrimSpace(p.Title + ": " + t.LegendFormat), Expr: t.Expr})
		}
	}
	for _, a := range file.Annotations.List {
		queries = append(queries, Query{Where: a.Name, Expr: a.Expr})
	}
	return queries, nil
}

// Variables replaces Grafana's variables: all jobs and clusters, this prefix, and this window.
func (q Query) Variables(prefix, window string) Query {
	q.Expr = strings.NewReplacer("$job", ".*", "$cluster", ".*", "${prefix}", prefix, "$window", window).Replace(q.Expr)
	return q
}
