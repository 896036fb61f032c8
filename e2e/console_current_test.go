//go:build e2e

package e2e

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/timestamppb"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

var asItWas = regexp.MustCompile(`as (?:it was|they were) at (\S+ \S+) UTC`)

// before checks that a text says that something is as it was before a time.
func before(t *testing.T, text string, limit time.Time) {
	t.Helper()
	found := asItWas.FindStringSubmatch(text)
	if found == nil {
		t.Fatalf("no time in %q", text)
	}
	if at, err := time.Parse(time.DateTime, found[1]); err != nil || at.After(limit) {
		t.Errorf("what was read before %s is said to be of %s (%v)", limit.UTC().Format(time.DateTime), found[1], err)
	}
}

// TestWhatCannotBeReadIsOfThePastInABrowser: the catalog is down, and clusters are still answered. What is shown of a
// snapshot, and of the list, is not current, and it is said of when it is.
func TestWhatCannotBeReadIsOfThePastInABrowser(t *testing.T) {
	chromium(t)
	s := simulate(1, 40)
	name := s.snapshots["prod-00"][3].GetName()
	const list = "GET /v1/clusters/prod-00/snapshots"
	get := list + "/" + name
	b := browse(t, s.serve(t)+"/#/clusters/prod-00", "")
	b.reads("its snapshots", "#count", "40 snapshots, newest first")
	b.click("#rows a", name)
	b.reads("HashKV as the shell has it", "section[aria-label=Verifications]", "DRILL", "11256099")
	limit := time.Now().Add(30 * time.Second)
	down := refuses(t, codes.Unavailable, "etcd has no leader", protoadapt.MessageV1Of(&errdetails.ErrorInfo{Reason: "CATALOG_UNAVAILABLE"}))
	s.answers(list, down)
	s.answers(get, down)
	b.later(s, time.Minute+time.Second)
	b.reads("that it cannot be read", "#view", "It cannot be read: etcd has no leader. What is shown below is as it was at ")
	before(t, b.text("#view"), limit)
	b.later(s, time.Minute)
	b.reads("that it is current otherwise", "#link", "Live, as of ")
	before(t, b.text("#view"), limit)
	s.answers(get, nil)
	b.later(s, time.Minute)
	b.gone("that it cannot be read", "#view .notice.danger")
	b.eval("history.back()", nil)
	b.reads("that the list cannot be read", "#list-error", "The list cannot be read: etcd has no leader. The rows below are as they were at ")
	before(t, b.text("#list-error"), limit)
}

// TestSnapshotsThatWereNotReadAreNotCountedInABrowser: the pictures deny nothing while the list is being read, nor when
// it cannot be read.
func TestSnapshotsThatWereNotReadAreNotCountedInABrowser(t *testing.T) {
	chromium(t)
	s := simulate(1, 40)
	const list, pictures = "GET /v1/clusters/prod-00/snapshots", "section[aria-label='Over time']"
	goOn := make(chan struct{})
	s.answers(list, func(w http.ResponseWriter, r *http.Request) {
		waits(r, goOn)
		refuses(t, codes.Unavailable, "etcd has no leader")(w, r)
	})
	b := browse(t, s.serve(t)+"/#/clusters/prod-00", "")
	b.reads("that they are asked for", pictures, "Asking for the snapshots…")
	close(goOn)
	b.reads("that they are not known", pictures, "Not known: the list of the snapshots cannot be read.")
	s.answers(list, nil)
	b.later(s, time.Minute)
	b.reads("the pictures", pictures, "37 READY, 2 PARTIAL, 1 FAILED", "Duration of the save")
}

// TestAChangeWhileASnapshotIsReadInABrowser: an event that comes while the snapshot is being read makes it be read again.
func TestAChangeWhileASnapshotIsReadInABrowser(t *testing.T) {
	chromium(t)
	s := simulate(1, 40)
	old := s.snapshots["prod-00"][0]
	labeled := func(text string) *snapshotdv1.Snapshot {
		sn := proto.CloneOf(old)
		sn.Labels = map[string]string{"note": text}
		return sn
	}
	reads, goOn := make(chan int, 100), make(chan struct{})
	b := browse(t, s.serve(t)+"/#/clusters/prod-00", "")
	b.reads("that it is current", "#link", "Live, as of ")
	b.reads("its snapshots", "#count", "40 snapshots, newest first")
	n := 0
	s.answers("GET /v1/clusters/prod-00/snapshots/"+old.GetName(), func(w http.ResponseWriter, r *http.Request) {
		n++ // they come one after the other
		if reads <- n; n > 1 {
			writeProto(t, w, &snapshotdv1.GetResponse{Snapshot: labeled("read-again")})
			return
		}
		waits(r, goOn)
		writeProto(t, w, &snapshotdv1.GetResponse{Snapshot: old})
	})
	b.click("#rows a", old.GetName())
	<-reads
	b.eval("(now => { Date.now = () => now })(Date.now())", nil) // nothing is read again because of its age
	s.tell(t, &snapshotdv1.WatchResponse{Type: snapshotdv1.WatchResponse_TYPE_LOCATION_DONE, Cluster: "prod-00", Name: old.GetName(),
		Backend: "s3", Snapshot: labeled("by-an-event")})
	b.reads("what the event has", ".labels", "note=by-an-event")
	close(goOn)
	b.reads("what was read after the event", ".labels", "note=read-again")
}

