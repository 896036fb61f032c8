//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/protoadapt"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// TestPagesThatComeSlowlyAreCurrentInABrowser: each page of the clusters waits for those that do not answer. As long
// as pages come, the console is current. When none comes any more, it says that the service does not answer no sooner
// than it has given the page up.
func TestPagesThatComeSlowlyAreCurrentInABrowser(t *testing.T) {
	chromium(t)
	s := simulate(450, 40)
	asked, goOn := make(chan string, 100), make(chan struct{})
	b := browse(t, s.serve(t)+"/", "")
	b.reads("that it is current", "#link", "Live, as of ")
	b.eval("AbortSignal.timeout = () => new AbortController().signal; 0", nil) // time passes as this test says
	s.answers("GET /v1/clusters", func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Header.Get("Grpc-Timeout")
		waits(r, goOn)
		s.fleet(t)(w, r)
	})
	const look = `dispatchEvent(new Event('resize')); // and so it says how old its facts are
		new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))`
	b.looks()
	for question := range 2 {
		for page := range 3 {
			if limit := <-asked; limit != "13S" {
				t.Errorf("the service is to answer within %q; the page gives it up after 15 s", limit)
			}
			b.passes(s, 12*time.Second)
			b.eval(look, nil)
			if text := b.text("#link"); strings.Contains(text, "NOT CURRENT") {
				t.Errorf("while page %d of question %d is answered, the console says %s", page+1, question+1, text)
			}
			goOn <- struct{}{}
		}
		b.later(s, 10*time.Second)
	}
	<-asked
	b.passes(s, 10*time.Minute)
	b.eval(look, nil)
	b.reads("that it is not current", "#link", "NOT CURRENT")
	b.reads("that the answer is late", "#notice", "The next answer has not come yet.")
	if text := b.text("#notice"); strings.Contains(text, "does not answer") {
		t.Errorf("of an answer that is late it says %s", text)
	}
}

// told notes what can be seen of a selector from now on, and returns a function that returns it.
func (b *tab) told(selector string) func() []string {
	b.t.Helper()
	b.eval(`window.told = []; new MutationObserver(() => { const e = document.querySelector(`+quoted(selector)+`);
		if (e && !e.hidden && told.at(-1) !== e.innerText) told.push(e.innerText) })
		.observe(document.body, { attributes: true, childList: true, characterData: true, subtree: true })`, nil)
	return func() (all []string) {
		b.t.Helper()
		b.eval("told", &all)
		return all
	}
}

// expired refuses a page: its token is not known any more.
func expired(t *testing.T) http.HandlerFunc {
	return refuses(t, codes.Aborted, "they are not those of the first page any more",
		protoadapt.MessageV1Of(&errdetails.ErrorInfo{Reason: "PAGE_TOKEN_EXPIRED"}))
}

// TestAPageThatHasExpiredIsNoOutageInABrowser: the page begins again, some times.
func TestAPageThatHasExpiredIsNoOutageInABrowser(t *testing.T) {
	chromium(t)
	s := simulate(450, 2500)
	b := browse(t, s.serve(t)+"/", "")
	b.reads("that it is current", "#link", "Live, as of ")
	told := b.told("#notice")
	var refusals atomic.Int32
	refusals.Store(2)
	whole := make(chan struct{}, 100)
	s.answers("GET /v1/clusters", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("pageToken") != "" && refusals.Add(-1) >= 0 {
			expired(t)(w, r)
			return
		}
		s.fleet(t)(w, r)
		if r.FormValue("pageToken") == "400" {
			whole <- struct{}{}
		}
	})
	b.looks()
	<-whole
	b.reads("that it is current", "#link", "Live, as of ")
	if all := told(); len(all) > 0 {
		t.Errorf("while the clusters changed, the console said %q", all)
	}

	const list = "GET /v1/clusters/prod-00/snapshots"
	told = b.told("#list-error")
	var once atomic.Bool
	s.answers(list, func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("pageToken") == "2000" && !once.Swap(true) {
			expired(t)(w, r)
			return
		}
		r.SetPathValue("cluster", "prod-00")
		s.list(t)(w, r)
	})
	b.open("#/clusters/prod-00")
	b.reads("all of them", "#count", "2500 snapshots, newest first")
	if all := told(); len(all) > 0 || !once.Load() {
		t.Errorf("while etcd compacted, the console said %q; a page was refused: %t", all, once.Load())
	}

	refusals.Store(1 << 20)
	b.looks()
	b.reads("that it does not go on for ever", "#notice", "Not current", "They are not those of the first page any more.")
}

