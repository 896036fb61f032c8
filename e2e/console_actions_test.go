//go:build e2e

package e2e

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// asked reads the request of a call.
func asked[M proto.Message](t *testing.T, r *http.Request, m M) M {
	b, err := io.ReadAll(r.Body)
	if err == nil {
		err = protojson.Unmarshal(b, m)
	}
	if err != nil {
		t.Errorf("%s: %v", r.URL.Path, err)
	}
	return m
}

// waits waits until it may go on, or nobody waits for the answer any more.
func waits(r *http.Request, goOn <-chan struct{}) {
	select {
	case <-goOn:
	case <-r.Context().Done():
	}
}

// verifying answers a verify: how far it is, and the rest when it may go on.
func verifying(t *testing.T, total int64, goOn <-chan struct{}, rest func(w http.ResponseWriter)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		writeLine(t, w, &snapshotdv1.VerifyResponse{Backend: "local", DoneBytes: total / 2, TotalBytes: total})
		waits(r, goOn)
		rest(w)
	}
}

// TestTheOutcomeOfAnActionStaysWithItInABrowser: what an action says is not shown in the dialog of another one, and how it
// has ended is shown in the page when its dialog is gone.
func TestTheOutcomeOfAnActionStaysWithItInABrowser(t *testing.T) {
	chromium(t)
	s := simulate(1, 40)
	first, second := s.snapshots["prod-00"][0], s.snapshots["prod-00"][1]
	const path = "POST /v1/clusters/prod-00/snapshots"
	goOn := []chan struct{}{make(chan struct{}), make(chan struct{}), make(chan struct{})}
	s.answers(path+"/"+first.GetName()+":verify", verifying(t, 4<<20, goOn[0], func(w http.ResponseWriter) {
		done := proto.CloneOf(first)
		done.Verification = &snapshotdv1.Verification{State: snapshotdv1.Verification_STATE_PASSED, Backends: []string{"local"}}
		writeLine(t, w, &snapshotdv1.VerifyResponse{Snapshot: done})
	}))
	s.answers(path+"/"+second.GetName()+":verify", verifying(t, 8<<20, goOn[1], func(http.ResponseWriter) {}))
	s.answers(path+":save", func(w http.ResponseWriter, r *http.Request) {
		waits(r, goOn[2])
		refuses(t, codes.Unavailable, "read the snapshot: etcd does not answer")(w, r)
	})
	b := browse(t, "about:blank", "")
	url := s.serve(t)
	b.goes(url+"/#/clusters/prod-00/snapshots/"+first.GetName(), ".actions button")
	b.click(".actions button", "Verify")
	b.click("#dialog button.go", "Verify")
	b.reads("how far the first is", "#dialog-result", "2.0 MiB of 4.0 MiB")
	b.click("#dialog button", "Close")
	b.open("#/clusters/prod-00/snapshots/" + second.GetName())
	b.reads("the second", "#view h2", second.GetName())
	b.click(".actions button", "Verify")
	b.click("#dialog button.go", "Verify")
	b.reads("how far the second is", "#dialog-result", "4.0 MiB of 8.0 MiB")

	close(goOn[0])
	b.reads("the outcome of the first", "#outcomes", "Verify "+first.GetName(), "PASSED", "local")
	if text := b.text("#dialog-result"); !strings.Contains(text, "4.0 MiB of 8.0 MiB") {
		t.Errorf("in the dialog of the second is %q", text)
	}
	close(goOn[1])
	b.reads("that there is no verdict", "#dialog-result", "The answer ended without a verdict, so nothing is known: verify it again.")
	b.click("#dialog button", "Close")
	b.click("#outcomes button", "Dismiss")
	b.gone("the outcome", "#outcomes")

	b.open("#/clusters/prod-00")
	b.click(".actions button", "Save now")
	b.click("#dialog button.go", "Save")
	b.reads("that it is under way", "#dialog-result", "Working")
	b.click("#dialog button", "Close")
	close(goOn[2])
	b.reads("the error of the save", "#outcomes", "Save prod-00 now", "etcd does not answer")
	for _, on := range screens {
		b.accessible("an outcome", on)
	}
	if len(b.problems) > 0 {
		t.Errorf("the browser complains: %q", b.problems)
	}
}

