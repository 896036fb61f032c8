//go:build e2e

package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/deploy"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/snapshot"
)

// sign is an alert that has to fire, with these labels. Its summary names their values.
type sign struct {
	alert  string
	labels map[string]string
}

func told(alert string, labels ...string) sign {
	s := sign{alert, map[string]string{}}
	for i := 0; i < len(labels); i += 2 {
		s.labels[labels[i]] = labels[i+1]
	}
	return s
}

// breakage is something that breaks, the alerts that tell of it, and what ends them.
type breakage struct {
	breaks, mends func(*alarming)
	fires         []sign
	mounts        bool      // it needs a small file system, which not everybody may mount
	status        [2]string // a cluster, and the words of the finding on it that tells the same; empty where none is looked for
}

// Those of one round break side by side.
var breakages = [][]breakage{{
	{ // what was never done
		breaks: func(*alarming) {},
		mends: func(a *alarming) {
			a.first.must("save", "--cluster", "new")
			a.first.must("verify", "latest", "--cluster", "new", "--level", "drill")
		},
		fires: []sign{told("EtcdSnapshotNone", "cluster", "new"), told("EtcdSnapshotNotProven", "cluster", "new")},
	},
	{ // its last success stays in the metrics
		breaks: func(a *alarming) { a.first.must("delete", a.only, "--cluster", "emptied") },
		mends:  func(a *alarming) { a.first.must("save", "--cluster", "emptied") },
		fires:  []sign{told("EtcdSnapshotNone", "cluster", "emptied")},
		status: [2]string{"emptied", "There is no snapshot that could be restored"},
	},
	{
		breaks: func(a *alarming) {
			a.s3.Stop()
			a.write(a.followed, 20) // without changes, the journal is not behind
		},
		mends: func(a *alarming) {
			a.s3.Start()
			eventually(a.t, "repair has made the copies", func() bool {
				return a.first.run("reconcile", "--repair", "--cluster", "old").code == 0
			})
		},
		fires: []sign{
			told("EtcdSnapshotTooOld", "cluster", "old"), told("EtcdSnapshotFailed", "cluster", "old", "backend", "s3"),
			told("EtcdSnapshotCopyMissing", "cluster", "old", "backend", "s3"),
			told("EtcdSnapshotCatalogDiffers", "cluster", "old", "backend", "s3"),
			told("EtcdSnapshotScrubOverdue", "cluster", "old"), // it tries again and again to read the copies there
			told("EtcdJournalBehind", "cluster", "journal", "stage", "stored", "backend", "s3"),
		},
	},
	{
		breaks: func(a *alarming) { a.gone.Kill(0) },
		mends:  func(a *alarming) { a.gone.Restart(a.t, 0) },
		fires: []sign{
			told("EtcdSnapshotNoLeader", "cluster", "headless"),
			told("EtcdSnapshotScheduleFailed", "cluster", "gone", "schedule", "often"),
			told("EtcdSnapshotScheduleOverdue", "cluster", "gone", "schedule", "often"),
		},
	},
	{
		breaks: (*alarming).fill,
		mends:  (*alarming).clear,
		fires:  []sign{told("EtcdSnapshotAlarmed", "cluster", "full")},
	},
	{
		breaks: func(a *alarming) { a.front.authority.issue(a.t, "client", time.Now().Add(20*time.Minute)) },
		mends:  func(a *alarming) { a.front.authority.issue(a.t, "client", time.Now().Add(24*time.Hour)) },
		fires:  []sign{told("EtcdClientCertificateExpires", "cluster", "certified")},
	},
	{
		breaks: func(a *alarming) {
			a.damage("damaged", ".db.zst")
			if r := a.first.run("verify", a.hurt, "--cluster", "damaged"); r.code == 0 {
				a.t.Errorf("a damaged snapshot has passed: %s", r.stdout)
			}
		},
		mends: func(a *alarming) { // no other backend has a copy
			a.first.must("delete", a.hurt, "--cluster", "damaged")
			a.first.must("save", "--cluster", "damaged")
			a.first.must("verify", "latest", "--cluster", "damaged")
		},
		fires: []sign{told("EtcdSnapshotDamaged", "cluster", "damaged")},
	},
	{ // there is no such snapshot, and so nothing that reconcile would bring back
		breaks: func(a *alarming) { a.put("/snapshotd/v1/unread/snapshots/"+snapshot.OrderKey("other"), "no record") },
		mends:  func(a *alarming) { a.remove("/snapshotd/v1/unread/snapshots/" + snapshot.OrderKey("other")) },
		fires:  []sign{told("EtcdSnapshotRecordUnreadable", "cluster", "unread")},
	},
	{
		breaks: func(a *alarming) { a.occupy("crowded", 0) },
		mends:  func(a *alarming) { a.leave("crowded") },
		fires:  []sign{told("EtcdSnapshotBackendNearlyFull", "cluster", "crowded", "backend", "local")},
		status: [2]string{"crowded", "local has room for less than two more snapshots"},
		mounts: true,
	},
	{ // less than is to stay free
		breaks: func(a *alarming) { a.occupy("spool", 8<<20) },
		mends:  func(a *alarming) { a.leave("spool") },
		fires:  []sign{told("EtcdSnapshotSpoolNearlyFull", "cluster", "twice", "instance", "second")},
		mounts: true,
	},
	{
		breaks: (*alarming).addToSecond,
		mends:  (*alarming).bringFile, // nobody asks for a reload
		fires:  []sign{told("SnapshotdConfigNotApplied", "instance", "second")},
	},
	{
		breaks: func(a *alarming) { a.damage("unproven", ".seg") },
		mends:  func(a *alarming) { a.repair("unproven") },
		fires: []sign{
			told("EtcdJournalNotProven", "cluster", "unproven", "kind", "revision"),
			told("EtcdJournalNotRedundant", "cluster", "unproven", "backend", "local"), // no other backend has them
		},
		status: [2]string{"unproven", "could not be restored, in a drill"},
	},
	{ // the drill of that revision is a part of the scrub
		breaks: func(*alarming) {},
		mends:  func(*alarming) {},
		fires:  []sign{told("EtcdSnapshotScheduleFailed", "cluster", "unproven", "schedule", "@scrub")},
		status: [2]string{"unproven", "The last scrub failed"},
	},
}, {
	{
		breaks: func(a *alarming) { a.moveSecond(otherPrefix) },
		mends:  func(a *alarming) { a.moveSecond(samePrefix) },
		fires:  []sign{told("EtcdSnapshotManyLeaders", "cluster", "twice")},
	},
	{
		breaks: (*alarming).goBack,
		mends:  func(*alarming) {}, // it is the history now
		fires:  []sign{told("EtcdJournalOtherHistory", "cluster", "journal", "reason", "restored")},
		status: [2]string{"journal", "etcd has another history since"},
	},
}, {
	{
		breaks: func(a *alarming) {
			a.first.kill()
			a.compact()
			a.startFirst()
		},
		mends:  func(*alarming) {}, // a new snapshot was taken
		fires:  []sign{told("EtcdJournalGap", "cluster", "journal", "reason", "compacted")},
		status: [2]string{"journal", "The journal has a gap: revisions "},
	},
	{
		breaks: func(a *alarming) { a.second.kill() },
		mends:  (*alarming).startSecond,
		fires:  []sign{told("SnapshotdReplicaDown", "instance", "second")},
	},
}, {
	{
		breaks: func(a *alarming) {
			a.first.kill()
			a.second.kill()
		},
		mends: func(a *alarming) {
			a.startFirst()
			a.startSecond()
		},
		fires: []sign{told("SnapshotdDown")},
	},
}}

