//go:build e2e

package e2e

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/snapshotd/snapshotd/internal/testenv"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// TestWhileTheCatalogIsDownItIsSaidHowToRestore: nothing is denied that is only not known, and the commands of the
// console and of status lead to the snapshots, also when their prefix is an unusual one.
func TestWhileTheCatalogIsDownItIsSaidHowToRestore(t *testing.T) {
	chromium(t)
	w := newWorld(t, 1<<20)
	s := start(t, w.options(), "--config", writeConfig(t, `clusters:
  - name: production
    prefix: etcd/prod/
    etcd: {endpoints: [%q]}
    schedules: [{name: yearly, cron: "0 0 1 1 *"}]
    backends: [{name: local, url: "file://%s"}, {name: s3, url: %q}]
reconcile_interval: 24h
`, w.etcd.Endpoints()[0], w.dir, w.s3URL("")))
	eventually(t, "the first snapshot", func() bool { return len(s.list()) == 1 })
	name := s.list()[0].Name
	w.etcd.Kill(0)

	var told string
	eventually(t, "status says that it is not known", func() bool {
		r := s.run("status")
		told = r.stdout
		return r.code == 1 && strings.Contains(told, "The catalog cannot be read")
	})
	b := browse(t, "http://"+s.http+"/#/clusters/production", "")
	b.reads("the verdict", "#view h2", "UNKNOWN")
	b.reads("the backends", "section[aria-label=Backends]", "not known", "file://"+w.dir)
	if text := b.text("section[aria-label=Backends]"); strings.Contains(text, "NONE") || strings.Contains(text, "not to go there") {
		t.Errorf("the console denies what is only not known: %s", text)
	}
	if len(b.problems) > 0 {
		t.Errorf("the browser complains: %q", b.problems)
	}
	for what, text := range map[string]string{"status": told, "the console": b.text(".findings code")} {
		ran := 0
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			if !strings.HasPrefix(line, "snapshotd ") {
				continue
			}
			ran++
			line = strings.Replace(line, "--data-dir DIR", "--data-dir "+filepath.Join(t.TempDir(), "restored"), 1)
			if out := w.must(t, "bash", "-c", "PATH="+filepath.Dir(s.path)+":$PATH; "+line); !strings.Contains(out, name) {
				t.Errorf("%s: %s does not find %s:\n%s", what, line, name, out)
			}
		}
		if ran != 2 {
			t.Errorf("%s has %d commands to paste:\n%s", what, ran, text)
		}
	}
}

// TestCommandsFitTheClusterInABrowser: none is offered that must fail, and none that would trust what is not signed.
func TestCommandsFitTheClusterInABrowser(t *testing.T) {
	chromium(t)
	s := simulate(1, 40)
	c := s.clusters[0]
	for _, sn := range s.snapshots[c.GetName()] {
		sn.EncryptionRecipients = []string{"age1x"}
	}
	name := c.GetNewestReady().GetName()
	c.SignaturesRequired, c.Prefix = true, c.GetName()+"/"
	url := s.serve(t)
	shown := func(hash, selector string) string {
		b := browse(t, url+hash, "")
		b.reads("its commands", selector, "snapshotd restore")
		return b.text(selector)
	}
	of := map[string]string{"#/clusters/" + c.GetName() + "?open=commands": ".commands",
		"#/clusters/" + c.GetName() + "/snapshots/" + name: "section[aria-label=Commands]"}
	for hash, selector := range of {
		text := shown("/"+hash, selector)
		if !strings.Contains(text, "--identity FILE --signing-public-key-file PUBLIC_KEY") ||
			!strings.Contains(text, "snapshotd verify "+name+" --from 's3://") || strings.Contains(text, "download") {
			t.Errorf("of an encrypted one that the service cannot read, %s has the commands\n%s", hash, text)
		}
		for line := range strings.Lines(text) {
			if strings.Contains(line, "--level drill") && !strings.Contains(line, "--from") {
				t.Errorf("the service cannot do this: %s", line)
			}
		}
	}
	c.CanDecrypt, c.SignaturesRequired = true, false
	for hash, selector := range of {
		text := shown("/"+hash, selector)
		if !strings.Contains(text, "snapshotd verify "+name+" --level drill\n") || strings.Contains(text, "PUBLIC_KEY") ||
			strings.Contains(hash, "snapshots") && !strings.Contains(text, "--decoded") {
			t.Errorf("of one that it can read, %s has the commands\n%s", hash, text)
		}
	}
}