// TestWhichCopiesAreVerifiedIsSaidInABrowser: without a backend, CHECKSUM reads each copy, and the levels above it one.
func TestWhichCopiesAreVerifiedIsSaidInABrowser(t *testing.T) {
	chromium(t)
	s := simulate(1, 40)
	b := browse(t, s.serve(t)+"/#/clusters/prod-00/snapshots/"+s.snapshots["prod-00"][0].GetName(), "")
	b.click(".actions button", "Verify")
	for _, level := range []struct{ name, reads string }{
		{"", "every copy that is READY"}, {"LEVEL_DRILL", "the first that is READY"},
		{"LEVEL_CHECKSUM", "every copy that is READY"}, {"LEVEL_STRUCTURE", "the first that is READY"},
	} {
		if level.name != "" {
			b.fill("#verify-level", level.name)
		}
		var reads string
		if b.eval("document.querySelector('#verify-backend').selectedOptions[0].text", &reads); reads != level.reads {
			t.Errorf("with %s it reads %q, want %q", cmp.Or(level.name, "the default"), reads, level.reads)
		}
	}
}

// TestAPruneThatFailsInABrowser: a copy that could not be removed is not called gone, also when none could, and what goes of
// the journal is shown.
func TestAPruneThatFailsInABrowser(t *testing.T) {
	chromium(t)
	s := simulate(1, 40)
	denied := status.New(codes.PermissionDenied, "remove it from s3: access denied").Proto()
	locked := status.New(codes.FailedPrecondition, "a lock of the bucket protects it").Proto()
	var removals atomic.Int32
	s.answers("POST /v1/clusters/prod-00/snapshots:prune", func(w http.ResponseWriter, r *http.Request) {
		answer := &snapshotdv1.PruneResponse{Decisions: []*snapshotdv1.PruneDecision{
			{Name: "kept", Backend: "s3", SizeBytes: 1 << 20, Stays: true, Why: "it is the newest"},
			{Name: "old", Backend: "s3", SizeBytes: 2 << 20, Why: "no rule keeps it"},
			{Name: "older", Backend: "s3", SizeBytes: 4 << 20, Why: "no rule keeps it"},
			{Name: "locked", Backend: "s3", SizeBytes: 8 << 20, Stays: true, Error: locked},
		}}
		if asked(t, r, &snapshotdv1.PruneRequest{}).GetValidateOnly() {
			answer.Journal = []*snapshotdv1.JournalRemoval{
				{Backend: "s3", Timeline: "cdf8-1", FirstRevision: 10, LastRevision: 99, Segments: 3, SizeBytes: 1 << 20, Why: "the window is a week"},
				{Error: status.New(codes.Unavailable, "backend local does not answer").Proto()},
			}
			writeProto(t, w, answer)
			return
		}
		answer.Decisions[2].Error = denied
		switch removals.Add(1) {
		case 1:
			writeProto(t, w, answer)
		case 2:
			answer.Decisions[1].Error = denied
			answer.Decisions = answer.Decisions[1:3]
			refuses(t, codes.PermissionDenied, "none of the 2 copies could be removed", answer)(w, r)
		default:
			answer.Decisions = answer.Decisions[1:3]
			refuses(t, codes.Canceled, "it ended early; 1 copy was removed", answer)(w, r)
		}
	})
	b := browse(t, "about:blank", "")
	b.goes(s.serve(t)+"/#/clusters/prod-00", ".actions button")
	b.click(".actions button", "Prune")
	b.click("#dialog button", "Show what would go")
	b.reads("what would go", "#dialog-result", "2 copies would go, 6.0 MiB; 1 stay.", "1 copy cannot be removed, 8.0 MiB.", "LOCKED", "GOES",
		"from the journal on s3: 3 segments (1.0 MiB) with the revisions 10 to 99 of cdf8-1: the window is a week.",
		"It is not known which segments of the journal go: backend local does not answer.")
	b.click("#dialog button", "Remove them")
	b.reads("that one has gone", "#dialog-result", "2 copies could not be removed, 12 MiB.", "1 copy removed, 2.0 MiB; 1 stay.", "access denied")
	var decisions []string
	b.eval("[...document.querySelectorAll('#dialog-result tbody tr')].map(r => r.cells[0].innerText + ' ' + r.cells[3].innerText.slice(2))", &decisions)
	if got := strings.Join(decisions, ", "); got != "older FAILED, locked LOCKED, old GONE, kept STAYS" {
		t.Errorf("the decisions are %q", got)
	}
	for _, on := range screens {
		b.accessible("a prune that failed", on)
	}
	b.click("#dialog button", "Close")
	b.click(".actions button", "Prune")
	b.click("#dialog button", "Show what would go")
	b.click("#dialog button", "Remove them")
	b.reads("that none has gone", "#dialog-result", "None of the 2 copies could be removed", "older", "access denied")
	b.eval("[...document.querySelectorAll('#dialog-result tbody tr')].map(r => r.cells[0].innerText)", &decisions)
	if got := strings.Join(decisions, ", "); got != "old, older" {
		t.Errorf("the copies that could not be removed are %q", got)
	}
	b.click("#dialog button", "Close")
	b.click(".actions button", "Prune")
	b.click("#dialog button", "Show what would go")
	b.click("#dialog button", "Remove them")
	b.reads("that one was removed before it ended", "#dialog-result", "It ended early; 1 copy was removed")
	b.eval("[...document.querySelectorAll('#dialog-result tbody tr')].map(r => r.cells[0].innerText + ' ' + r.cells[3].innerText.slice(2))", &decisions)
	if got := strings.Join(decisions, ", "); got != "old GONE, older FAILED" {
		t.Errorf("the copies of a prune that ended early are %q", got)
	}
}

