package config_test

import (
	"fmt"
	"strings"
	"testing"
)

// A password that is written in a wrong way must not become part of a key, or of a syntax error, that is shown.
func TestNoProblemShowsAPassword(t *testing.T) {
	const key = "snapshotd.yaml:1: clusters[0].etcd."
	for settings, want := range map[string]string{
		"user: root, password: *hunter2": "snapshotd.yaml: has a value that begins with '*' and names no anchor; ",
		"user: root, password:hunter2":   key + "password…: unknown key; known here: endpoints, ",
		"user: root, Password=hunter2":   key + "Password…: unknown key; known here: ",
		"user: root, passwordhunter2: x": key + "password…: unknown key; known here: ",
		"user:root:hunter2":              key + "user…: unknown key; ",
		"'user root hunter2': x":         key + "user…: unknown key; ",
		"password_files: /etc/hunter2":   key + `password…: unknown key; did you mean "password_file"?`,
		"user-name: hunter2":             key + "user-name: unknown key; ",
	} {
		got := problems(t, given{yaml: fmt.Sprintf("clusters: [{etcd: {endpoints: ['a:1'], %s}}]", settings)})
		if len(got) != 1 || !strings.HasPrefix(got[0], want) || strings.Contains(got[0], "hunter2") {
			t.Errorf("%s:\n got %q\nwant %q", settings, got, want)
		}
	}
}