// TestTheIdentityIsNotForgottenInABrowser: the catalog is down, and then the service, too. Snapshots are encrypted all
// the same.
func TestTheIdentityIsNotForgottenInABrowser(t *testing.T) {
	chromium(t)
	s := simulate(1, 40)
	c := s.clusters[0]
	c.NewestReady.EncryptionRecipients = []string{"age1x"}
	b := browse(t, s.serve(t)+"/#/clusters/"+c.GetName(), "")
	b.reads("its snapshots", "#rows", c.GetNewestReady().GetName())
	s.clusters = []*snapshotdv1.Cluster{{
		Name: c.GetName(), Verdict: snapshotdv1.Cluster_VERDICT_UNKNOWN, Backends: c.GetBackends(), Prefix: c.Prefix,
	}}
	b.eval("dispatchEvent(new Event('online'))", nil)
	b.reads("that the catalog is down", "#view h2", "UNKNOWN")
	b.eval("window.fetch = () => Promise.reject(new TypeError('it is away')); dispatchEvent(new Event('online')); 0", nil)
	b.reads("what helps", "#notice", "snapshotd restore latest", "--identity FILE")
}

// TestTheOutageHasCommandsToCopyInABrowser: for each cluster, when the service is away.
func TestTheOutageHasCommandsToCopyInABrowser(t *testing.T) {
	chromium(t)
	b := browse(t, "about:blank", "")
	b.goes(simulate(3, 40).serve(t)+"/#/?open=prod-02", ".findings")
	b.eval("window.fetch = () => Promise.reject(new TypeError('it is away')); 0", nil)
	b.looks()
	b.reads("what helps", "#notice", "the service does not answer", "Restoring needs no service.", "the newest one:")
	for _, place := range []string{"#notice", "#clusters details[open]"} {
		var all []string // each command without its places, and the button beside it
		b.eval("[...document.querySelectorAll("+quoted(place+" .command code")+")].map(e => e.innerText.split(' --from')[0] + ' ' + "+
			"e.nextElementSibling.innerText)", &all)
		if got := strings.Join(all, ", "); !strings.HasSuffix(got, "snapshotd list Copy, snapshotd restore latest Copy") {
			t.Errorf("%s has %q to be copied", place, got)
		}
	}
	if text := b.text("#clusters details[open]"); !strings.Contains(text, "--cluster prod-02") {
		t.Errorf("the commands are not those of the cluster: %s", text)
	}
	for _, on := range append(slices.Clone(screens), screen{"small", "light", 1000}) {
		b.accessible("an outage", on)
		var over []string
		b.eval(`[...document.querySelectorAll('.card summary')].filter(e => e.children[1].checkVisibility() &&
			e.children[0].getBoundingClientRect().right > e.children[1].getBoundingClientRect().left).map(e => e.innerText)`, &over)
		if len(over) > 0 {
			t.Errorf("%s: the verdict runs into the facts of %q", on.name, over)
		}
	}
}

// TestTheTimelineKnowsTheSchedulesInABrowser: two nightly schedules, ten minutes apart, have no gaps. One that has died
// has.
func TestTheTimelineKnowsTheSchedulesInABrowser(t *testing.T) {
	chromium(t)
	s := simulate(1, 40)
	c, all := s.clusters[0], s.snapshots["prod-00"][:14]
	midnight := time.Now().Truncate(24 * time.Hour)
	for i, sn := range all {
		at := midnight.Add(time.Duration(-i/2)*24*time.Hour + time.Duration(i%2)*-10*time.Minute)
		sn.Schedule, sn.CreateTime = []string{"second", "first"}[i%2], timestamppb.New(at)
	}
	s.snapshots["prod-00"] = all
	next := timestamppb.New(time.Now().Add(time.Hour))
	c.Schedules = []*snapshotdv1.Cluster_Schedule{{Name: "first", NextTime: next}, {Name: "second", NextTime: next}}
	url := s.serve(t) + "/#/clusters/prod-00"
	b := browse(t, url, "")
	b.reads("the timeline", "figcaption", "READY", "next run")
	var gaps int
	if b.eval("document.querySelectorAll('svg .gap').length", &gaps); gaps > 0 || strings.Contains(b.text("figcaption"), "no snapshot") {
		t.Errorf("%d gaps are shown of schedules that keep to their times: %s", gaps, b.text("figcaption"))
	}
	c.Schedules[0].Missed = []*snapshotdv1.Cluster_MissedRuns{
		{StartTime: timestamppb.New(midnight.Add(-72 * time.Hour)), EndTime: timestamppb.New(midnight.Add(-24 * time.Hour)), Runs: 2},
		{StartTime: timestamppb.New(midnight.Add(-time.Hour)), Runs: 1},
	}
	b.eval("location.reload()", nil)
	b.reads("the gaps", "figcaption", "first: no snapshot of 2 runs from "+midnight.Add(-72*time.Hour).UTC().Format("2006-01-02 15:04")+" to ",
		"first: no snapshot of 1 run from ")
	if b.eval("document.querySelectorAll('svg .gap').length", &gaps); gaps != 2 {
		t.Errorf("%d gaps are drawn, want 2", gaps)
	}
}

