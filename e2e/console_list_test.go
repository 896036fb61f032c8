//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// scrollTo scrolls the list to a row, and waits until its rows are there.
func (b *tab) scrollTo(row int, name string) {
	b.t.Helper()
	b.eval(fmt.Sprintf(`(() => { document.querySelector('#snapshots').scrollIntoView(); const s = document.querySelector('.scroller');
		s.scrollTop = %d * document.querySelector('tr.snapshot').getBoundingClientRect().height })()`, row), nil)
	b.reads("the row", "#rows", name)
	b.eval("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))", nil)
}

// longTexts gives some snapshots in the middle of a list long names and schedules, and many backends.
func longTexts(all []*snapshotdv1.Snapshot) (first int) {
	first = len(all) / 2
	of := all[first:]
	of[0].Name = "w" + strings.Repeat("-before-the-upgrade.of-a_node", 5)
	of[1].Name, of[1].Pinned = "pinned"+strings.Repeat("-before-the-upgrade.of-a_node", 5), true
	of[2].Schedule = "WWWW-every-first-sunday-of-the-month-at-night"
	of[3].Trigger, of[3].Schedule, of[3].TotalKeys, of[3].Revision = snapshotdv1.Snapshot_TRIGGER_MANUAL, "", 1e7, 1e11
	for range 5 {
		of[4].Locations = append(of[4].Locations, of[4].Locations[1])
	}
	of[5].State = snapshotdv1.Snapshot_STATE_DELETING
	of[6].Proof = &snapshotdv1.Verification{Level: snapshotdv1.Verification_LEVEL_DRILL, State: snapshotdv1.Verification_STATE_PASSED,
		Time: of[6].GetCreateTime()}
	return first
}

// TestColumnsOfTheListInABrowser: each column has one place in all rows, also where the list was scrolled to texts that
// are longer than those at its begin. What is cut has a title with the whole; on a phone, a row has room for its lines.
func TestColumnsOfTheListInABrowser(t *testing.T) {
	chromium(t)
	s := simulate(1, 600)
	all := s.snapshots["prod-00"]
	long := longTexts(all)
	b := browse(t, s.serve(t)+"/#/clusters/prod-00", "")
	b.reads("all of them", "#count", "600 snapshots, newest first")
	for _, on := range append(slices.Clone(screens), screen{"small", "light", 320}) {
		b.screen(on.width, 900, on.scheme)
		var begin, middle []int
		b.scrollTo(0, all[0].GetName())
		begin = b.columns(on)
		b.scrollTo(long, all[long].GetName())
		if middle = b.columns(on); !slices.Equal(begin, middle) {
			t.Errorf("%s: the columns were at %v, and are at %v where texts are long", on.name, begin, middle)
		}
		if dir := os.Getenv("SNAPSHOTD_PICTURES"); dir != "" {
			b.picture(filepath.Join(dir, "console-list-"+on.name+".png"))
		}
		var wide int
		if b.eval("document.documentElement.scrollWidth", &wide); wide > on.width {
			t.Errorf("%s: it is %d pixels wide, on a screen of %d", on.name, wide, on.width)
		}
	}
	if len(b.problems) > 0 {
		t.Errorf("the browser complains: %q", b.problems)
	}
}

// columns checks the cells of all rows that are there, and returns where the columns begin.
func (b *tab) columns(on screen) (at []int) {
	b.t.Helper()
	const lefts = "r => [...r.cells].map(c => Math.round(c.getBoundingClientRect().left))"
	var heads, hidden, low []string
	if on.width > 768 {
		b.eval("("+lefts+")(document.querySelector('#list thead tr'))", &at)
		b.eval("[...document.querySelectorAll('tr.snapshot')].map("+lefts+").map(String)", &heads)
		for _, got := range heads {
			if want := strings.ReplaceAll(strings.Trim(fmt.Sprint(at), "[]"), " ", ","); got != want {
				b.t.Fatalf("%s: the cells of a row are at %s, their heads at %s", on.name, got, want)
			}
		}
	}
	b.eval(`[...document.querySelectorAll('tr.snapshot > td')].filter(c => c.scrollWidth > c.clientWidth &&
		(!c.title || !c.title.includes((c.querySelector('a') || c).textContent.split(' ')[0]))).map(c => c.innerText)`, &hidden)
	b.eval("[...document.querySelectorAll('tr.snapshot')].filter(r => r.scrollHeight > r.clientHeight).map(r => r.innerText)", &low)
	if len(hidden)+len(low) > 0 {
		b.t.Errorf("%s: there is no room for the cells %q, nor for the rows %q", on.name, hidden, low)
	}
	return at
}

