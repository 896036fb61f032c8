//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// TestABackendThatIsDoneHasNoBarInABrowser: the others go on.
func TestABackendThatIsDoneHasNoBarInABrowser(t *testing.T) {
	chromium(t)
	s := simulate(1, 40)
	b := browse(t, s.serve(t)+"/", "")
	b.reads("that it is current", "#link", "Live, as of ")
	for _, backend := range []string{"local", "s3"} {
		s.tell(t, &snapshotdv1.WatchResponse{Type: snapshotdv1.WatchResponse_TYPE_PROGRESS, Cluster: "prod-00", Name: "now", Backend: backend,
			DoneBytes: 12 << 20, TotalBytes: 20 << 20, Phase: snapshotdv1.WatchResponse_PHASE_STORING})
	}
	b.reads("how far they are", ".saving", "12 MiB of 20 MiB to local", "12 MiB of 20 MiB to s3")
	s.tell(t, &snapshotdv1.WatchResponse{Type: snapshotdv1.WatchResponse_TYPE_LOCATION_DONE, Cluster: "prod-00", Name: "now", Backend: "local"})
	var text string
	b.eventually("the other one alone", &text, func() bool {
		text = b.text(".saving")
		return strings.Contains(text, "to s3") && !strings.Contains(text, "to local")
	})
}

// TestANewClusterHasItsButtonsInABrowser: a cluster that a reload adds, and a role that was taken, are seen in a page that is
// open.
func TestANewClusterHasItsButtonsInABrowser(t *testing.T) {
	chromium(t)
	s := simulate(2, 40)
	all := s.clusters
	s.clusters = all[:1]
	b := browse(t, s.serve(t)+"/", "")
	b.reads("the cluster", "#fleet", "1 cluster:")
	s.clusters = all
	b.looks()
	b.reads("both", "#fleet", "2 clusters:")
	b.open("#/clusters/prod-01")
	b.reads("what an admin may do", "#view .actions", "Save now…", "Prune…")
	s.role = snapshotdv1.Role_ROLE_VIEWER
	b.later(s, time.Minute+time.Second)
	b.reads("the other role", "#caller", "viewer")
	b.gone("what a viewer may not do", "#view .actions button")
}

// TestTheFocusStaysWhileNumbersMoveInABrowser: a finding whose age is told, and free space, change with each answer.
func TestTheFocusStaysWhileNumbersMoveInABrowser(t *testing.T) {
	chromium(t)
	s := simulate(2, 40)
	c := s.clusters[1]
	b := browse(t, s.serve(t)+"/#/?open=prod-01", "")
	seconds := 0
	stays := func(selector string, same bool) {
		t.Helper()
		b.eval("(e => { e.focus(); e.dataset.mine = 'yes' })(document.querySelector("+quoted(selector)+"))", nil)
		had := b.atFocus()
		if had.Tag == "BODY" {
			t.Fatalf("%s takes no focus", selector)
		}
		seconds++
		c.Findings[0].Text = fmt.Sprintf("The journal is 5m%ds behind", seconds)
		c.Backends[0].FreeBytes -= 1 << 30
		b.looks()
		b.reads("the text of now", "#view .findings", c.GetFindings()[0].GetText())
		var mine bool
		b.eval("document.activeElement.dataset.mine === 'yes'", &mine)
		if at := b.atFocus(); at.Tag != had.Tag || same && !mine {
			t.Errorf("%s had the focus, and now a %s %q has; the same element: %t", selector, at.Tag, at.Text, mine)
		}
	}
	b.reads("the finding", ".findings", "The last save failed")
	stays(".findings button", true)
	stays("#clusters details[open] summary", true)
	var line string
	b.eval("document.querySelector('details[open] .why').textContent", &line)
	if line != c.GetFindings()[0].GetText() {
		t.Errorf("the line of the cluster has %q", line)
	}
	b.open("#/clusters/prod-01")
	b.reads("the cluster", "#view h2", "prod-01")
	stays(".findings button", true)
	stays("[aria-label='Backends, table']", false) // it has other numbers, and is another element
	c.Verdict = snapshotdv1.Cluster_VERDICT_ATTENTION
	b.eval("document.querySelector('#view h2').focus()", nil)
	b.looks()
	b.focused("the heading, which has another verdict", "H2", "ATTENTION")
}
