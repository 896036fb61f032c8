//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// tab is a page in a real Chromium, which is spoken to over a pipe in its own protocol.
type tab struct {
	t       *testing.T
	to      *os.File
	from    *bufio.Reader
	session string
	calls   int

	problems []string // exceptions of the page's script, and blocked requests
}

// browse opens a page. Rules lead names elsewhere, as Chromium's --host-resolver-rules has them.
func browse(t *testing.T, url, rules string) *tab {
	t.Helper()
	path := chromium(t)
	toR, toW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fromR, fromW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--user-data-dir="+t.TempDir(),
		"--remote-debugging-pipe",
		"--host-resolver-rules="+rules, "--window-size=1400,900", "about:blank")
	cmd.ExtraFiles = []*os.File{toR, fromW} // 3 and 4, where Chromium looks for them
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = toR.Close(), fromW.Close()
	b := &tab{t: t, to: toW, from: bufio.NewReader(fromR)}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // the group that was made for it
		_ = cmd.Wait()
		_, _ = toW.Close(), fromR.Close()
	})
	var target struct{ TargetID, SessionID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &target)
	b.session = target.SessionID
	for _, domain := range []string{"Page", "Runtime", "Audits"} {
		b.call(domain+".enable", nil, nil)
	}
	b.call("Page.navigate", map[string]any{"url": url}, nil)
	return b
}

// chromium returns the path of the browser, which .ci/run installs when it may. There, a console that nobody has looked at
// is a failure: a skip is seen by nobody.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	const missing = "there is no chromium (Debian's package chromium), and so nothing to open the console in"
	if os.Getenv("SNAPSHOTD_BROWSER_REQUIRED") != "" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return ""
}

// answer is a message of the browser: the answer to a call, or an event.
type answer struct {
	ID     int
	Method string
	Params json.RawMessage
	Result json.RawMessage
	Error  *struct{ Message string }
}

// call calls a method of the protocol and decodes its result. One call is under way at a time.
func (b *tab) call(method string, params any, result any) {
	b.t.Helper()
	if problem := b.try(method, params, result); problem != "" {
		b.t.Fatalf("%s: %s", method, problem)
	}
}

// try is call, and returns the error that the browser answers.
func (b *tab) try(method string, params any, result any) (problem string) {
	b.t.Helper()
	b.calls++
	msg := map[string]any{"id": b.calls, "method": method, "params": params}
	if b.session != "" {
		msg["sessionId"] = b.session
	}
	if params == nil {
		delete(msg, "params")
	}
	doc, err := json.Marshal(msg)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.to.Write(append(doc, 0)); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	for {
		line, err := b.from.ReadBytes(0)
		if err != nil {
			b.t.Fatalf("%s: the browser has gone: %v", method, err)
		}
		var a answer
		decode(b.t, string(line[:len(line)-1]), &a)
		switch {
		case a.Method == "Runtime.exceptionThrown" || a.Method == "Audits.issueAdded":
			b.problems = append(b.problems, a.Method+": "+string(a.Params))
		case a.ID != b.calls:
		case a.Error != nil:
			return a.Error.Message
		default:
			if result != nil {
				decode(b.t, string(a.Result), result)
			}
			return ""
		}
	}
}

// eval evaluates an expression in the page, waits for a promise, and decodes the value, if it is wanted.
func (b *tab) eval(expression string, value any) {
	b.t.Helper()
	if problem := b.tryEval(expression, value); problem != "" {
		b.t.Fatalf("%s: %s", expression, problem)
	}
}

// tryEval is eval, and returns the error that the browser answers, as it does while it goes to another page.
func (b *tab) tryEval(expression string, value any) (problem string) {
	b.t.Helper()
	var r struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	if problem := b.try("Runtime.evaluate", map[string]any{
		"expression": expression, "returnByValue": true, "awaitPromise": true, "userGesture": true,
	}, &r); problem != "" {
		return problem
	}
	if r.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", expression, r.ExceptionDetails)
	}
	if value != nil {
		decode(b.t, string(r.Result.Value), value)
	}
	return ""
}

// text returns the visible text of the elements of a selector; empty when there is none, or it cannot be seen, or the
// browser is on its way to another page.
func (b *tab) text(selector string) string {
	b.t.Helper()
	var s string
	_ = b.tryEval("[...document.querySelectorAll("+quoted(selector)+")].filter(e => e.checkVisibility()).map(e => "+
		"e.innerText).join('\\n')", &s)
	return s
}

// open goes to another address of the page.
func (b *tab) open(hash string) {
	b.t.Helper()
	b.eval("location.hash = "+quoted(hash), nil)
}

// click clicks the first visible element of a selector that has a text.
func (b *tab) click(selector, text string) {
	b.t.Helper()
	var there bool
	var seen string
	b.eventually(text+" to be clicked", &seen, func() bool {
		b.eval("(e => e && (e.click(), true) || false)([...document.querySelectorAll("+quoted(selector)+")].find(e => "+
			"e.checkVisibility() && !e.disabled && e.innerText.includes("+quoted(text)+")))", &there)
		seen = b.text(selector)
		return there
	})
}

// fill types a value into a field.
func (b *tab) fill(selector, value string) {
	b.t.Helper()
	b.eval("(e => { e.value = "+quoted(value)+"; for (const type of ['input', 'change']) e.dispatchEvent(new Event(type, "+
		"{ bubbles: true })) })(document.querySelector("+quoted(selector)+"))", nil)
}

// later lets time pass for a service and the page, which asks again.
func (b *tab) later(s *simulated, d time.Duration) {
	b.t.Helper()
	b.passes(s, d)
	b.looks()
}

// passes lets time pass for a service and the page.
func (b *tab) passes(s *simulated, d time.Duration) {
	b.t.Helper()
	s.ahead.Add(int64(d))
	b.eval(fmt.Sprintf("(now => { Date.now = () => now() + %d })(Date.now)", d.Milliseconds()), nil)
}

// looks makes the page ask again.
func (b *tab) looks() {
	b.t.Helper()
	b.eval("dispatchEvent(new Event('online'))", nil)
}

// screen makes the browser one of a size in pixels, in a colour scheme. Nothing moves in it: in the middle of a change
// of colours, a button would have a contrast that nobody sees.
func (b *tab) screen(width, height int, scheme string) {
	b.t.Helper()
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{
		"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600,
	}, nil)
	b.call("Emulation.setEmulatedMedia", map[string]any{
		"features": []map[string]string{
			{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"},
		},
	}, nil)
}

// picture writes what the browser shows to a file.
func (b *tab) picture(file string) {
	b.t.Helper()
	var shot struct{ Data []byte }
	b.call("Page.captureScreenshot", map[string]any{"format": "png"}, &shot)
	if err := os.WriteFile(file, shot.Data, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *tab) title() (title string) {
	b.t.Helper()
	b.eval("document.title", &title)
	return title
}

func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return `""` // a string can be encoded
	}
	return string(b)
}
