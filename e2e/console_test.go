//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// attack is markup that runs if it is ever taken for some. The policy would not let it run, so it is looked for, too.
const attack = `<img src=x onerror=document.title='attacked'>`

// TestTheConsoleInABrowser: the page shows the same as `snapshotd list`, also for a snapshot that did not reach a
// backend. Text from others stays text. Events appear without a reload. When the service is gone, the page says so.
func TestTheConsoleInABrowser(t *testing.T) {
	chromium(t)
	w := newWorld(t, 1<<20)
	dir := filepath.Join(t.TempDir(), attack)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	args := []string{
		"--etcd-endpoints", strings.Join(w.etcd.Endpoints(), ","), "--data-dir", t.TempDir(), "--node-name", "node-1",
		"--backend", "local=" + (&url.URL{Scheme: "file", Path: dir}).String(), "--backend", "s3=" + w.s3URL(""),
	}
	s := start(t, w.options(), args...)
	s.must("save", "--label", "note="+attack)
	b := browse(t, "http://"+s.http+"/", "")
	b.reads("the verdict", "#clusters summary", "ATTENTION", "READY", "never")
	b.reads("what to do", ".findings", "No restore was ever proven", "--level drill --addr "+s.grpc)
	b.click("#clusters a", "All about default")
	b.showsTheList(s)

	s.must("verify", "latest", "--level", "drill")
	s.must("save", "--name-prefix", "second", "--backend", "local")
	b.showsTheList(s)
	b.reads("the verdict", "#view h2", "SAFE")
	b.reads("whether it is current", "#link", "Live, as of ")
	b.restores(s, "second-node-1-")
	b.click("#view > details > summary", "Commands")
	b.reads("the commands", ".commands", "Take a snapshot now")

	if err := os.Rename(dir, dir+".gone"); err != nil {
		t.Fatal(err)
	}
	if r := s.run("save", "--name-prefix", "third"); r.code != 3 {
		t.Fatalf("save without the directory: exit code %d: %s", r.code, r.stderr)
	}
	b.showsTheList(s)
	b.reads("the verdict", "#view h2", "ATTENTION")
	b.reads("why", ".findings", "The last save did not reach every backend", attack,
		"snapshotd reconcile --repair --addr "+s.grpc)
	b.reads("the commands, made anew", ".commands", "Take a snapshot now")
	b.click("#rows a", "third-node-1-")
	b.reads("the details", "#view", attack+" does not exist", "snapshotd verify third-node-1-")
	b.eval("history.back()", nil)
	b.click("#rows a", "on-demand-node-1-")
	b.reads("the labels", ".labels", "note="+attack)
	var made int
	if b.eval("document.querySelectorAll('img, main script, iframe').length", &made); made != 0 ||
		strings.Contains(b.title(), "attacked") {
		t.Errorf("markup of others has become %d elements; the title is %q", made, b.title())
	}

	s.kill()
	b.reads("that it is not current", "#link", "NOT CURRENT", " ago")
	b.reads("why", "#notice", "the service does not answer", "What is shown below is as it was at ",
		"snapshotd list --from 's3://", "snapshotd restore latest --from file://")
	b.open("#/")
	b.reads("the verdict", "#clusters summary", "UNKNOWN, was ATTENTION")
	if err := os.Rename(dir+".gone", dir); err != nil {
		t.Fatal(err)
	}
	s = start(t, w.options(), append(args, "--listen-http", s.http)...)
	b.reads("whether it is current", "#link", "Live, as of ")
	b.reads("where it is now", ".findings", "--addr "+s.grpc)
	s.must("reconcile", "--repair")
	b.reads("the verdict", "#clusters summary", "SAFE")
	b.open("#/clusters/default")
	b.showsTheList(s)
	if len(b.problems) > 0 {
		t.Errorf("the browser complains: %q", b.problems)
	}
}