// TestEventsAskForTheClustersNowAndThenInABrowser: each question is about all clusters. One follows an event at once if
// the last one has ended some time ago, and some seconds after that one otherwise.
func TestEventsAskForTheClustersNowAndThenInABrowser(t *testing.T) {
	chromium(t)
	s := simulate(1, 40)
	b := browse(t, s.serve(t)+"/", "")
	b.reads("that it is current", "#link", "Live, as of ")
	b.eval(`performance.now = () => 1e9; window.waits = [];
		(set => { window.setTimeout = (f, ms) => {
			waits.push(ms);
			return set(f, ms === 10000 ? 1e9 : ms); // no refresh comes by interval
		} })(setTimeout)`, nil)
	planned := func(what, wait string) (got int) {
		t.Helper()
		var all string
		b.eventually(what, &all, func() bool {
			b.eval("String(waits)", &all)
			b.eval("waits.find("+wait+") || 0", &got)
			return got > 0
		})
		return got
	}
	const byInterval, byEvent = "ms => ms === 10000", "ms => ms !== 10000"
	b.looks()
	planned("the end of a refresh", byInterval)
	for _, c := range []struct{ since, want int }{{0, 3000}, {1000, 2000}, {5000, 300}} {
		b.eval(fmt.Sprintf("performance.now = () => 1e9 + %d; waits = []", c.since), nil)
		s.tell(t, &snapshotdv1.WatchResponse{Type: snapshotdv1.WatchResponse_TYPE_DELETED, Cluster: "prod-00", Name: "gone"})
		if got := planned("a refresh for the event", byEvent); got != c.want {
			t.Errorf("%d ms after the last refresh, the one for an event is to come in %d ms, want %d", c.since, got, c.want)
		}
		b.eval("performance.now = () => 1e9", nil) // when that one ends
		planned("its end", byInterval)
	}
}

// TestDamageDoesNotLookLikeAFailedSaveInABrowser: the badges of the last save tell how it ended, and the damage apart.
func TestDamageDoesNotLookLikeAFailedSaveInABrowser(t *testing.T) {
	chromium(t)
	s := simulate(1, 40)
	c := s.clusters[0]
	c.LastSave.State, c.LastSaveState = snapshotdv1.Snapshot_STATE_PARTIAL, snapshotdv1.Snapshot_STATE_READY
	c.Backends[1].LastError = "the copy has other bytes"
	b := browse(t, s.serve(t)+"/#/clusters/prod-00", "")
	b.reads("how it ended, and the damage", "#view dl", "READY ✖ DAMAGED SINCE")
	if text := b.text("#view dl"); strings.Contains(text, "PARTIAL") {
		t.Errorf("the last save is %q", text)
	}
	b.reads("on which backend, and why", "section[aria-label=Backends]", "READY ✖ DAMAGED SINCE\nthe copy has other bytes")
	c.LastSaveState, c.Backends[1].LastState = snapshotdv1.Snapshot_STATE_PARTIAL, snapshotdv1.Snapshot_STATE_FAILED
	b.looks()
	b.reads("a save that did not reach a backend", "#view dl", "PARTIAL")
	if text := b.text("#view"); strings.Contains(text, "DAMAGED") {
		t.Errorf("a save that did not reach a backend is shown as %q", text)
	}
}
