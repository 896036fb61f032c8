package cli_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/internal/cli"
)

// command is a command as a user types it, and its result.
type command struct {
	args           string
	code           int
	stdout, stderr []string // patterns; each fits a line
	never          []string // patterns that fit none
	lines          int      // on standard output; 0 is any number
}

// Patterns of command.never: nothing at all is written there.
const (
	noStdout = "no stdout"
	noStderr = "no stderr"
)

// runs runs commands one after the other, each as a program of its own would run.
func runs(t *testing.T, env map[string]string, commands []command) {
	t.Helper()
	for _, c := range commands {
		var stdout, stderr bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
		code := cli.Run(ctx, cli.System{
			Stdout: &stdout, Stderr: &stderr, Getenv: func(k string) string { return env[k] }, Now: time.Now,
		}, strings.Fields(c.args))
		cancel()
		c.check(t, code, stdout.String(), stderr.String())
	}
}

func (c command) check(t *testing.T, code int, stdout, stderr string) {
	t.Helper()
	bad := func(format string, args ...any) {
		t.Helper()
		t.Errorf("snapshotd %s: "+format+"\nstdout:\n%s\nstderr:\n%s", append(append([]any{c.args}, args...), stdout, stderr)...)
	}
	if code != c.code {
		bad("exit code %d, want %d", code, c.code)
	}
	fits := func(pattern, text string) bool { return regexp.MustCompile("(?m)" + pattern).MatchString(text) }
	for _, p := range c.stdout {
		if !fits(p, stdout) {
			bad("standard output has no line that fits %s", p)
		}
	}
	for _, p := range c.stderr {
		if !fits(p, stderr) {
			bad("standard error has no line that fits %s", p)
		}
	}
	for _, p := range c.never {
		if p == noStdout && stdout != "" || p == noStderr && stderr != "" || fits(p, stdout+stderr) {
			bad("%s", p)
		}
	}
	if n := strings.Count(stdout, "\n"); c.lines > 0 && n != c.lines {
		bad("standard output has %d lines, want %d", n, c.lines)
	}
}

// TestCommandsOnAService runs commands on a real service: an embedded etcd, a directory.
func TestCommandsOnAService(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dev")
	d := startDev(t, dir, "--node-name", "n1")
	env := map[string]string{"SNAPSHOTD_ADDR": d.grpc}
	t.Run("a save is listed, and everything is known of it", func(t *testing.T) { runs(t, env, saves) })
	t.Run("what is removed by hand is forgotten, but not by a dry run", func(t *testing.T) { runs(t, env, reconciles) })
	t.Run("a snapshot is proven at each level", func(t *testing.T) { runs(t, env, verifies) })
	t.Run("what is taken is named, and what to do about it", func(t *testing.T) {
		work := t.TempDir()
		runs(t, env, []command{
			{args: "serve --dev --data-dir " + dir, code: 1, stderr: []string{
				`error: lock the data directory: ".*" is in use by another snapshotd \(process [0-9]+\); --data-dir sets another one`,
			}},
			{args: "serve --dev --data-dir " + work + " --listen-http 127.0.0.1:0 --listen-grpc " + d.grpc, code: 1, stderr: []string{
				`error: .*address already in use \(--listen-grpc sets another address\)`,
			}},
			{args: "serve --dev --data-dir " + work + " --listen-grpc 127.0.0.1:0 --listen-http " + d.http, code: 1, stderr: []string{
				`error: .*address already in use \(--listen-http sets another address\)`,
			}},
		})
	})
}

var saves = []command{
	{args: "save --name-prefix before-upgrade --label release=v1.2", never: []string{noStderr}, stdout: []string{
		`^NAME +STATE +CREATED +AGE +REVISION +KEYS +SIZE +STORED +PINNED +PROVEN +LOCATIONS$`,
		`^before-upgrade-n1-[0-9]+ +READY +[-0-9T:]+Z +[0-9]+s +[0-9]+ +[0-9]+ .* local$`,
	}},
	{args: "list --label release=v1.2", lines: 2, stdout: []string{`^before-upgrade-n1-`}, never: []string{"on-demand-n1"}},
	{args: "list --label release=v1.2 -o json", stdout: []string{`"state": "STATE_READY"`, `"name": "before-upgrade-n1-`}},
	{args: "save --backend local -o yaml", stdout: []string{`^snapshot:$`, `^  state: STATE_READY$`}},
	{args: "list --limit 1", lines: 2},
	{args: "list --since 1h --until 1m", never: []string{"READY"}},
	{args: "get no-such-snapshot", code: 6, stderr: []string{`^error: .*has no snapshot "no-such-snapshot"`}, never: []string{noStdout}},
	{args: "list --cluster other", code: 6, stderr: []string{`^error: .*"other"`}},
	{args: "save --backend other", code: 2, stderr: []string{`^error: --backend: .*has no backend "other"; it has local$`}},
	{args: "save --name-prefix ../../etc", code: 2, stderr: []string{`^error: --name-prefix: `}},
}

