//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
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
	b.showsTheList(s)
	b.reads("the verdict", "#clusters summary", "ATTENTION", "READY", "never")

	s.must("verify", "latest", "--level", "drill")
	s.must("save", "--name-prefix", "second", "--backend", "local")
	b.showsTheList(s)
	b.reads("the verdict", "#clusters summary", "SAFE")
	b.reads("whether it is current", "#link", "Live, as of ")
	b.restores(s, "second-node-1-")
	b.eval("document.querySelector('.card .body summary').click()", nil)
	b.reads("the commands", ".commands", "Take a snapshot now")

	if err := os.Rename(dir, dir+".gone"); err != nil {
		t.Fatal(err)
	}
	if r := s.run("save", "--name-prefix", "third"); r.code != 3 {
		t.Fatalf("save without the directory: exit code %d: %s", r.code, r.stderr)
	}
	b.showsTheList(s)
	b.reads("the verdict", "#clusters summary", "ATTENTION", "PARTIAL")
	b.reads("why", ".findings", "The last save did not reach every backend", attack,
		"snapshotd reconcile --repair --addr "+s.grpc)
	b.eval("document.querySelectorAll('button.name').forEach(e => e.click())", nil)
	b.reads("the commands, of a card that was made anew", ".commands", "Take a snapshot now")
	b.reads("the details", "tr.details", "note="+attack, attack+" does not exist", "snapshotd verify third-node-1-")
	var made int
	if b.eval("document.querySelectorAll('img, main script, iframe').length", &made); made != 0 ||
		strings.Contains(b.title(), "attacked") {
		t.Errorf("markup of others has become %d elements; the title is %q", made, b.title())
	}

	s.kill()
	b.reads("that it is not current", "#link", "NOT CURRENT", " ago")
	b.reads("why", "#notice", "the service does not answer", "What is shown below is as it was at ",
		"snapshotd restore latest --from URL")
	b.reads("the verdict", "#clusters summary", "UNKNOWN, was ATTENTION")
	if err := os.Rename(dir+".gone", dir); err != nil {
		t.Fatal(err)
	}
	was := s.grpc
	s = start(t, w.options(), append(args, "--listen-http", s.http)...)
	b.reads("whether it is current", "#link", "Live, as of ")
	b.reads("where it is now", "tr.details code", "snapshotd get second-node-1-", "--addr "+s.grpc)
	if text := b.text("code"); s.grpc != was && strings.Contains(text, "--addr "+was) {
		t.Errorf("the service was at %s, and still is for %s", was, text)
	}
	s.must("reconcile", "--repair")
	b.showsTheList(s)
	b.reads("the verdict", "#clusters summary", "SAFE")
	if len(b.problems) > 0 {
		t.Errorf("the browser complains: %q", b.problems)
	}
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
	b := browse(t, "http://"+s.http+"/", "")
	b.showsTheList(s)

	b.eval("window.part = document.getElementById('fleet'); part.remove()", nil)
	b.reads("what it cannot do", "#notice", "This page cannot show what the service has said: ")
	b.reads("that it is not current", "#link", "NOT CURRENT")
	b.eval("document.getElementById('clusters').before(part)", nil)
	b.reads("whether it is current", "#link", "Live, as of ")

	s.kill()
	for answer, said := range map[string]string{"<p>Who are you?": "HTTP 200 and no JSON",
		"{}": "JSON that is no overview"} {
		other := answering(t, s.http, answer)
		b.reads("who answers", "#notice", "It answers with "+said, "a proxy between? What is shown below is as it was at ")
		b.reads("that it is not current", "#link", "NOT CURRENT")
		other.Close()
	}
	s = start(t, w.options(), append(args, "--listen-http", s.http)...)
	b.reads("whether it is current", "#link", "Live, as of ")

	b.eval("until.value = '20261-01-01T00:00'; until.dispatchEvent(new Event('change'))", nil)
	b.showsTheList(s)
	b.eval("until.value = '2025-01-01T00:00'; until.dispatchEvent(new Event('change'))", nil)
	b.reads("that nothing is older", "#count", "No such snapshot.")
}

// TestTheConsoleKeepsUp: a steady stream of events does not keep the page from showing them.
func TestTheConsoleKeepsUp(t *testing.T) {
	chromium(t)
	w := newWorld(t, 0)
	s := start(t, w.options(), w.args(t, "")...)
	b := browse(t, "http://"+s.http+"/", "")
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

// restores runs the command for the restore of a snapshot, as it can be copied from the page, in a shell.
func (b *tab) restores(s *service, name string) {
	b.t.Helper()
	b.eval("[...document.querySelectorAll('button.name')].find(e => e.innerText.startsWith("+quoted(name)+")).click()",
		nil)
	var command string
	for line := range strings.Lines(b.text("tr.details code")) {
		if strings.HasPrefix(line, "snapshotd restore "+name) {
			command = strings.Replace(strings.TrimSpace(line), "--data-dir DIR",
				"--data-dir "+filepath.Join(b.t.TempDir(), "restored"), 1)
		}
	}
	r := run(b.t, filepath.Dir(s.path), command)
	if r.code != 0 || !strings.Contains(r.stdout, name) {
		b.t.Errorf("%s: exit code %d\n%s%s", command, r.code, r.stdout, r.stderr)
	}
	b.eval("[...document.querySelectorAll('button.name')].find(e => e.innerText.startsWith("+quoted(name)+")).click()",
		nil)
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
	const rows = `[...document.querySelectorAll('#rows > tr:not(.details)')].map(r => [0, 1, 5, 6, 8]
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