// TestActionsOfTheConsole does each of them as a person would, and looks at the service for what has become of it.
func TestActionsOfTheConsole(t *testing.T) {
	chromium(t)
	w := newWorld(t, 1<<20)
	s := start(t, w.options(), w.args(t, "")...)
	b := browse(t, "http://"+s.http+"/#/clusters/default", "")
	b.click(".actions button", "Save now")
	b.fill("#save-prefix", "by-hand")
	b.fill("#save-labels", "team=ops\nwhy=a=b")
	b.click("#dialog button", "Save")
	b.reads("the outcome", "#dialog-result", "READY", "by-hand-node-1-")
	b.click("#dialog button", "Close")
	b.showsTheList(s)
	name := s.list()[0].Name
	if got := s.must("get", name); !strings.Contains(got, "why=a=b") {
		t.Errorf("the labels are missing: %s", got)
	}

	if err := os.Remove(filepath.Join(w.dir, "default", name+".db.zst")); err != nil {
		t.Fatal(err)
	}
	b.click(".actions button", "Reconcile")
	b.eval("document.querySelector('#repair').click()", nil)
	b.click("#dialog button", "Show what would change")
	b.reads("what would change", "#dialog-result", "would be changed", "local", "s3", "OK")
	if !strings.Contains(s.must("list", "-o", "json"), name) {
		t.Error("the dry run has changed something")
	}
	b.click("#dialog button.go", "Reconcile")
	b.reads("what has changed", "#dialog-result", "were changed")
	b.click("#dialog button", "Close")

	b.open("#/clusters/default/snapshots/" + name)
	b.click(".actions button", "Verify")
	b.fill("#verify-level", "LEVEL_DRILL")
	b.click("#dialog button", "Verify")
	b.reads("the verdict", "#dialog-result", "PASSED")
	b.click("#dialog button", "Close")
	b.reads("the verification", "section[aria-label=Verifications]", "DRILL", "PASSED")
	s.must("verify", name)
	b.reads("both verifications", "section[aria-label=Verifications]", "CHECKSUM", "DRILL", "PASSED")
	if shown := s.must("get", name); !strings.Contains(shown, "PASSED, CHECKSUM on") || !strings.Contains(shown, "PASSED, DRILL on") {
		t.Errorf("get shows other verifications:\n%s", shown)
	}

	b.click(".actions button", "Pin")
	b.click("#dialog button", "Pin")
	b.reads("that it is done", "#dialog-result", "DONE")
	b.click("#dialog button", "Close")
	b.reads("that it is pinned", "#view h2", "PINNED")
	b.click(".actions button", "Labels")
	b.fill("#labels", "team=db")
	b.click("#dialog button", "Set")
	b.reads("that it is done", "#dialog-result", "DONE")
	b.click("#dialog button", "Close")
	b.reads("the labels", ".labels", "team=db")

	b.deletes(name)
	b.reads("the error as the API has it", "#dialog-result", "PINNED: ", "is pinned")
	b.click("#dialog button", "Close")
	b.click(".actions button", "Unpin")
	b.click("#dialog button", "Unpin")
	b.reads("that it is done", "#dialog-result", "DONE")
	b.click("#dialog button", "Close")

	b.downloads(s, name)

	b.deletes("another")
	var disabled bool
	if b.eval("document.querySelector('#dialog button.go').disabled", &disabled); !disabled {
		t.Error("it can be deleted under another name")
	}
	b.click("#dialog button", "Close")
	b.deletes(name)
	b.reads("that it is gone", "#dialog-result", "DELETED")
	b.click("#dialog button", "Close")
	b.reads("that there is none", "#count", "There is no snapshot.")
	if left := s.list(); len(left) != 0 {
		t.Errorf("the service still has %v", left)
	}
	if len(b.problems) > 0 {
		t.Errorf("the browser complains: %q", b.problems)
	}
}