var reconciles = []command{
	{args: "save --name-prefix doomed"},
	{args: "reconcile --dry-run", stdout: []string{
		`^CLUSTER +BACKEND +LISTED +UNCHANGED +ADDED +UPDATED +REMOVED +REPAIRED +SWEPT +FOREIGN +RESULT$`,
		`^default +local +[0-9]+ +[0-9]+ +0 +0 +0 +0 +0 +[0-9]+ +ok$`,
	}},
	{args: "reconcile --backend local -o json", stdout: []string{`"backend": "local"`}},
	{args: "reconcile --backend nowhere", code: 2, stderr: []string{`^error: --backend: `}},
	{args: "reconcile --repair", stdout: []string{`^default +local .* ok$`}},
}

var verifies = []command{
	{args: "save --name-prefix to-verify"},
	{args: "verify latest", never: []string{noStderr}, stdout: []string{`^read .* on local: sizes and checksums are right$`}},
	{args: "verify latest --level structure", stdout: []string{`every page and key was read`}},
	{args: "verify latest --level drill --backend local -o json", stdout: []string{
		`"level": "LEVEL_DRILL"`, `"state": "STATE_PASSED"`, `the same as the live cluster`,
	}},
	{args: "verify latest --level deeply", code: 2, stderr: []string{`^error: --level: `}},
	{args: "verify latest --identity key.txt", code: 2, stderr: []string{`is for --from alone`}},
	{args: "verify no-such-snapshot", code: 6, stderr: []string{`has no snapshot`}},
}

// placeFiles writes files into a directory of their own, which becomes the working directory.
func placeFiles(t *testing.T, files map[string]string) (work string) {
	t.Helper()
	work = t.TempDir()
	t.Chdir(work)
	for name, text := range files {
		if err := os.WriteFile(name, []byte(strings.ReplaceAll(text, "WORK", work)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return work
}

// Warnings do not change the exit code, and the values can still be read. All that fails with --connect is named at
// once, and nothing is left.
func TestConfigCheck(t *testing.T) {
	placeFiles(t, map[string]string{"warned.yaml": `
clusters:
  - name: prod
    etcd: {endpoints: ["http://127.0.0.1:1"], user: root, password: hunter2}
    schedules:
      - {name: night, cron: "0 2 * * *"}
      - {name: a, cron: "@hourly"}
      - {name: b, cron: "@hourly"}
    backends:
      - {name: local, url: "file://WORK/backups"}
      - {name: gone, url: "file:///nowhere"}
`})
	if err := os.Mkdir("backups", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod("warned.yaml", 0o644); err != nil {
		t.Fatal(err)
	}
	runs(t, nil, []command{
		{args: "config check --config warned.yaml", never: []string{"hunter2"}, stdout: []string{
			`^    backends:$`, `^# next runs:$`, `^#   schedule "night" of cluster "prod": 20[0-9-]*T02:00:00Z, `,
		}, stderr: []string{
			`^warning: .*begins together`, `^warning: .*has no rule of retention for local`,
			`^warning: .*goes to http://127.0.0.1:1 as plain text`, `^warning: .*every user of this machine can read warned.yaml`,
		}},
		{args: "config check --config warned.yaml --connect", code: 1, never: []string{"hunter2"}, stdout: []string{
			`^cluster "prod", etcd: status of http://127.0.0.1:1: FAILED: .*connection refused`,
			`^cluster "prod", catalog: read the catalog: FAILED: `,
			`^cluster "prod", backend "local": delete it: ok$`,
			`^cluster "prod", backend "gone": .*: FAILED: .*nowhere does not exist \(mount or create it`,
		}, stderr: []string{`^error: [0-9]+ of [0-9]+ checks failed$`}},
		// A wrong configuration is asked for nothing.
		{args: "config check --connect --etcd-endpoints http://127.0.0.1:1", code: 2, stderr: []string{`backends`}, never: []string{noStdout}},
	})
	if left, err := os.ReadDir("backups"); err != nil || len(left) > 0 {
		t.Errorf("%v is left behind, %v", left, err)
	}
}

// A mistake that only a person can mend ends serve; a server that is merely down does not.
func TestServeEndsWhenOnlyAPersonCanHelp(t *testing.T) {
	work := placeFiles(t, map[string]string{"wrong.yaml": `
clusters:
  - etcd: {endpoint: ["127.0.0.1:2379"], password: hunter2}
`[1:], "right.yaml": `
clusters:
  - name: prod
    etcd: {endpoints: ["127.0.0.1:2379"], user: root, password: hunter2}
    backends: [{name: local, url: "file:///var/backups/etcd"}]
`[1:]})
	runs(t, nil, []command{
		{args: "serve --config wrong.yaml", code: 2, never: []string{"hunter2"}, stderr: []string{
			`^  wrong.yaml:2: clusters\[0\].etcd.endpoint: unknown key; did you mean "endpoints"\?$`,
		}},
		{args: "serve --data-dir " + work + "/b --listen-grpc 127.0.0.1:0 --listen-http 127.0.0.1:0 --node-name n " +
			"--etcd-endpoints 127.0.0.1:1 --etcd-user u --etcd-password-file nowhere --backend local=file://" + work + "/backups",
			code: 1, stderr: []string{`error: open cluster "default": .*nowhere.*--etcd-password-file`}},
		{args: "config check --config right.yaml", stdout: []string{`password: <redacted> # right.yaml:3`}, never: []string{"hunter2"}},
	})
}