// TestAListThatScrollsMakesTheRowsThatCome: each row that comes is made, and no other is made or moved, which would cost
// the time of a frame, and the focus.
func TestAListThatScrollsMakesTheRowsThatCome(t *testing.T) {
	chromium(t)
	const n = 600
	s := simulate(1, n)
	all := s.snapshots["prod-00"]
	b := browse(t, s.serve(t)+"/#/clusters/prod-00", "")
	b.reads("all of them", "#count", "600 snapshots, newest first")
	b.scrollTo(100, all[100].GetName())
	b.eval(`new Promise(done => { // a frame in which spare rows are still to come makes some
		let quiet = 0;
		const o = new MutationObserver(() => { quiet = 0 });
		o.observe(document.querySelector('#rows'), { childList: true });
		const step = () => quiet++ < 5 ? requestAnimationFrame(step) : (o.disconnect(), done(0));
		step() })`, nil)
	var made []string
	b.eval(`new Promise(done => {
		const s = document.querySelector('.scroller'), height = document.querySelector('tr.snapshot').getBoundingClientRect().height;
		[...document.querySelectorAll('tr.snapshot a')].find(a => a.textContent === `+quoted(all[102].GetName())+`).focus({ preventScroll: true });
		const made = [];
		const note = records => records.forEach(r => made.push(...[...r.addedNodes].filter(e => e.className === 'snapshot').map(e => e.cells[0].innerText)));
		const o = new MutationObserver(note);
		o.observe(document.querySelector('#rows'), { childList: true });
		let frames = 0;
		const step = () => {
			if (frames++ < 30) s.scrollTop += height;
			if (frames < 40) return requestAnimationFrame(step);
			note(o.takeRecords()); o.disconnect(); done(made);
		};
		requestAnimationFrame(step);
	})`, &made)
	var titles int
	if b.eval("document.querySelectorAll('tr.snapshot > td[title]').length", &titles); titles > 0 {
		t.Errorf("%d cells of which nothing is cut have titles", titles)
	}
	if twice := len(made) - len(slices.Compact(slices.Sorted(slices.Values(made)))); len(made) == 0 || len(made) > 30 || twice > 0 {
		t.Errorf("a list that scrolled by 30 rows has made or moved %d: %q", len(made), made)
	}
	b.focused("the row that had it", "A", all[102].GetName())
	if len(b.problems) > 0 {
		t.Errorf("the browser complains: %q", b.problems)
	}
}

// TestASaveOnAnotherReplicaInABrowser: the page says where the save runs, and how far it is as soon as that is known.
func TestASaveOnAnotherReplicaInABrowser(t *testing.T) {
	chromium(t)
	s := simulate(1, 40)
	s.clusters[0].Saving = &snapshotdv1.Snapshot{
		Name: "on-demand-node-2-1", Node: "node-2", CreateTime: s.snapshots["prod-00"][0].GetCreateTime(),
		State: snapshotdv1.Snapshot_STATE_SAVING,
	}
	b := browse(t, s.serve(t)+"/#/clusters/prod-00", "")
	b.reads("the save", "#view .saving", "SAVING", "on-demand-node-2-1", "on node-2")
	s.clusters[0].Progress = &snapshotdv1.Cluster_Progress{ReadBytes: 1 << 20, TotalBytes: 64 << 20}
	b.eval("location.reload()", nil)
	b.reads("how far it is", "#view .saving", "SAVING", "on node-2", "1.0 MiB of 64 MiB from etcd")
}

// TestTheListComesBackAfterARefusal: the list is hidden then, and so has no height that its rows could be chosen by.
func TestTheListComesBackAfterARefusal(t *testing.T) {
	chromium(t)
	s := simulate(1, 600)
	all := s.snapshots["prod-00"]
	b := browse(t, s.serve(t)+"/#/clusters/prod-00", "")
	b.reads("all of them", "#count", "600 snapshots, newest first")
	b.scrollTo(100, all[100].GetName())
	b.eval(`window.answered = fetch;
		window.fetch = async () => new Response(JSON.stringify({ code: 16, message: 'the session is over',
			details: [{ '@type': 'type.googleapis.com/google.rpc.ErrorInfo', reason: 'UNAUTHENTICATED' }] }), { status: 403 });
		dispatchEvent(new Event('online'))`, nil)
	b.reads("that it is refused", "#link", "REFUSED")
	b.eval("dispatchEvent(new Event('resize')); new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))", nil)
	if shown := b.text("main"); shown != "" {
		t.Errorf("a caller who is refused sees %q", shown)
	}
	b.eval("window.fetch = answered; dispatchEvent(new Event('online'))", nil)
	b.reads("that it is current", "#link", "Live, as of ")
	b.reads("the rows", "#rows", "READY")
	b.scrollTo(200, all[200].GetName())
	b.screen(390, 844, "light") // where an empty list has no height
	b.eval("location.reload()", nil)
	b.reads("the rows on a phone", "#rows", all[0].GetName())
	if len(b.problems) > 0 {
		t.Errorf("the browser complains: %q", b.problems)
	}
}