// TestPruneInABrowser: what goes is shown before it goes.
func TestPruneInABrowser(t *testing.T) {
	chromium(t)
	w := newWorld(t, 0)
	s := start(t, w.options(), "--config", writeConfig(t, `clusters:
  - etcd: {endpoints: [%q]}
    schedules: [{name: yearly, cron: "0 0 1 1 *"}]
    retention: {keep_last: 1, on_demand: true}
    backends: [{name: local, url: "file://%s"}]
trace_url: https://jaeger.example/trace/{trace_id}
reconcile_interval: 24h
`, w.etcd.Endpoints()[0], w.dir))
	eventually(t, "the first snapshot of a cluster without one", func() bool {
		return strings.Contains(s.log.String(), `"snapshot saved"`)
	})
	for range 2 {
		s.must("save")
	}
	b := browse(t, "http://"+s.http+"/#/clusters/default", "")
	b.reads("what retention removes", "section[aria-label=Retention]", "2 snapshots", "1 snapshot")
	if wide := s.run("status", "-o", "wide").stdout; !strings.Contains(wide, "2 now") {
		t.Errorf("status -o wide says nothing of it: %s", wide)
	}
	newest := s.list()[0]
	b.click(".actions button", "Prune")
	b.click("#dialog button", "Show what would go")
	b.reads("what would go", "#dialog-result", "2 copies would go", "1 stay", "it is the newest on this backend")
	if n := len(s.list()); n != 3 {
		t.Errorf("%d snapshots are left by a dry run", n)
	}
	b.click("#dialog button", "Remove them")
	b.reads("what has gone", "#dialog-result", "2 copies removed")
	b.click("#dialog button", "Close")
	b.showsTheList(s)
	b.open("#/clusters/default/snapshots/" + newest.Name)
	var trace string
	b.reads("the trace", "#view", "Trace")
	b.eval("(document.querySelector('a[href^=\"https://jaeger.example/trace/\"]') || {}).href || ''", &trace)
	if len(trace) != len("https://jaeger.example/trace/")+32 {
		t.Errorf("the link to the trace is %q", trace)
	}
}

// TestWhoOpensTheConsoleLateSeesTheSave: also a page that was opened when the save had begun shows how far it is, and so
// does that of another replica.
func TestWhoOpensTheConsoleLateSeesTheSave(t *testing.T) {
	chromium(t)
	w := newWorld(t, 4<<20)
	s := start(t, w.options(), append(w.args(t, ""), "--stream-limit", "256KiB")...)
	other := start(t, w.options(), append(w.args(t, ""), "--node-name", "node-2")...)
	done := make(chan struct{})
	t.Cleanup(func() { <-done })
	go func() {
		defer close(done)
		s.run("save")
	}()
	eventually(t, "the save is under way", func() bool { return strings.Contains(s.run("status").stdout, " of ") })
	b := browse(t, "http://"+s.http+"/", "")
	b.reads("the save", ".saving", "SAVING", "on-demand-node-1-", " of ", "from etcd")
	var value float64
	b.eval("document.querySelector('.saving progress').value", &value)
	if value <= 0 {
		t.Error("its progress shows nothing")
	}
	eventually(t, "another replica was told", func() bool { return strings.Contains(other.run("status").stdout, " of ") })
	b = browse(t, "http://"+other.http+"/", "")
	b.reads("the save of another replica", ".saving", "SAVING", "on-demand-node-1-", "on node-1", " of ", "from etcd")
}

// TestTheConsoleSaysWhyItIsRefused: the page itself is for everybody, its data is not.
func TestTheConsoleSaysWhyItIsRefused(t *testing.T) {
	chromium(t)
	w := newWorld(t, 0)
	s := start(t, w.options(), w.args(t, "")...)
	s.must("save")
	b := browse(t, "http://"+strings.Replace(s.http, "127.0.0.1", "evil.example", 1)+"/", "MAP evil.example 127.0.0.1")
	b.reads("why", "#notice", "The API is refused to this browser", "evil.example", "Open this page as http://localhost:")
	if shown := b.text("main"); shown != "" || !strings.Contains(b.title(), "REFUSED") {
		t.Errorf("%q shows %q", b.title(), shown)
	}
}

