//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// binary is a value that a shell could spoil.
const binary = "k8s\x00\xff\n\r\n %s \\ '\"$x\n\n"

// TestRunbookDeletedNamespace follows "A namespace was deleted at 11:55" of docs/disaster.md, from the alert to the
// cluster of three members that has the namespace again, and says how long that took.
func TestRunbookDeletedNamespace(t *testing.T) {
	b := newRunbook(t, true)
	b.serve.follows(2)
	c := b.client(t, b.endpoints()...)
	put := func(key, value string) int64 {
		t.Helper()
		resp, err := c.Put(t.Context(), key, value)
		if err != nil {
			t.Fatal(err)
		}
		return resp.Header.Revision
	}
	put("/registry/namespaces/shop", "Active")
	for i := range 20 {
		put(fmt.Sprintf("/registry/pods/shop/%d", i), "x")
	}
	put("/registry/pods/shop/1", binary)
	whole := put("/registry/pods/other/0", "before")
	before := b.second(t)
	marked := put("/registry/namespaces/shop", "Terminating")
	if _, err := c.Delete(t.Context(), "/registry/pods/shop/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Delete(t.Context(), "/registry/namespaces/shop"); err != nil {
		t.Fatal(err)
	}
	after := b.second(t)
	last := put("/registry/pods/other/0", "after")
	eventually(t, "the changes are on the backends, as they are when somebody notices",
		func() bool { return b.serve.window().timeline("").last() >= last })

	alert := time.Now()
	steps := b.commands(t, "A namespace was deleted at 11:55")
	if len(steps) != 7 {
		t.Fatalf("the runbook has %d commands: %q", len(steps), steps)
	}
	moment := strings.NewReplacer("2026-07-15T11:54:59Z", before, "2026-07-15T11:56:00Z", after)
	b.run(t, "m1", steps[0])
	plan := b.run(t, "m1", moment.Replace(steps[1]))
	at := restoredRevision(t, plan)
	if at < whole || at >= marked {
		t.Fatalf("the plan for %s leads to revision %d, and not between %d and %d\n%s", before, at, whole, marked, plan)
	}
	b.run(t, "m1", moment.Replace(steps[2]))
	b.start(t, "m1-beside", b.here("m1", steps[3]))
	revision := b.firstEvent(t, "m1", strings.Replace(steps[4], "--rev N", fmt.Sprint("--rev ", at), 1)) - 1
	if revision != marked-1 {
		t.Errorf("the history shows revision %d, want %d", revision, marked-1)
	}
	b.stop("m1-beside")
	t.Run("the namespace alone", func(t *testing.T) { b.copyNamespace(t, steps, revision) })

	b.serve.kill()
	for _, m := range []string{"m1", "m2", "m3"} {
		b.stop(m)
		b.run(t, m, steps[5])
	}
	b.restoreMembers(t, strings.Replace(steps[6], "--revision M", fmt.Sprint("--revision ", revision), 1))
	b.has(t, "/registry/pods/shop", 20, b.endpoints()...)
	t.Logf("from the alert to three members that have the namespace again: %s", time.Since(alert).Round(100*time.Millisecond))
	b.has(t, "before", 100, b.endpoints()...)
	b.isBack(t, map[string]string{"/registry/namespaces/shop": "Active", "/registry/pods/other/0": "before"})

	b.serveAgain(t)
	eventually(t, "the journal begins anew, and says why", func() bool {
		lines := b.serve.window().Window.Timelines
		return len(lines) == 2 && lines[1].Reason != ""
	})
}

// copyNamespace takes the first of the two ways: an etcd beside the cluster is started on the revision, and the keys of
// the namespace are copied from there.
func (b *runbook) copyNamespace(t *testing.T, steps []string, revision int64) {
	good := strings.NewReplacer("--at 2026-07-15T11:56:00Z", fmt.Sprint("--revision ", revision), "/var/lib/etcd-after", "/var/lib/etcd-good")
	b.run(t, "m1", good.Replace(steps[2]))
	b.start(t, "m1-good", b.here("m1", good.Replace(steps[3])))
	defer b.stop("m1-good")
	b.has(t, "/registry/pods/shop", 20, "http://127.0.0.1:12379")
	script := b.here("m1", strings.Join(b.fenced(t, "A namespace was deleted at 11:55", "text"), "\n"))
	cmd := b.command(t.Context(), "m1", "sh -eu")
	cmd.Dir, cmd.Stdin = t.TempDir(), strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	b.has(t, "/registry/pods/shop", 20, b.endpoints()...)
	b.isBack(t, map[string]string{
		"/registry/namespaces/shop": "Active", "/registry/pods/shop/0": "x", "/registry/pods/shop/1": binary, "/registry/pods/other/0": "after",
	})
}

// second waits for the next second that is whole, and returns it: the runbook gives times as people do.
func (b *runbook) second(t *testing.T) string {
	t.Helper()
	at := time.Now().Truncate(time.Second).Add(time.Second)
	eventually(t, "a second is over", func() bool { return time.Now().After(at.Add(200 * time.Millisecond)) })
	return at.UTC().Format(time.RFC3339)
}

// firstEvent runs `etcdctl watch` until it has printed the revision of an event, and returns that.
func (b *runbook) firstEvent(t *testing.T, machine, command string) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	cmd := b.command(ctx, machine, command)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = cmd.Wait() }()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if name, value, _ := strings.Cut(lines.Text(), ":"); strings.Trim(name, `" `) == "ModRevision" {
			revision, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return revision
		}
	}
	t.Fatalf("%s has shown no event", command)
	return 0
}

// isBack checks the values of keys.
func (b *runbook) isBack(t *testing.T, want map[string]string) {
	t.Helper()
	for key, value := range want {
		resp, err := b.client(t, b.endpoints()...).Get(t.Context(), key)
		if err != nil || len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != value {
			t.Errorf("%s is %v, %v; want %q", key, resp, err, value)
		}
	}
}