// TestAnEventIsNewerThanThePageThatIsReadInABrowser: a page of the list that was asked for before an event does not show the
// snapshot as it was before it.
func TestAnEventIsNewerThanThePageThatIsReadInABrowser(t *testing.T) {
	chromium(t)
	s := simulate(1, 40)
	all := s.snapshots["prod-00"]
	asks, goOn := make(chan struct{}, 100), make(chan struct{})
	s.answers("GET /v1/clusters/prod-00/snapshots", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("pageSize") != "100" { // the first page is small, so that something is soon to be seen
			asks <- struct{}{}
			waits(r, goOn)
		}
		writeProto(t, w, &snapshotdv1.ListResponse{Snapshots: all})
	})
	b := browse(t, s.serve(t)+"/", "")
	b.reads("that it is current", "#link", "Live, as of ")
	b.open("#/clusters/prod-00")
	<-asks
	deleting := proto.CloneOf(all[0])
	deleting.State, deleting.Etag = snapshotdv1.Snapshot_STATE_DELETING, "after"
	s.tell(t, &snapshotdv1.WatchResponse{Type: snapshotdv1.WatchResponse_TYPE_DELETED, Cluster: "prod-00", Name: deleting.GetName(),
		Backend: "s3", Snapshot: deleting})
	b.reads("what the event has", "#rows", "DELETING")
	close(goOn)
	b.reads("all of them", "#count", "40 snapshots, newest first")
	if text := b.text("#rows"); !strings.Contains(text, "DELETING") {
		t.Errorf("the rows are as they were before the event: %s", text)
	}
}

// TestTheWindowSaysWhatWasNotReadInABrowser: nothing is called free of gaps that was not read, and the answer has its time.
func TestTheWindowSaysWhatWasNotReadInABrowser(t *testing.T) {
	chromium(t)
	s := simulate(1, 40)
	now := timestamppb.Now()
	unread := []string{"backend s3: it does not answer"}
	s.window = &snapshotdv1.RecoveryWindow{Journaled: true, Unread: unread}
	s.clusters[0].RecoveryWindow = &snapshotdv1.RecoveryWindow{Journaled: true}
	b := browse(t, "about:blank", "")
	b.goes(s.serve(t)+"/#/clusters/prod-00", "section[aria-label=Journal] button")
	const journal = "section[aria-label=Journal]"
	b.click(journal+" button", "Show what can be restored")
	b.reads("what was not read", journal, "As of ", " ago", "Not read: backend s3: it does not answer.", "GAPS NOT KNOWN", "where it could be read")
	if text := b.text(journal); strings.Contains(text, "NO GAPS") || strings.Contains(text, "holds nothing") {
		t.Errorf("it is denied what is only not known: %s", text)
	}
	s.window.Timelines = []*snapshotdv1.RecoveryWindow_Timeline{{
		Name: "cdf8-2", StartTime: now, Reason: "etcd was restored", Ranges: []*snapshotdv1.RecoveryWindow_Range{
			{FirstRevision: 100, LastRevision: 2500, LastTime: now, RestorableFromRevision: 104, Base: "first"},
		},
	}}
	s.window.Snapshots = []*snapshotdv1.RecoveryWindow_Snapshot{{Name: "first", OldestRevision: 42, Revision: 104, CreateTime: now}}
	s.window.Estimates = []string{"leases that no key names"}
	b.click(journal+" button", "Ask again")
	b.reads("what is known", journal, "2\u202f500", "GAPS NOT KNOWN", "Timeline cdf8-2 began ", ": etcd was restored.", "42", "104",
		"leases that no key names")
	for _, on := range screens {
		b.accessible("the window", on)
	}
	s.window.Unread = nil
	b.click(journal+" button", "Ask again")
	b.reads("that there are none", journal, "NO GAPS")
	if text := b.text(journal); strings.Contains(text, "Not read") || strings.Contains(text, "NOT KNOWN") {
		t.Errorf("all was read: %s", text)
	}
	s.window = &snapshotdv1.RecoveryWindow{Journaled: true}
	b.click(journal+" button", "Ask again")
	b.reads("that there is none", journal, "The journal holds nothing yet.")
	if text := b.text(journal); strings.Contains(text, "GAPS") {
		t.Errorf("of an empty journal it says %s", text)
	}
}