// TestTheConsoleComesBack: the page reports an answer that it cannot show, and a defect of its own, and goes on asking.
func TestTheConsoleComesBack(t *testing.T) {
	chromium(t)
	w := newWorld(t, 0)
	args := w.args(t, "")
	s := start(t, w.options(), args...)
	s.must("save")
	b := browse(t, "http://"+s.http+"/#/clusters/default", "")
	b.showsTheList(s)

	b.eval("window.part = document.getElementById('trail'); part.remove()", nil)
	b.reads("what it cannot do", "#notice", "This page cannot show what the service has said: ")
	b.reads("that it is not current", "#link", "NOT CURRENT")
	b.eval("document.querySelector('header').append(part)", nil)
	b.reads("whether it is current", "#link", "Live, as of ")

	s.kill()
	for answer, said := range map[string]string{"<p>Who are you?": "HTTP 200 and no JSON",
		"{}": "JSON that is no list of clusters"} {
		other := answering(t, s.http, answer)
		b.reads("who answers", "#notice", "It answers with "+said, "a proxy between? What is shown below is as it was at ")
		b.reads("that it is not current", "#link", "NOT CURRENT")
		other.Close()
	}
	s = start(t, w.options(), append(args, "--listen-http", s.http)...)
	b.reads("whether it is current", "#link", "Live, as of ")

	b.fill("#until", "20261-01-01T00:00")
	b.showsTheList(s)
	b.fill("#until", "2025-01-01T00:00")
	b.reads("that nothing is older", "#count", "no such snapshot")
}

// TestTheConsoleKeepsUp: a steady stream of events does not keep the page from showing them.
func TestTheConsoleKeepsUp(t *testing.T) {
	chromium(t)
	w := newWorld(t, 0)
	s := start(t, w.options(), w.args(t, "")...)
	b := browse(t, "http://"+s.http+"/#/clusters/default", "")
	b.reads("whether it is current", "#link", "Live, as of ")
	s.must("save", "--name-prefix", "first")
	var text string
	b.eventually("the first while others are saved", &text, func() bool {
		s.must("save", "--backend", "local")
		text = b.text("#rows")
		return strings.Contains(text, "first-")
	})
}

// answering serves one answer to all that is asked at an address.
func answering(t *testing.T, addr, answer string) *httptest.Server {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_,
			_ = io.WriteString(w, answer)
	}))
	_ = srv.Listener.Close() // its own one
	srv.Listener = l
	srv.Start()
	t.Cleanup(srv.Close)
	return srv
}

// deletes opens the dialog for it, types a name, and goes on when it is that of the snapshot.
func (b *tab) deletes(name string) {
	b.t.Helper()
	b.click(".actions button", "Delete")
	b.fill("#delete-name", name)
	b.eval("document.querySelector('#dialog button.go').click()", nil) // a disabled button does nothing
}

// downloads fetches the database, and the bytes as they are stored, with the browser. It compares them with those of the
// command, and runs the command that the page has for their checksum.
func (b *tab) downloads(s *service, name string) {
	b.t.Helper()
	for decoded, file := range map[bool]string{true: name + ".db", false: name + ".db.zst"} {
		dir := b.t.TempDir()
		b.call("Page.setDownloadBehavior", map[string]any{"behavior": "allow", "downloadPath": dir}, nil)
		b.click(".actions button", "Download")
		b.fill("#download-kind", strconv.FormatBool(decoded))
		b.click("#dialog button", "Download")
		b.reads("what is fetched", "#dialog-result", file, "sha256")
		want := filepath.Join(b.t.TempDir(), "want")
		s.must("download", name, "--decoded="+strconv.FormatBool(decoded), "--output", want)
		expected, err := os.ReadFile(want)
		if err != nil {
			b.t.Fatal(err)
		}
		var got []byte
		eventually(b.t, "the file of the browser is whole", func() bool {
			got, err = os.ReadFile(filepath.Join(dir, file))
			return err == nil && len(got) == len(expected)
		})
		if !bytes.Equal(got, expected) {
			b.t.Errorf("the browser has fetched other bytes as %s", file)
		}
		sum := regexp.MustCompile("[0-9a-f]{64}").FindString(b.text("#dialog-result"))
		line := strings.TrimSpace(b.text("#dialog-result code"))
		r := command(b.t.Context(), b.t, "bash", "-c", "cd "+dir+" && "+line)
		if sum == "" || !strings.HasPrefix(r.stdout, sum+" ") {
			b.t.Errorf("the checksum %q is to be compared with that of %q, which says %s%s", sum, line, r.stdout, r.stderr)
		}
		b.click("#dialog button", "Close")
	}
}

