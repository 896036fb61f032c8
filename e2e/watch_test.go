//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// event is a line of `snapshotd watch -o json`.
type event struct{ Type, Name, Backend, ResumeToken string }

// watcher is a running `snapshotd watch`.
type watcher struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout *testenv.Buffer
	stderr *testenv.Buffer
}

// watch starts a watcher and waits until nothing can be missed any more.
func (s *service) watch(args ...string) *watcher {
	s.t.Helper()
	w := &watcher{t: s.t, stdout: &testenv.Buffer{}, stderr: &testenv.Buffer{}}
	w.cmd = exec.Command(s.path, append([]string{"watch", "-o", "json", "--addr", s.grpc}, args...)...)
	w.cmd.Stdout, w.cmd.Stderr = w.stdout, w.stderr
	if err := w.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(w.kill)
	eventually(s.t, "the watch is live", func() bool { return len(w.events()) > 0 })
	return w
}

func (w *watcher) kill() {
	_ = w.cmd.Process.Kill()
	_ = w.cmd.Wait()
}

// events are the events shown so far.
func (w *watcher) events() (shown []event) {
	w.t.Helper()
	text := w.stdout.String()
	for line := range strings.Lines(text[:strings.LastIndex(text, "\n")+1]) {
		var ev event
		if err := json.Unmarshal([]byte(line), &ev); err != nil {
			w.t.Fatalf("%q: %v", line, err)
		}
		shown = append(shown, ev)
	}
	return shown
}

// token is the last one that was shown.
func (w *watcher) token() (token string) {
	for _, ev := range w.events() {
		if ev.ResumeToken != "" {
			token = ev.ResumeToken
		}
	}
	return token
}

// A watcher of one replica sees the actions of the others, and when its replica dies it goes on at another one, without
// a gap: all events of all snapshots come, in order, at least once.
func TestWatchGoesOnAtAnotherReplica(t *testing.T) {
	w := newWorld(t, 4<<20)
	var replicas []*service
	for _, node := range []string{"node-1", "node-2", "node-3"} {
		replicas = append(replicas,
			start(t, w.options(), append(w.args(t, ""), "--data-dir", t.TempDir(), "--node-name", node)...))
	}
	save := func(on *service) string {
		t.Helper()
		return nameOf(t, on.must("save", "-o", "json"))
	}
	first := replicas[0].watch()
	begin := first.token()
	if begin == "" {
		t.Fatal("no token comes first")
	}
	names := []string{save(replicas[1]), save(replicas[0]), save(replicas[2])}

	dying := make(chan string, 1)
	go func() { // under way while the watcher's replica dies
		r := command(context.Background(), t, replicas[1].path, "save", "-o", "json", "--addr", replicas[1].grpc)
		var s struct{ Snapshot snap }
		_ = json.Unmarshal([]byte(r.stdout), &s)
		dying <- s.Snapshot.Name
	}()
	eventually(t, "the save has begun", func() bool {
		all := first.events()
		return slices.ContainsFunc(all,
			func(ev event) bool { return ev.Type == "TYPE_STARTED" && !slices.Contains(names, ev.Name) })
	})
	replicas[0].kill()
	names = append(names, <-dying)
	eventually(t, "the watch says that it broke off",
		func() bool { return strings.Contains(first.stderr.String(), "the watch broke off") })
	first.kill()
	names = append(names, save(replicas[1])) // without a watcher
	replicas[1].must("delete", names[0])

	second := replicas[2].watch("--resume", first.token())
	names = append(names, save(replicas[1]), save(replicas[2]))
	var all []event
	eventually(t, "the last save is shown", func() bool {
		all = append(first.events(), second.events()...)
		return slices.ContainsFunc(all,
			func(ev event) bool { return ev.Type == "TYPE_FINISHED" && ev.Name == names[len(names)-1] })
	})
	checkStory(t, all, names, names[0])
	var listed []string
	for _, s := range replicas[1].list() {
		listed = append(listed, s.Name)
	}
	slices.Reverse(listed)
	if !slices.Equal(listed, names[1:]) {
		t.Errorf("the catalog has %q, and saved were %q", listed, names)
	}

	whole := replicas[1].watch("--resume", begin) // all of it again, from the catalog alone
	eventually(t, "the last save is shown again", func() bool {
		return whole.shows("FINISHED", names[len(names)-1])
	})
	checkStory(t, whole.events(), names, names[0])
	compactAll(t, w.etcd)
	r := replicas[2].run("watch", "--resume", begin) // replicas[1] remembers what it is showing, and needs no history
	if r.code != 1 || r.stdout != "" || !strings.Contains(r.stderr, "list, then watch anew") {
		t.Errorf("after a compaction: exit code %d, %s%s", r.code, r.stdout, r.stderr)
	}
}

