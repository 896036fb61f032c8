package config_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 3, 1, 11, 30, 0, 0, time.UTC)

func TestWarnings(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("x"), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil { // whatever the umask is
			t.Fatal(err)
		}
		return path
	}
	open, private := file("open", 0o644), file("private", 0o640)
	const rest = `
    schedules: [{name: a, cron: "@daily"}]
    retention: {keep_last: 3}
    backends: [{name: local, url: "file:///var/backups/etcd"}]`
	const etcd = `
    etcd: {endpoints: ["https://10.0.0.1:2379"]}`
	schedules := func(list string) string {
		return etcd + strings.Replace(rest, `{name: a, cron: "@daily"}`, list, 1)
	}
	for _, test := range []struct {
		name, cluster string
		want          []string // parts of the warnings, in order
	}{
		{"none", etcd + rest, nil},
		{"no schedule", strings.Replace(etcd+rest, `{name: a, cron: "@daily"}`, "", 1), []string{"has no schedule"}},
		{"no retention", strings.Replace(etcd+rest, "keep_last: 3", "min_keep: 3", 1), []string{"no rule of retention for local"}},
		{"retention of one backend", strings.Replace(strings.Replace(etcd+rest, "{keep_last: 3}", "{}", 1), `etcd"}]`,
			`etcd", retention: {keep_last: 1}}, {name: s3, url: "s3://b?region=x"}]`, 1), []string{"no rule of retention for s3"}},
		{"a password over plain text", `
    etcd: {endpoints: ["http://10.0.0.1:2379"], user: u, password_file: ` + private + `}` + rest, []string{"goes to http://10.0.0.1:2379 as plain text"}},
		{"a password over plain text, without a scheme", `
    etcd: {endpoints: ["10.0.0.1:2379"], user: u, password_file: ` + private + `}` + rest, []string{"goes to 10.0.0.1:2379 as plain text"}},
		{"a password over plain text to the catalog", etcd + `
    catalog: {endpoints: ["http://10.0.0.2:2379"], user: u, password_file: ` + private + `}` + rest, []string{"goes to http://10.0.0.2:2379 as plain text"}},
		{"a password over TLS", `
    etcd: {endpoints: ["10.0.0.1:2379"], ca_cert: ca.crt, user: u, password_file: ` + private + `}` + rest, nil},
		{"a password file that others can read", `
    etcd: {endpoints: ["https://10.0.0.1:2379"], user: u, password_file: ` + open + `}` + rest, []string{"etcd.password_file: every user of this machine can read " + open + " (mode 0644)"}},
		{"keys that others can read", `
    etcd: {endpoints: ["https://10.0.0.1:2379"], cert: c, key: ` + open + `}
    signing: {key_file: ` + file("sign", 0o604) + `}
    encryption: {recipients_file: ` + open + `, identity_files: [` + file("id", 0o602) + `]}` + rest,
			[]string{"etcd.key: every user", "identity_files[0]: every user of this machine can change", "signing.key_file: every user"}},
		{"a file that does not exist", `
    etcd: {endpoints: ["https://10.0.0.1:2379"], cert: c, key: /nowhere/key}` + rest, nil},
		{"schedules that always meet", schedules(`{name: a, cron: "@hourly"}, {name: b, cron: "0 * * * *"}`), []string{`each run of schedule "a" begins together with one of "b"`}},
		{"one that always meets another", schedules(`{name: a, cron: "0 * * * *"}, {name: b, cron: "@daily"}`), []string{`each run of schedule "b" begins together with one of "a"`}},
		{"in two time zones", schedules(`{name: a, cron: "0 2 * * *"}, {name: b, cron: "0 3 * * *", time_zone: Africa/Lagos}`), []string{`each run of schedule "a"`}},
		{"intervals that always meet", schedules(`{name: a, cron: "@every 1h"}, {name: b, cron: "@every 3h"}`), []string{`each run of schedule "b"`}},
		{"schedules that sometimes meet", schedules(`{name: a, cron: "0 2 * * *"}, {name: b, cron: "0 2 * * 0"}`), []string{`each run of schedule "b"`}},
		{"schedules that meet now and then", schedules(`{name: a, cron: "0 2 * * 1"}, {name: b, cron: "0 2 1 * *"}`), nil},
		{"schedules with a jitter", schedules(`{name: a, cron: "@hourly", jitter: 5m}, {name: b, cron: "@hourly"}`), nil},
		{"a bucket over plain text", strings.Replace(etcd+rest, "file:///var/backups/etcd", "s3://b?endpoint=http://10.0.0.5:9000&use_path_style=true", 1), []string{"go to 10.0.0.5:9000 as plain text"}},
		{"a bucket on this machine", strings.Replace(etcd+rest, "file:///var/backups/etcd", "s3://b?endpoint=http://127.0.0.1:9000&use_path_style=true", 1), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := mustLoad(t, given{yaml: "clusters:\n  - name: prod" + test.cluster})
			got := cfg.Warnings(now)
			if len(got) != len(test.want) {
				t.Fatalf("got %q, want %q", got, test.want)
			}
			for i, want := range test.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("got %q, want %q in it", got[i], want)
				}
			}
		})
	}
}

