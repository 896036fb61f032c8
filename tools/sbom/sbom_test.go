package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func components(t *testing.T, text string) []component {
	t.Helper()
	var b bill
	if err := json.Unmarshal([]byte(text), &b); err != nil {
		t.Fatal(err)
	}
	return b.Components
}

func TestALicenceThatIsNotAllowedIsAnError(t *testing.T) {
	for licences, good := range map[string]bool{
		`[{"license":{"id":"MIT"}}]`:                              true,
		`[{"license":{"id":"MIT"}},{"license":{"id":"ISC"}}]`:     true,
		`[{"license":{"id":"MIT"}},{"license":{"id":"GPL-3.0"}}]`: false,
		`[{"license":{"id":"AGPL-3.0-only"}}]`:                    false,
		`[{"license":{"name":"Business Source License 1.1"}}]`:    false,
		`[]`: false,
	} {
		all := components(t, `{"components":[{"name":"example.org/a","version":"v1.0.0","licenses":`+licences+`}]}`)
		if wrong := check(all); (len(wrong) == 0) != good || !good && !strings.Contains(wrong[0], "example.org/a v1.0.0") {
			t.Errorf("%s: %q", licences, wrong)
		}
	}
}

func TestTheListHasTheTexts(t *testing.T) {
	all := components(t, `{"components":[{"name":"example.org/a","version":"v1.0.0","licenses":[{"license":{"id":"MIT"}}]}]}`)
	dir := t.TempDir()
	dirs := map[string]string{"example.org/a": dir}
	if _, err := write(all, dirs); err == nil {
		t.Error("a module without a text is shipped")
	}
	for name, text := range map[string]string{"LICENSE.md": "permission is granted", "NOTICE": "made by", "license.go": "package a"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list, err := write(all, dirs)
	if err != nil || !strings.Contains(string(list), "permission is granted") || !strings.Contains(string(list), "made by") ||
		strings.Contains(string(list), "package a") {
		t.Errorf("the list is %s, %v", list, err)
	}
}