// TestEveryAlertFiresAndEnds breaks what each alert is about, sees it fire in a real Prometheus with the labels that lead
// to what is broken, mends that, and sees the alert end. The rules are those that are shipped, with shorter times.
func TestEveryAlertFiresAndEnds(t *testing.T) {
	a := newAlarming(t)
	for i, round := range breakages {
		var expected []sign
		round = slices.DeleteFunc(slices.Clone(round), a.lacksDisk)
		for _, b := range round {
			b.breaks(a)
			expected = append(expected, b.fires...)
		}
		a.await(fmt.Sprintf("round %d: it is told", i+1), expected, true)
		for _, b := range round {
			a.findsToo(b.status)
		}
		for _, b := range round {
			b.mends(a)
		}
		a.await(fmt.Sprintf("round %d: all is well again", i+1), expected, false)
		if i == 0 { // of the first round, in which the service ran all the time
			a.isWell()
		}
	}
	alerts, _, err := deploy.Rules()
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range alerts {
		if !a.seen[q.Where] {
			t.Errorf("%s was not seen", q.Where)
		}
	}
}

// findsToo waits until the status of a cluster tells the same as the alerts.
func (a *alarming) findsToo(want [2]string) {
	a.t.Helper()
	if want[0] == "" {
		return
	}
	eventually(a.t, "the status of "+want[0]+" tells it, too", func() bool {
		return strings.Contains(a.first.run("status", "--cluster", want[0]).stdout, want[1])
	})
}