// checkStory checks that events tell of each snapshot all that happened to it, in order.
func checkStory(t *testing.T, all []event, names []string, deleted string) {
	t.Helper()
	at := func(kind, name, backend string) int {
		return slices.IndexFunc(all,
			func(ev event) bool { return ev.Type == "TYPE_"+kind && ev.Name == name && ev.Backend == backend })
	}
	last := -1
	for _, name := range names {
		started, local, s3, finished := at("STARTED", name, ""), at("LOCATION_DONE", name, "local"),
			at("LOCATION_DONE", name, "s3"), at("FINISHED", name, "")
		if started < 0 || min(local, s3) < started || finished < max(local, s3) || started < last {
			t.Errorf("%s: started %d, local %d, s3 %d, finished %d, after %d\n%v", name, started, local, s3, finished, last, all)
		}
		last = finished
	}
	for _, backend := range []string{"local", "s3"} {
		if at("DELETED", deleted, backend) < at("FINISHED", deleted, "") {
			t.Errorf("%s is not deleted from %s", deleted, backend)
		}
	}
}

// compactAll lets etcd forget all but the newest revision.
func compactAll(t *testing.T, etcd *testenv.Cluster) {
	t.Helper()
	client := etcd.Client(t)
	resp, err := client.Put(t.Context(), "compact", "")
	if err == nil {
		_, err = client.Compact(t.Context(), resp.Header.Revision)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Without etcd's quorum a save has no record, but its replica sends its events. When etcd is back, the same stream goes
// on by itself, and the snapshots of the time between are in the catalog for watchers that resume.
func TestWatchGoesOnWithoutQuorum(t *testing.T) {
	w := &world{etcd: testenv.StartCluster(t, 3), s3: testenv.StartS3(t), dir: t.TempDir(), bucket: "snapshots"}
	w.s3.MakeBucket(w.bucket)
	s := start(t, w.options(), w.args(t, "")...)
	live := s.watch()
	begin := live.token()
	names := []string{nameOf(t, s.must("save", "-o", "json"))}
	eventually(t, "the first save is shown", func() bool { return live.shows("FINISHED", names[0]) })

	w.etcd.Kill(0)
	w.etcd.Kill(1)
	names = append(names, nameOf(t, s.must("save", "-o", "json")))
	eventually(t, "the save without quorum is shown", func() bool { return live.shows("FINISHED", names[1]) })
	w.etcd.Restart(t, 0)
	w.etcd.Restart(t, 1)
	eventually(t, "reconcile finds what was saved meanwhile", func() bool {
		_, r := s.reconcile()
		return r.code == 0 && len(s.list()) == 2
	})
	names = append(names, nameOf(t, s.must("save", "-o", "json")))
	eventually(t, "the last save is shown, and the token after it", func() bool {
		all := live.events()
		return live.shows("FINISHED", names[2]) && all[len(all)-1].ResumeToken != ""
	})
	resumed := s.watch("--resume", begin)
	eventually(t, "all is shown again", func() bool { return resumed.shows("FINISHED", names[2]) })
	for _, name := range names {
		if !resumed.shows("LOCATION_DONE", name) || !resumed.shows("FINISHED", name) {
			t.Errorf("%s is not shown to those who resume: %v", name, resumed.events())
		}
	}
	if live.stderr.String() != "" {
		t.Errorf("the stream broke off: %s", live.stderr.String())
	}
}

func (w *watcher) shows(kind, name string) bool {
	return slices.ContainsFunc(w.events(), func(ev event) bool { return ev.Type == "TYPE_"+kind && ev.Name == name })
}

// nameOf returns the name of the snapshot in the output of `save -o json`.
func nameOf(t *testing.T, doc string) string {
	t.Helper()
	var r struct{ Snapshot snap }
	decode(t, doc, &r)
	return r.Snapshot.Name
}
