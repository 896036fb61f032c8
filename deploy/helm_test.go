package deploy_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/snapshotd/snapshotd/internal/config"
)

var update = flag.Bool("update", false, "write the files that are generated")

// The chart takes the rules from the file that promtool tests, through a link.
func TestTheChartHasTheRules(t *testing.T) {
	if got := read(t, "helm", "snapshotd", "files", "rules.yaml"); got != read(t, "prometheus", "rules.yaml") {
		t.Error("the chart has other rules than deploy/prometheus/rules.yaml")
	}
}

func TestThePrometheusRuleHasTheRules(t *testing.T) {
	path := filepath.Join("prometheus", "prometheusrule.yaml")
	head, _, ok := strings.Cut(read(t, path), "\nspec:\n")
	_, groups, there := strings.Cut(read(t, "prometheus", "rules.yaml"), "\ngroups:\n")
	if !ok || !there {
		t.Fatal("there is no spec, or there are no groups")
	}
	var want strings.Builder
	want.WriteString(head + "\nspec:\n  groups:\n")
	for line := range strings.Lines(groups) {
		if strings.TrimSpace(line) != "" {
			line = "  " + line
		}
		want.WriteString(line)
	}
	current(t, path, []byte(want.String()))
}

// Helm refuses a configuration that the program would not take, and names the key.
func TestTheValuesHaveTheSchemaOfTheConfiguration(t *testing.T) {
	path := filepath.Join("helm", "snapshotd", "values.schema.json")
	var values, file map[string]any
	unmarshal(t, []byte(read(t, path)), &values)
	schema, err := config.Schema()
	if err != nil {
		t.Fatal(err)
	}
	unmarshal(t, schema, &file)
	values["$defs"] = file["$defs"]
	properties := at(t, file, "properties")
	at(t, values, "properties")["config"] = map[string]any{
		"type": "object", "additionalProperties": false, "properties": properties,
		"required": []string{"listen_grpc", "listen_http", "data_dir", "clusters"}, // the templates read them
	}
	withoutPasswords(t, values)
	var want bytes.Buffer
	enc := json.NewEncoder(&want)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(values); err != nil {
		t.Fatal(err)
	}
	current(t, path, want.Bytes())
}

// withoutPasswords removes the password from all that a schema knows: a ConfigMap is no place for it.
func withoutPasswords(t *testing.T, schema any) {
	t.Helper()
	switch s := schema.(type) {
	case map[string]any:
		if properties, ok := s["properties"].(map[string]any); ok {
			delete(properties, "password")
		}
		for _, v := range s {
			withoutPasswords(t, v)
		}
	case []any:
		for _, v := range s {
			withoutPasswords(t, v)
		}
	}
}

// Each value is read by a template.
func TestEveryValueIsUsed(t *testing.T) {
	var values map[string]any
	if err := yaml.Unmarshal([]byte(read(t, "helm", "snapshotd", "values.yaml")), &values); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join("helm", "snapshotd", "templates", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var templates strings.Builder
	for _, f := range files {
		templates.WriteString(read(t, f))
	}
	used := strings.ReplaceAll(templates.String(), "$policy.", ".Values.networkPolicy.")
	for key, value := range values {
		nested, ok := value.(map[string]any)
		if !ok || key == "config" || key == "secrets" || key == "env" || key == "resources" {
			nested = map[string]any{"": nil}
		}
		for sub := range nested {
			if path := strings.TrimSuffix(".Values."+key+"."+sub, "."); !strings.Contains(used, path) {
				t.Errorf("no template reads %s", path)
			}
		}
	}
}

// The chart and the manifests for kubectl describe the same pod.
func TestTheChartAndTheManifestsAgree(t *testing.T) {
	chart, manifest := read(t, "helm", "snapshotd", "templates", "statefulset.yaml"), read(t, "kubernetes", "statefulset.yaml")
	for _, part := range []string{
		"          args: [serve, --config, /etc/snapshotd/config/snapshotd.yaml]\n",
		"      enableServiceLinks: false ",
		between(t, manifest, "      securityContext:\n", "      affinity:\n"),
		between(t, manifest, "          securityContext:\n", "          volumeMounts:\n"),
	} {
		if !strings.Contains(chart, part) || !strings.Contains(manifest, part) {
			t.Errorf("only one of them has\n%s", part)
		}
	}
	probes := func(s string) string {
		s = between(t, s, "          startupProbe:\n", "          resources:\n")
		return strings.ReplaceAll(s, ", scheme: {{ $scheme }}", "")
	}
	if probes(chart) != probes(manifest) {
		t.Errorf("the probes are\n%s and\n%s", probes(chart), probes(manifest))
	}
}

// GoReleaser's packages have the files of "make packages". It adds the program itself.
func TestTheReleaseHasThePackagesOfTheMakefile(t *testing.T) {
	var ours, release struct {
		Section, License, Description string
		Recommends                    []string
		Contents                      []map[string]any
		Scripts                       map[string]string
		Nfpms                         []yaml.Node
		Bindir                        string
	}
	if err := yaml.Unmarshal([]byte(read(t, "nfpm", "nfpm.yaml")), &ours); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(read(t, "..", ".goreleaser.yaml")), &release); err != nil || len(release.Nfpms) != 1 {
		t.Fatal("there is not one description of packages", err)
	}
	if err := release.Nfpms[0].Decode(&release); err != nil {
		t.Fatal(err)
	}
	program := ours.Contents[0]
	if program["src"] != "bin/snapshotd" || program["dst"] != release.Bindir+"/snapshotd" {
		t.Errorf("the program is at %v, and in the release in %s", program["dst"], release.Bindir)
	}
	ours.Contents = ours.Contents[1:]
	ours.Bindir, ours.Nfpms = release.Bindir, release.Nfpms
	if !reflect.DeepEqual(ours, release) {
		t.Errorf("the packages of the Makefile are\n%+v\nthose of the release are\n%+v", ours, release)
	}
}

// current compares a generated file with its content, or writes it.
func current(t *testing.T, path string, want []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if read(t, path) != string(want) {
		t.Errorf("%s is not current: run \"go test -run '^%s$' ./deploy -update\"", path, t.Name())
	}
}

func between(t *testing.T, s, from, to string) string {
	t.Helper()
	_, s, ok := strings.Cut(s, from)
	s, _, there := strings.Cut(s, to)
	if !ok || !there {
		t.Fatalf("there is no %q before %q", from, to)
	}
	return from + s
}

func unmarshal(t *testing.T, b []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}

func at(t *testing.T, m map[string]any, key string) map[string]any {
	t.Helper()
	v, ok := m[key].(map[string]any)
	if !ok {
		t.Fatalf("there is no %s", key)
	}
	return v
}