// TestADeleteThatFailsSaysWhatIsLeftInABrowser: of a copy whose removal could not begin, somebody must know that it
// stays. Where nothing has changed, it can be tried again in the same dialog.
func TestADeleteThatFailsSaysWhatIsLeftInABrowser(t *testing.T) {
	chromium(t)
	s := simulate(1, 40)
	sn := s.snapshots["prod-00"][0]
	left := proto.CloneOf(sn)
	left.Etag, left.Locations[1].State = "after", snapshotdv1.Snapshot_STATE_DELETING
	path := "/v1/clusters/prod-00/snapshots/" + sn.GetName()
	fails := func(now *snapshotdv1.Snapshot) http.HandlerFunc {
		return refuses(t, codes.Unavailable, "remove it from local: it does not answer",
			protoadapt.MessageV1Of(&errdetails.ErrorInfo{Reason: "BACKEND_UNAVAILABLE"}), protoadapt.MessageV1Of(now))
	}
	s.answers("DELETE "+path, fails(sn))
	b := browse(t, "about:blank", "")
	b.goes(s.serve(t)+"/#/clusters/prod-00/snapshots/"+sn.GetName(), ".actions button")
	b.deletes(sn.GetName())
	b.reads("why", "#dialog-result", "BACKEND_UNAVAILABLE: Remove it from local: it does not answer.")
	if text := b.text("#dialog-result"); strings.Contains(text, "copies") {
		t.Errorf("nothing has changed, and it says %s", text)
	}
	s.answers("DELETE "+path, fails(left))
	s.answers("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
		writeProto(t, w, &snapshotdv1.GetResponse{Snapshot: left})
	})
	b.click("#dialog button.go", "Delete")
	b.reads("what is left", "#dialog-result", "BACKEND_UNAVAILABLE", "Its copies now: local",
		"Its removal from local has not begun: delete it again.",
		"Its removal from s3 has begun, and reconcile goes on with it.")
	b.gone("a button that would delete it as it was", "#dialog button.go")
	for _, on := range screens {
		b.accessible("a delete that failed", on)
	}
	b.click("#dialog button", "Close")
	b.reads("the copies as they are", "section[aria-label=Copies]", "DELETING")
}

// TestAReconcileDoesWhatWasShownInABrowser: the choice holds from the preview on.
func TestAReconcileDoesWhatWasShownInABrowser(t *testing.T) {
	chromium(t)
	s := simulate(1, 40)
	calls, goOn := make(chan *snapshotdv1.ReconcileRequest, 2), make(chan struct{})
	s.answers("POST /v1/clusters/prod-00/snapshots:reconcile", func(w http.ResponseWriter, r *http.Request) {
		calls <- asked(t, r, &snapshotdv1.ReconcileRequest{})
		waits(r, goOn)
		writeProto(t, w, &snapshotdv1.ReconcileResponse{Backends: []*snapshotdv1.BackendReconciliation{{Backend: "local", Listed: 40, Added: 3}}})
	})
	b := browse(t, s.serve(t)+"/#/clusters/prod-00", "")
	b.click(".actions button", "Reconcile")
	b.click("#dialog button", "Show what would change")
	<-calls
	const choose = "(e => { if (!e.disabled) e.checked = true })(document.querySelector('#repair'))"
	b.eval(choose, nil) // while it is being asked for
	close(goOn)
	b.reads("what would change", "#dialog-result", "would be changed", "40")
	b.eval(choose, nil)
	var checked bool
	if b.eval("document.querySelector('#repair').checked", &checked); checked {
		t.Error("the dialog shows another choice than the one that was previewed")
	}
	b.click("#dialog button.go", "Reconcile")
	b.reads("what has changed", "#dialog-result", "were changed")
	if did := <-calls; did.GetRepair() || did.GetValidateOnly() {
		t.Errorf("without repair it was shown what would change, and then was done %v", did)
	}
}