// TestTheJournalIsShownInABrowser: how much would be lost, to what it can be restored, and what was checked.
func TestTheJournalIsShownInABrowser(t *testing.T) {
	chromium(t)
	s := simulate(1, 40)
	c, now := s.clusters[0], timestamppb.Now()
	checked := &snapshotdv1.Verification{State: snapshotdv1.Verification_STATE_FAILED, Error: "HashKV differs", Time: now}
	s.window = &snapshotdv1.RecoveryWindow{
		Journaled: true, RecoveryPoints: []*snapshotdv1.RecoveryWindow_RecoveryPoint{{Age: durationpb.New(420 * time.Millisecond)},
			{Backend: "s3", Age: durationpb.New(3 * time.Minute), Error: "the bucket is away"}},
		Timelines: []*snapshotdv1.RecoveryWindow_Timeline{{Name: "cdf8-1784110000", Ranges: []*snapshotdv1.RecoveryWindow_Range{
			{FirstRevision: 100, LastRevision: 2500, LastTime: now, CompleteTime: now, RestorableFromRevision: 104, Base: "first"},
		}}},
		Gaps:      []*snapshotdv1.RecoveryWindow_Gap{{AfterRevision: 2500, BeforeRevision: 3000, AfterTime: now, Reason: "it was away"}},
		Snapshots: []*snapshotdv1.RecoveryWindow_Snapshot{{Name: "first", JournalProof: checked}},
		Unread:    []string{"backend old: it does not answer"},
	}
	c.RecoveryWindow = &snapshotdv1.RecoveryWindow{
		Journaled: true, RecoveryPoints: s.window.GetRecoveryPoints(), LagRevisions: proto.Int64(12),
		Drill: &snapshotdv1.RecoveryWindow_Drill{Revision: 2345, Base: "first", Verdict: &snapshotdv1.Verification{
			State: snapshotdv1.Verification_STATE_FAILED, Error: "a segment is torn", Time: now,
		}},
	}
	newest := s.snapshots["prod-00"][0]
	newest.JournalProof = checked
	b := browse(t, "about:blank", "")
	b.goes(s.serve(t)+"/#/clusters/prod-00", "#points li")
	b.reads("how much would be lost", "#points", "If the process were lost: the changes of the last 420", "all but backend s3", "3m", "the bucket is away",
		"12 revisions", "2\u202f345", "FAILED", "a segment is torn")
	b.click("section[aria-label=Journal] button", "Show what can be restored")
	b.reads("what can be restored", "section[aria-label=Journal]", "cdf8-1784110000", "104", "first", "it was away", "FAILED", "HashKV differs",
		"backend old: it does not answer.")
	for _, on := range screens {
		b.accessible("the journal", on)
	}
	b.open("#/clusters/prod-00/snapshots/" + newest.GetName())
	b.reads("its verifications", "section[aria-label=Verifications]", "JOURNAL", "FAILED", "HashKV differs")
}

// TestWhoKnowsTheJournalIsSaidInABrowser: the replica that answers does not follow etcd. Another one does only where
// one leads.
func TestWhoKnowsTheJournalIsSaidInABrowser(t *testing.T) {
	chromium(t)
	s := simulate(1, 40)
	c := s.clusters[0]
	c.RecoveryWindow, c.Leader = &snapshotdv1.RecoveryWindow{Journaled: true}, ""
	b := browse(t, s.serve(t)+"/#/clusters/prod-00", "")
	b.reads("that nobody knows", "#points", "How far the journal is, is not known here", "no replica is known to lead.")
	b.reads("that none is known to lead", "#view dl", "none, or not known")
	c.Leader = "node-2"
	b.looks()
	b.reads("who knows it", "#points", "How far the journal is, is known to node-2, which leads.")
	b.reads("who leads", "#view dl", "node-2")
}

// TestALineSaysWhatIsNotKnownInABrowser: a large catalog is not known as a whole, nor is what was proven elsewhere.
func TestALineSaysWhatIsNotKnownInABrowser(t *testing.T) {
	chromium(t)
	s := simulate(2, 40)
	c, other := s.clusters[0], s.clusters[1]
	c.Proven, c.ProvenTime, c.NewestReady, c.Complete, c.Examined = nil, nil, nil, false, 500
	other.Proven, other.ProvenTime, other.CanDecrypt = nil, nil, false
	other.NewestReady.EncryptionRecipients = []string{"age1x"}
	b := browse(t, s.serve(t)+"/", "")
	b.reads("what the newest say", "#clusters", "newest READY none among the newest 500", "proven never among the newest 500")
	b.reads("what is proven elsewhere", "#clusters", "proven not known here")
}

