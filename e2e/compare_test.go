//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// shows returns a list in the JSON output of a command.
func (s *service) shows(list string, args ...string) []any {
	s.t.Helper()
	return entries(s.t, s.must(append(args, "-o", "json")...), list)
}

// entries returns a list in JSON output.
func entries(t *testing.T, doc, list string) []any {
	t.Helper()
	var got map[string]any
	decode(t, doc, &got)
	normalize(got[list])
	return field[[]any](got, list)
}

var localURI = regexp.MustCompile(`^file:///.*?(/default/|$)`)

// normalize replaces the directories of a test in the URIs of decoded JSON.
func normalize(v any) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			normalize(e)
		}
	case map[string]any:
		for k, e := range v {
			// With --from, the URL is the name of the backend.
			if uri, ok := e.(string); ok && (k == "uri" || k == "backend") {
				v[k] = localURI.ReplaceAllString(uri, "file:///local$1")
			}
			normalize(e)
		}
	}
}

// field returns a member of a decoded JSON object.
func field[T any](v any, name string) T {
	m, _ := v.(map[string]any)
	f, _ := m[name].(T)
	return f
}

func entryName(v any) string { return field[string](v, "name") }

// compare compares lists. Fields that the older version did not have are ignored.
func compare(t *testing.T, view string, want, got []any, same func(field string, want, got any) bool) {
	t.Helper()
	if len(want) == 0 || len(want) != len(got) {
		t.Errorf("%s: %d entries instead of %d", view, len(got), len(want))
	}
	for i := range min(len(want), len(got)) {
		for _, d := range differences("", want[i], got[i], same) {
			t.Errorf("%s: %s: %s", view, entryName(want[i]), d)
		}
	}
}

// differences lists the fields of want that got has not, or has otherwise. same compares two values of a field.
func differences(at string, want, got any, same func(field string, want, got any) bool) (all []string) {
	switch w := want.(type) {
	case map[string]any:
		g, _ := got.(map[string]any)
		for _, k := range slices.Sorted(maps.Keys(w)) {
			all = append(all, differences(at+"."+k, w[k], g[k], same)...)
		}
		return all
	case []any:
		g, _ := got.([]any)
		if len(w) == len(g) {
			for i := range w {
				all = append(all, differences(fmt.Sprintf("%s[%d]", at, i), w[i], g[i], same)...)
			}
			return all
		}
	}
	if !same(at[strings.LastIndex(at, ".")+1:], want, got) {
		all = append(all, fmt.Sprintf("%s is %v and was %v", at, got, want))
	}
	return all
}

func exactly(_ string, want, got any) bool { return reflect.DeepEqual(want, got) }

// sameState ignores the time of an update and the text of an error, which differ between runs and versions.
func sameState(field string, want, got any) bool {
	switch field {
	case "updateTime":
		return got != nil
	case "error":
		return got != nil && (want == "") == (got == "")
	}
	return reflect.DeepEqual(want, got)
}

var ruleName = regexp.MustCompile(`[a-z]+_[a-z_]+|pinned|proven|newest|highest revision`)

// sameRule compares the rule that a decision of prune names. It ignores the rest of the sentence.
func sameRule(field string, want, got any) bool {
	if field != "why" {
		return reflect.DeepEqual(want, got)
	}
	w, _ := want.(string)
	g, _ := got.(string)
	return slices.Equal(ruleName.FindAllString(w, 1), ruleName.FindAllString(g, 1))
}

// indented returns indented JSON.
func indented(t *testing.T, v any) []byte {
	t.Helper()
	doc, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return append(doc, '\n')
}