func TestWarningsOfDirectoriesThatOthersCanChange(t *testing.T) {
	dir := func(mode os.FileMode) string {
		d := t.TempDir()
		if err := os.Chmod(d, mode); err != nil { // whatever the umask is
			t.Fatal(err)
		}
		return d
	}
	key := filepath.Join(dir(0o777), "key")
	if err := os.WriteFile(key, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[os.FileMode]int{0o777: 5, 0o777 | os.ModeSticky: 5, 0o750: 1} {
		data, backups, logs, records := dir(mode), dir(mode), dir(mode), dir(mode)
		cfg := mustLoad(t, given{yaml: fmt.Sprintf(`data_dir: %s
audit_file: %s/audit.jsonl
audit_url: file://%s?prefix=audit
clusters: [{etcd: {endpoints: ["https://a:1"], cert: c, key: %s}, schedules: [{name: a, cron: "@daily"}],
  retention: {keep_last: 1}, backends: [{name: local, url: "file://%s"}]}]`, data, logs, records, key, backups)})
		got := cfg.Warnings(now)
		if len(got) != want || !strings.Contains(strings.Join(got, "\n"), "can put files into "+filepath.Dir(key)) {
			t.Errorf("%04o: warnings %q", mode, got)
		}
	}
}

// The file itself is private when a password is in it.
func TestWarningOfAPasswordInTheFile(t *testing.T) {
	const doc = `clusters: [{etcd: {endpoints: ["https://a:1"], user: u, password: hunter2}, schedules: [{name: a, cron: "@daily"}],
  retention: {keep_last: 1}, backends: [{name: local, url: "file:///b"}]}]`
	for mode, want := range map[os.FileMode]int{0o644: 1, 0o600: 0} {
		file := filepath.Join(t.TempDir(), "snapshotd.yaml")
		if err := os.WriteFile(file, []byte(doc), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		got := mustLoad(t, given{args: []string{"--config", file}}).Warnings(now)
		if len(got) != want || strings.Contains(fmt.Sprint(got), "hunter2") {
			t.Errorf("%04o: %q", mode, got)
		}
	}
}

func TestNextRuns(t *testing.T) {
	cfg := mustLoad(t, given{yaml: `clusters:
  - etcd: {endpoints: ["https://10.0.0.1:2379"]}
    schedules: [{name: night, cron: "0 2 * * *", time_zone: Europe/Berlin, jitter: 10m}]
    scrub: {cron: "@weekly", jitter: 2h, drill: true}
    backends: [{name: local, url: "file:///var/backups/etcd"}]`})
	var out bytes.Buffer
	if err := cfg.WriteNextRuns(&out, time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	// Summer time begins on the 29th, at 2 o'clock.
	const want = `# next runs:
#   schedule "night" of cluster "default": 2026-03-29T01:00:00Z, 2026-03-30T00:00:00Z, 2026-03-31T00:00:00Z, each up to 10m0s later
#   the scrub of cluster "default": 2026-03-29T00:00:00Z, 2026-04-05T00:00:00Z, 2026-04-12T00:00:00Z, each up to 2h0m0s later
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestWarningOfAuditRecordsOverPlainText(t *testing.T) {
	const rest = `
clusters: [{etcd: {endpoints: ["https://a:1"]}, schedules: [{name: a, cron: "@daily"}],
  retention: {keep_last: 1}, backends: [{name: local, url: "file:///b"}]}]`
	for url, want := range map[string]int{
		"s3://audit?endpoint=http://10.0.0.5:9000&use_path_style=true":  1,
		"s3://audit?endpoint=http://127.0.0.1:9000&use_path_style=true": 0,
		"s3://audit?region=eu-1": 0,
	} {
		got := mustLoad(t, given{yaml: "audit_url: " + url + rest}).Warnings(now)
		if len(got) != want || want > 0 && !strings.Contains(got[0], "audit records go to 10.0.0.5:9000 as plain text") {
			t.Errorf("%s: %q", url, got)
		}
	}
}