// restores runs the command for the restore of a snapshot, as it can be copied from the page, in a shell.
func (b *tab) restores(s *service, name string) {
	b.t.Helper()
	b.click("#rows a", name)
	var command string
	b.reads("its commands", "section[aria-label=Commands]", "snapshotd restore "+name)
	for line := range strings.Lines(b.text("section[aria-label=Commands] code")) {
		if strings.HasPrefix(line, "snapshotd restore "+name) {
			command = strings.Replace(strings.TrimSpace(line), "--data-dir DIR",
				"--data-dir "+filepath.Join(b.t.TempDir(), "restored"), 1)
		}
	}
	r := run(b.t, filepath.Dir(s.path), command)
	if r.code != 0 || !strings.Contains(r.stdout, name) {
		b.t.Errorf("%s: exit code %d\n%s%s", command, r.code, r.stdout, r.stderr)
	}
	b.eval("history.back()", nil)
	b.reads("the list again", "#count", "newest first")
}

// run runs a command in a shell that finds snapshotd in a directory.
func run(t *testing.T, dir, line string) result {
	t.Helper()
	return command(t.Context(), t, "bash", "-c", "PATH="+dir+":$PATH; "+line)
}

// reads waits until all of this can be read in the elements of a selector.
func (b *tab) reads(what, selector string, all ...string) {
	b.t.Helper()
	var text string
	b.eventually(what, &text, func() bool {
		text = b.text(selector)
		for _, part := range all {
			if !strings.Contains(text, part) {
				return false
			}
		}
		return true
	})
}

// showsTheList waits until the page has the snapshots of the service's list, each as it is there.
func (b *tab) showsTheList(s *service) {
	b.t.Helper()
	var want []string
	for _, sn := range s.list() {
		row := []string{
			sn.Name, strings.TrimPrefix(sn.State, "STATE_"), strconv.FormatInt(sn.TotalKeys, 10),
			strconv.FormatInt(sn.Revision, 10),
		}
		for _, l := range sn.Locations {
			row = append(row, l.Backend+" "+strings.TrimPrefix(l.State, "STATE_"))
		}
		want = append(want, strings.Join(row, " "))
	}
	// Marks and the spaces between digits are for the eye.
	const rows = `[...document.querySelectorAll('#rows > tr.snapshot')].map(r => [0, 1, 6, 7, 8]
		.map(i => r.cells[i].innerText.replaceAll(/[✔▲✖…▸▾\u202f]/g, '').replaceAll(/\s+/g, ' ').trim()).join(' '))`
	var got []string
	var told string
	b.eventually("the list", &told, func() bool {
		b.eval(rows, &got)
		told = fmt.Sprintf("%q, want %q", got, want)
		return strings.Join(got, "\n") == strings.Join(want, "\n")
	})
}

// eventually is [eventually], and reports the last text of the page.
func (b *tab) eventually(what string, text *string, ok func() bool) {
	b.t.Helper()
	done := false
	defer func() {
		if !done {
			b.t.Logf("the page has %s", *text)
		}
	}()
	eventually(b.t, "the page shows "+what, ok)
	done = true
}