// TestCommandsOverTLSInABrowser: the files that a private CA and client certificates need are for the person to fill
// in.
func TestCommandsOverTLSInABrowser(t *testing.T) {
	chromium(t)
	s := simulate(2, 40)
	s.tls, s.clientCA = true, true
	b := browse(t, s.serve(t)+"/#/clusters/prod-01", "")
	b.reads("what to do", ".findings", "snapshotd save --cluster prod-01 --cacert CA --cert CERT --key KEY")
	s.clientCA = false
	b.eval("location.reload()", nil)
	b.reads("what to do", ".findings", "snapshotd save --cluster prod-01 --cacert CA")
	if text := b.text(".findings"); strings.Contains(text, "--cert ") {
		t.Errorf("nobody asks for a certificate: %s", text)
	}
	s.token, s.clientCA = true, true
	b.eval("location.reload()", nil)
	b.reads("what to do", ".findings", "snapshotd save --cluster prod-01 --token-file TOKEN --cacert CA")
}

// TestALinkIsFollowedInTheSameTab: the fields show what the address chooses, also when the view is the same as before.
func TestALinkIsFollowedInTheSameTab(t *testing.T) {
	chromium(t)
	b := browse(t, simulate(3, 400).serve(t)+"/#/clusters/prod-00", "")
	b.reads("all of them", "#count", "400 snapshots")
	b.open("#/clusters/prod-00?state=STATE_FAILED&q=etcd&range=24h&until=2099-01-01T00:00&schedule=hourly&open=commands")
	b.reads("the failed one", "#count", "1 of 400 snapshots")
	b.reads("the commands", ".commands", "Take a snapshot now")
	var fields []string
	b.eval("['q', 'state', 'range', 'until', 'schedule'].map(id => document.getElementById(id).value)", &fields)
	if got := strings.Join(fields, " "); got != "etcd STATE_FAILED 24h 2099-01-01T00:00 hourly" {
		t.Errorf("the fields show %q", got)
	}
	b.fill("#q", "nothing like it") // a choice of the person keeps the field and its focus
	b.eval("document.getElementById('q').focus(); document.getElementById('q').dataset.mine = 'yes'", nil)
	b.fill("#q", "etcd")
	var kept bool
	if b.eval("document.activeElement.id === 'q' && document.activeElement.dataset.mine === 'yes'", &kept); !kept {
		t.Error("a field is made anew while somebody types")
	}
	b.open("#/?q=prod-01")
	b.reads("the one", "#found", "1 cluster of 3")
	b.open("#/?open=prod-02")
	b.reads("the other one, opened", ".findings", "did not reach every backend")
	var search string
	if b.eval("document.getElementById('search').value", &search); search != "" {
		t.Errorf("the search still shows %q", search)
	}
	b.open("#/")
	b.gone("what was opened by the link before", ".findings")
}

// gone waits until nothing of a selector can be seen.
func (b *tab) gone(what, selector string) {
	b.t.Helper()
	var text string
	b.eventually("no more "+what, &text, func() bool {
		text = b.text(selector)
		return text == ""
	})
}

// TestAnOpenConsoleIsNotTraced: what the page asks by itself hides no run of anything. What a person does with it is
// traced.
func TestAnOpenConsoleIsNotTraced(t *testing.T) {
	chromium(t)
	w := newWorld(t, 0)
	otlp := testenv.StartOTLP(t)
	s := start(t, w.traced(otlp), w.args(t, "")...)
	b := browse(t, "http://"+s.http+"/#/clusters/default", "")
	b.reads("that there is none", "#count", "There is no snapshot.")
	b.click(".actions button", "Save now")
	b.click("#dialog button", "Save")
	b.reads("the outcome", "#dialog-result", "READY")
	b.click("#dialog button", "Close")
	b.click("#rows a", "on-demand-node-1-")
	b.reads("the facts", "section[aria-label=Facts]", "Revision")
	s.must("prune", "--dry-run")
	otlp.WaitSpan(t, "snapshotd.v1.SnapshotService/Save")
	otlp.WaitSpan(t, "snapshotd.v1.SnapshotService/Prune") // the last one; those before have arrived
	for _, span := range otlp.Spans() {
		if span.Name == "snapshotd.v1.SnapshotService/List" || span.Name == "snapshotd.v1.SnapshotService/Get" {
			t.Errorf("the page's own question is traced: %+v", span)
		}
	}
}
