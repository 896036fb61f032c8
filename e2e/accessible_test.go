//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// screen is a screen of a width in pixels, in a colour scheme.
type screen struct {
	name, scheme string
	width        int
}

var screens = []screen{{"light", "light", 1400}, {"dark", "dark", 1400}, {"phone", "light", 390}, {"dark-phone", "dark", 390}}

// goes opens an address for axe, which the policy of the page would not let in, and waits for an element.
func (b *tab) goes(url, ready string) {
	b.t.Helper()
	b.call("Page.setBypassCSP", map[string]any{"enabled": true}, nil)
	b.call("Page.navigate", map[string]any{"url": url}, nil)
	var there bool
	eventually(b.t, "there is "+ready+" at "+url, func() bool {
		return b.tryEval("Boolean(document.querySelector("+quoted(ready)+"))", &there) == "" && there
	})
}

// accessible checks that axe finds nothing in the page, and that it is not wider than the screen.
func (b *tab) accessible(name string, on screen) {
	b.t.Helper()
	axe, err := os.ReadFile(filepath.Join("testdata", "axe", "axe.min.js"))
	if err != nil {
		b.t.Fatal(err)
	}
	b.screen(on.width, 900, on.scheme)
	var loaded bool
	if b.eval("Boolean(window.axe)", &loaded); !loaded {
		b.eval(string(axe)+"\n;0", nil)
	}
	b.eval("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))", nil)
	var found []string
	b.eval("axe.run(document, { resultTypes: ['violations'] }).then(r => r.violations.map(v => v.id + ': ' + "+
		"v.nodes.map(n => n.html.slice(0, 200) + ' ' + n.failureSummary).join('; ')))", &found)
	if len(found) > 0 {
		b.t.Errorf("%s, %s: %s", name, on.name, strings.Join(found, "\n"))
	}
	var wide int
	if b.eval("document.documentElement.scrollWidth", &wide); wide > on.width {
		b.t.Errorf("%s, %s: it is %d pixels wide, on a screen of %d", name, on.name, wide, on.width)
	}
}

// TestTheConsoleWithTheKeyboardAlone goes from all clusters to a saved snapshot with Tab, Enter and Escape, and sees at
// each step where the focus is.
func TestTheConsoleWithTheKeyboardAlone(t *testing.T) {
	chromium(t)
	w := newWorld(t, 1<<20)
	s := start(t, w.options(), w.args(t, "")...)
	b := browse(t, "http://"+s.http+"/", "")
	b.reads("the verdict", "#clusters summary", "NOT SAFE")
	b.tabTo("the summary of the cluster", "SUMMARY", "NOT SAFE")
	b.press("Enter") // it is open, as the only one there is
	b.gone("the findings", ".findings")
	b.press("Enter")
	b.reads("the findings", ".findings", "no snapshot")
	b.tabTo("its link", "A", "All about default")
	b.press("Enter")
	b.reads("the cluster", "#view h2", "default")
	b.focused("the heading", "H2", "default")

	b.eval("document.querySelector('.skip').focus()", nil)
	b.press("Enter")
	b.focused("the content", "DIV", "default") // of the same view
	b.tabTo("the button", "BUTTON", "Save now")
	b.press("Enter")
	b.reads("the dialog", "#dialog h2", "Save default now")
	b.press("Escape")
	b.gone("the dialog", "#dialog h2")
	b.focused("the button that opened it", "BUTTON", "Save now")
	b.press("Enter")
	b.focusedField("save-prefix")
	b.call("Input.insertText", map[string]any{"text": "by-key"}, nil)
	b.tabTo("the button that does it", "BUTTON", "Save")
	b.press("Enter")
	b.reads("the outcome", "#dialog-result", "READY", "by-key-node-1-")
	b.focused("the button that closes it", "BUTTON", "Close")
	b.press("Enter")
	b.gone("the dialog", "#dialog h2")
	b.reads("the snapshot", "#rows", "by-key-node-1-")

	b.tabTo("the snapshot", "A", "by-key-node-1-")
	b.press("Enter")
	b.reads("its verifications", "section[aria-label=Verifications]", "never verified")
	b.focused("the heading", "H2", "by-key-node-1-")
	b.tabTo("the button", "BUTTON", "Delete")
	b.press("Enter")
	name := s.list()[0].Name
	b.focusedField("delete-name")
	b.call("Input.insertText", map[string]any{"text": name}, nil)
	b.press("Enter") // in the field
	b.reads("that it is gone", "#dialog-result", "DELETED")
	if left := s.list(); len(left) != 0 {
		t.Errorf("the service still has %v", left)
	}
	if len(b.problems) > 0 {
		t.Errorf("the browser complains: %q", b.problems)
	}
}

var keyCodes = map[string]int{"Tab": 9, "Enter": 13, "Escape": 27}

// press presses a key, as the keyboard does.
func (b *tab) press(key string) {
	b.t.Helper()
	event := map[string]any{"type": "keyDown", "key": key, "code": key, "windowsVirtualKeyCode": keyCodes[key]}
	if key == "Enter" {
		event["text"] = "\r"
	}
	b.call("Input.dispatchKeyEvent", event, nil)
	b.call("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": key, "code": key, "windowsVirtualKeyCode": keyCodes[key]}, nil)
}

// atFocus is the element that has the focus: its tag, its text, its id, and whether a person can see that it has it.
type atFocus struct {
	Tag, Text, ID string
	Seen          bool
}

func (b *tab) atFocus() (at atFocus) {
	b.t.Helper()
	b.eval(`(e => { const r = e.getBoundingClientRect(); return { tag: e.tagName, text: e.innerText || '', id: e.id,
		seen: e.matches(':focus-visible') && r.bottom > 0 && r.top < innerHeight && getComputedStyle(e).outlineStyle !== 'none' } })(document.activeElement)`, &at)
	return at
}

// tabTo presses Tab until an element with a tag and a text has the focus.
func (b *tab) tabTo(what, tag, text string) {
	b.t.Helper()
	var been []string
	for range 80 {
		b.press("Tab")
		at := b.atFocus()
		if at.Tag == tag && strings.Contains(at.Text, text) {
			if !at.Seen {
				b.t.Errorf("%s: nobody sees that it has the focus", what)
			}
			return
		}
		been = append(been, at.Tag+" "+at.Text)
	}
	b.t.Fatalf("%s cannot be reached with the keyboard: %q", what, been)
}

// focusedField presses Tab until the field of an id has the focus.
func (b *tab) focusedField(id string) {
	b.t.Helper()
	for range 40 {
		if b.atFocus().ID == id {
			return
		}
		b.press("Tab")
	}
	b.t.Fatalf("the field %s cannot be reached with the keyboard", id)
}

// focused waits until an element with a tag and a text has the focus.
func (b *tab) focused(what, tag, text string) {
	b.t.Helper()
	var told string
	b.eventually("the focus on "+what, &told, func() bool {
		at := b.atFocus()
		told = at.Tag + " " + at.Text
		return at.Tag == tag && strings.Contains(at.Text, text)
	})
}
