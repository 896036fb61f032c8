package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/internal/config"
)

// The example of the documentation is valid, has every key, and gives the defaults as they are.
func TestDocumentedConfiguration(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(doc), "```yaml\n")
	example, _, _ = strings.Cut(example, "```")
	cfg := mustLoad(t, given{yaml: example})
	var effective, plain strings.Builder
	if err := cfg.Write(&effective); err != nil {
		t.Fatal(err)
	}
	// Values in effect that are not documented are shown without an origin.
	for line := range strings.Lines(effective.String()) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if value = strings.TrimSpace(value); value != "" && !strings.Contains(line, "# snapshotd.yaml:") {
			t.Errorf("the example says nothing of %s", key)
		}
	}
	// Documented values in effect are shown, also false ones.
	for line := range strings.Lines(example) {
		text, _, _ := strings.Cut(line, "#")
		key, _, ok := strings.Cut(strings.TrimLeft(text, " -"), ":")
		if ok && !strings.Contains(effective.String(), key+":") {
			t.Errorf("%s is not shown", key)
		}
	}
	// A value that is documented as a default is one: without it, nothing changes.
	var required []string
	for line := range strings.Lines(example) {
		text, comment, _ := strings.Cut(line, "#")
		_, value, _ := strings.Cut(text, ": ")
		isDefault := strings.TrimSpace(value) != "" && !strings.Contains(comment, "example") &&
			!strings.Contains(text, "url:") && !strings.Contains(text, "name:")
		if !isDefault {
			required = append(required, line)
		}
	}
	if err := mustLoad(t, given{yaml: strings.Join(required, "")}).Write(&plain); err != nil {
		t.Fatal(err)
	}
	if a, b := withoutComments(effective.String()), withoutComments(plain.String()); a != b {
		t.Errorf("with the defaults of the example:\n%s\nwithout them:\n%s", a, b)
	}
	if cfg.Clusters[0].LockTTL != config.DefaultLockTTL {
		t.Errorf("lock_ttl is %v", cfg.Clusters[0].LockTTL)
	}
}

func withoutComments(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		text, _, _ := strings.Cut(line, " #")
		b.WriteString(strings.TrimRight(text, " \n") + "\n")
	}
	return b.String()
}
