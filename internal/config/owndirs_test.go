package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Backends below data_dir are usual. In the spool, all snapshots would be gone after the next start; among those that no
// backend took, a backend would be its own fallback.
func TestNothingIsKeptAmongTheOwnFiles(t *testing.T) {
	for name, tc := range map[string]struct {
		cluster, prefix, url string
		want                 string // below data_dir; empty where it is allowed
	}{
		"below the data directory":     {"prod", "", "/data/backups", ""},
		"the data directory":           {"prod", "", "/data", ""},
		"a directory named alike":      {"prod", "", "/data/spool2", ""},
		"spool of another service":     {"prod", "", "/other/spool", ""},
		"spool":                        {"prod", "", "/data/spool", "spool"},
		"spool, no prefix":             {"prod", `""`, "/data/spool", "spool"},
		"spool, written otherwise":     {"prod", "", "/data/x/..//spool/", "spool"},
		"spool, as parameter":          {"prod", "", "/data?prefix=spool/", "spool"},
		"below the spool":              {"prod", "", "/data/spool/a/b", "spool"},
		"a cluster named spool":        {"spool", "", "/data", "spool"},
		"a prefix named spool":         {"prod", "spool/", "/data", "spool"},
		"a prefix below spool":         {"prod", "spool/prod/", "/data", "spool"},
		"the fallback of the cluster":  {"prod", `""`, "/data/kept/prod", "kept"},
		"its prefix is named as it is": {"prod", "", "/data/kept/prod", "kept"},
		"the journal":                  {"prod", "", "/data/journal", "journal"},
		"a link to below the spool":    {"prod", "", "/link", "spool"},
		"below a link to it":           {"prod", "", "/link/new", "spool"},
		"a link to the data directory": {"prod", "kept/", "/alias", "kept"},
	} {
		for _, exists := range []bool{true, false} {
			if !exists && strings.Contains(name, "link") {
				continue
			}
			t.Run(fmt.Sprintf("%s, exists %v", name, exists), func(t *testing.T) {
				root := t.TempDir()
				if exists {
					makeOwn(t, root)
				}
				yaml := fmt.Sprintf("node_name: n\ndata_dir: %[1]s/data\nclusters:\n  - name: %s\n    "+
					"etcd: {endpoints: [a:1]}\n    backends: [{name: b, url: 'file://%[1]s%[3]s'}]\n", root, tc.cluster, tc.url)
				if tc.prefix != "" {
					yaml += "    prefix: " + tc.prefix + "\n"
				}
				if tc.want == "" {
					mustLoad(t, given{yaml: yaml})
					return
				}
				want := fmt.Sprintf(`clusters[0].backends[0].url: backend "b" of cluster %q is in %s, which the service has for `+
					"itself", tc.cluster, filepath.Join(root, "data", tc.want))
				if got := problems(t, given{yaml: yaml}); len(got) != 1 || !strings.Contains(got[0], want) {
					t.Errorf("got %q, want %q", got, want)
				}
			})
		}
	}
}

// makeOwn makes the directories of a service, a link to one below the spool, and one to all.
func makeOwn(t *testing.T, root string) {
	t.Helper()
	for _, dir := range []string{"data/spool/prod", "data/kept/prod", "data/journal", "data/x"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"link": "data/spool/prod", "alias": "data"} {
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAuditRecordsAreNotAmongTheOwnFiles(t *testing.T) {
	const usual = "data_dir: /data\n%s\n" + one
	mustLoad(t, given{yaml: fmt.Sprintf(usual, "audit_url: file:///data/audit\naudit_file: /data/audit.jsonl")})
	for setting, key := range map[string]string{
		"audit_url: file:///data/spool/audit": "audit_url", "audit_url: 'file:///data?prefix=kept'": "audit_url",
		"audit_file: /data/spool/audit.jsonl": "audit_file", "audit_file: /data/journal/prod/audit.jsonl": "audit_file",
	} {
		got := problems(t, given{yaml: fmt.Sprintf(usual, setting)})
		if len(got) != 1 || !strings.Contains(got[0], key+": it is in /data/") {
			t.Errorf("%s: %q", setting, got)
		}
	}
	// A data directory that is relative is meant from where the service runs.
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if got := problems(t, given{yaml: "data_dir: data\naudit_url: file://" + dir + "/data/spool\n" + one}); len(got) != 1 {
		t.Errorf("below a relative data directory: %q", got)
	}
}