// await waits until each of the signs was seen firing, or until none of them fires.
func (a *alarming) await(what string, signs []sign, firing bool) {
	a.t.Helper()
	begin := time.Now()
	left := slices.Clone(signs)
	for {
		alerts := a.prometheus.Alerts()
		if !firing {
			left = slices.Clone(signs)
		}
		left = slices.DeleteFunc(left, func(s sign) bool { return a.fires(alerts, s) == firing })
		if len(left) == 0 {
			a.t.Logf("%s after %s", what, time.Since(begin).Round(time.Second))
			return
		}
		if time.Since(begin) > waitTimeout {
			a.t.Fatalf("%s: not within %s: %v; the alerts are %v", what, waitTimeout, left, alerts)
		}
		time.Sleep(200 * time.Millisecond) // polling with a deadline; nothing is concluded from time
	}
}

// fires reports whether an alert fires with the labels of a sign. Its words have to name them.
func (a *alarming) fires(alerts []testenv.Alert, s sign) bool {
	a.t.Helper()
	for _, alert := range alerts {
		if alert.Labels["alertname"] != s.alert || alert.State != "firing" {
			continue
		}
		matches, words := true, alert.Annotations["summary"]
		for name, value := range s.labels {
			if name == "instance" {
				value = a.instance(value)
			}
			matches = matches && alert.Labels[name] == value
			if matches && !strings.Contains(words, value) {
				a.t.Errorf("the summary of %s does not name the %s %s: %s", s.alert, name, value, words)
			}
		}
		if !matches {
			continue
		}
		if !a.seen[s.alert] {
			a.t.Logf("%s: %s %s", s.alert, words, alert.Annotations["description"])
			a.follow(alert)
		}
		a.seen[s.alert] = true
		return true
	}
	return false
}

// looks are the commands of an alert that only look.
var looks = regexp.MustCompile(`"snapshotd ((?:status|list|window|get) [^"]*)"`)

// follow runs the commands of an alert that only look, as they are printed. What they say does not matter here.
func (a *alarming) follow(alert testenv.Alert) {
	a.t.Helper()
	for _, m := range looks.FindAllStringSubmatch(alert.Annotations["description"], -1) {
		if r := a.first.run(strings.Fields(m[1])...); r.code == 2 && !strings.Contains(m[1], "URL") {
			a.t.Errorf("%s: snapshotd %s is no command: %s", alert.Labels["alertname"], m[1], r.stderr)
		}
	}
}

// isWell checks that no alert has fired for the cluster that is well.
func (a *alarming) isWell() {
	a.t.Helper()
	values, err := a.prometheus.Query(`count_over_time(ALERTS{cluster="well",alertstate="firing"}[10m])`)
	if err != nil || len(values) > 0 {
		a.t.Errorf("alerts of the cluster that is well: %v, %v", values, err)
	}
}