// TestAnErrorOfAReconcileHasItsReportsInABrowser: what was found, or done, in spite of an error is shown beside it, and a
// preview with an error can be carried out.
func TestAnErrorOfAReconcileHasItsReportsInABrowser(t *testing.T) {
	chromium(t)
	s := simulate(1, 40)
	s.answers("POST /v1/clusters/prod-00/snapshots:reconcile", func(w http.ResponseWriter, r *http.Request) {
		refuses(t, codes.DataLoss, "a record cannot be read", protoadapt.MessageV1Of(&errdetails.ErrorInfo{Reason: "BAD_RECORD"}),
			protoadapt.MessageV1Of(&snapshotdv1.ReconcileResponse{
				Backends:   []*snapshotdv1.BackendReconciliation{{Backend: "s3", Listed: 4711, Added: 3}},
				Unreadable: []*snapshotdv1.UnreadableRecord{{Key: "/snapshotd/prod-00/torn", Error: "it is no record"}},
			}))(w, r)
	})
	b := browse(t, s.serve(t)+"/#/clusters/prod-00", "")
	b.click(".actions button", "Reconcile")
	b.click("#dialog button", "Show what would change")
	for _, were := range []string{"would be", "were"} {
		b.reads("the error and the reports", "#dialog-result", "BAD_RECORD: A record cannot be read.", fmt.Sprintf("locations that %s changed", were),
			"4711", "/snapshotd/prod-00/torn: it is no record")
		if were == "would be" {
			b.click("#dialog button.go", "Reconcile")
		}
	}
	if len(b.problems) > 0 {
		t.Errorf("the browser complains: %q", b.problems)
	}
}

// TestLabelsThatAreNoLinesStayInABrowser: the service takes any text, and a dialog of lines changes none that nobody
// has touched.
func TestLabelsThatAreNoLinesStayInABrowser(t *testing.T) {
	chromium(t)
	s := simulate(1, 40)
	sn := s.snapshots["prod-00"][0]
	want := map[string]string{"note": "a\nb", "cr": "a\rb", "a=b": "c", "blank": " x ", "empty": ""}
	sn.Labels = maps.Clone(want)
	sn.Labels["team"] = "ops"
	sent := make(chan map[string]string, 1)
	s.answers("PATCH /v1/clusters/prod-00/snapshots/"+sn.GetName(), func(w http.ResponseWriter, r *http.Request) {
		sent <- asked(t, r, &snapshotdv1.Snapshot{}).GetLabels()
		writeProto(t, w, &snapshotdv1.UpdateResponse{Snapshot: sn})
	})
	b := browse(t, "about:blank", "")
	b.goes(s.serve(t)+"/#/clusters/prod-00/snapshots/"+sn.GetName(), ".actions button")
	b.click(".actions button", "Labels")
	b.reads("which stay", "#dialog-body", "cannot be written as a line (", `stay as they are: "a=b", "blank", "cr", "note".`,
		"snapshotd update --remove-label")
	for _, on := range screens {
		b.accessible("labels that stay", on)
	}
	var lines string
	if b.eval("document.querySelector('#labels').value", &lines); lines != "empty=\nteam=ops" {
		t.Errorf("the lines are %q", lines)
	}
	set := func(lines string) map[string]string {
		t.Helper()
		b.fill("#labels", lines)
		b.click("#dialog button", "Set")
		b.reads("that it is done", "#dialog-result", "DONE")
		b.click("#dialog button", "Close")
		return <-sent
	}
	want["team"] = "db"
	if got := set("empty=\nteam=db"); !maps.Equal(got, want) {
		t.Errorf("the labels were set to %q, want %q", got, want)
	}
	b.click(".actions button", "Labels")
	delete(want, "team")
	want["note"], want["empty"] = "one line", ""
	if got := set("empty\nnote=one line"); !maps.Equal(got, want) {
		t.Errorf("the labels were set to %q, want %q", got, want)
	}
}
