//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// outage is one thing that breaks, and who tells of it.
type outage struct {
	schedule string // of saves
	breaks   func(*testing.T, *outages)
	metric   string // a query that has a result when the metrics tell
	alert    string
	finding  string // a part of what `status` and the console say
	hint     string // a part that says what to look at, or what to do
}

// outages is a service that all is well with, behind a client certificate for its etcd, and a Prometheus with our rules.
type outages struct {
	*world
	service    *service
	prometheus *testenv.Prometheus
	front      *tlsFront
}

// awaitOutage is how long an outage may take to be told of: ten minutes and some for a schedule that is overdue.
const awaitOutage = 13 * time.Minute

var everyOutage = map[string]outage{
	"S3 stops": {
		schedule: "@every 10s",
		breaks:   func(_ *testing.T, o *outages) { o.s3.Stop() },
		metric:   `increase(snapshotd_saves_total{backend="s3",result="error"}[1h]) > 0`,
		alert:    "EtcdSnapshotFailed", finding: "did not reach every backend", hint: "connection refused",
	},
	"etcd stops": {
		schedule: "@every 10s",
		breaks:   func(_ *testing.T, o *outages) { o.etcd.Kill(0) },
		metric:   `snapshotd_leader == 0`,
		alert:    "EtcdSnapshotNoLeader", finding: "The catalog cannot be read", hint: "list --from",
	},
	"a disk is not mounted any more": {
		schedule: "@every 10s",
		breaks: func(t *testing.T, o *outages) {
			if err := os.Rename(o.dir, o.dir+".gone"); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(o.dir, 0o700); err != nil {
				t.Fatal(err)
			}
		},
		metric: `increase(snapshotd_saves_total{backend="local",result="error"}[1h]) > 0`,
		alert:  "EtcdSnapshotFailed", finding: "did not reach every backend", hint: "mounted",
	},
	"a schedule cannot save": { // the lock is held by a replica that does nothing
		schedule: "@every 10s",
		breaks: func(t *testing.T, o *outages) {
			client := o.etcd.Client(t)
			lease, err := client.Grant(t.Context(), 3600)
			if err == nil {
				_, err = client.Put(t.Context(), "/snapshotd/v1/default/lock/save", "node-9", clientv3.WithLease(lease.ID))
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		metric: `increase(snapshotd_schedule_runs_total{result="failed"}[1h]) > 0`,
		alert:  "EtcdSnapshotScheduleFailed", finding: "schedule", hint: "often",
	},
	"bytes of a snapshot change": {
		schedule: "@every 1h",
		breaks: func(t *testing.T, o *outages) {
			i := slices.IndexFunc(o.files(t), func(f string) bool { return strings.HasSuffix(f, ".db.zst") })
			file := o.files(t)[i]
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			data[len(data)/2] ^= 1
			if err := os.WriteFile(file, data, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		metric: `increase(snapshotd_verifications_total{result="failed"}[1h]) > 0`,
		alert:  "EtcdSnapshotDamaged", finding: "waiting to be brought to local", hint: "reconcile --repair",
	},
	"etcd's client certificate expires": {
		schedule: "@every 10s",
		breaks:   func(t *testing.T, o *outages) { o.front.authority.issue(t, "client", time.Now().Add(-time.Minute)) },
		metric:   `increase(snapshotd_schedule_runs_total{result="failed"}[1h]) > 0`,
		alert:    "EtcdSnapshotScheduleFailed", finding: "The last save failed", hint: "expired",
	},
}

// TestOutages breaks one thing after another, each of a service of its own, and waits until all that tells of it does:
// metrics, an alert, `snapshotd status`, the console; /readyz goes on, because a service that restarts mends nothing. The
// log of the test has how long each of them took, and the words.
func TestOutages(t *testing.T) {
	if os.Getenv("SNAPSHOTD_OUTAGES") == "" {
		t.Skip("SNAPSHOTD_OUTAGES is not set: this takes some minutes")
	}
	for name, out := range everyOutage {
		t.Run(name, func(t *testing.T) {
			o := newOutages(t, out)
			began := time.Now()
			out.breaks(t, o)
			o.tell(t, out, began)
		})
	}
}

func newOutages(t *testing.T, out outage) *outages {
	t.Helper()
	w := newWorld(t, 1<<20)
	o := &outages{world: w, front: startTLS(t, strings.TrimPrefix(w.etcd.Endpoints()[0], "http://"))}
	config := writeConfig(t, `
clusters:
  - etcd: {endpoints: ["https://%s"], ca_cert: %s, cert: %s, key: %s}
    lock_ttl: 5s
    schedules: [{name: often, cron: %q}]
    scrub: {cron: "* * * * *", share: 100, drill: true}
    backends:
      - {name: local, url: "file://%s"}
      - {name: s3, url: %q}
`, o.front.addr, o.front.authority.file("ca.crt"), o.front.authority.file("client.crt"), o.front.authority.file("client.key"),
		out.schedule, w.dir, w.s3URL(""))
	o.service = start(t, w.options(), "--config", config)
	o.prometheus = testenv.StartPrometheus(t, atOnce(t, prometheusConfig(t, o.service.http, "")))
	eventually(t, "a snapshot", func() bool { return len(o.service.list()) > 0 && o.service.list()[0].State == "STATE_READY" })
	o.service.must("verify", "latest", "--level", "drill")
	eventually(t, "all is well", func() bool { return o.service.run("status").code == 0 })
	eventually(t, "Prometheus sees the service, and no alert fires", func() bool {
		up, err := o.prometheus.Query(`snapshotd_leader == 1`)
		return err == nil && len(up) == 1 && len(firingAlerts(t, o.prometheus)) == 0
	})
	return o
}

// atOnce leaves out how long a condition must last until an alert fires: the test adds it.
func atOnce(t *testing.T, config string) string {
	t.Helper()
	file := filepath.Join(regexp.MustCompile(`rule_files: \[(.*)/rules.yaml\]`).FindStringSubmatch(config)[1], "rules.yaml")
	rules, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	rules = regexp.MustCompile(`(?m)^ +for: .*\n`).ReplaceAll(rules, nil)
	if err := os.WriteFile(file, rules, 0o600); err != nil {
		t.Fatal(err)
	}
	return config
}

// tell waits until everything tells of an outage.
func (o *outages) tell(t *testing.T, out outage, began time.Time) {
	t.Helper()
	var words string
	status := func() bool {
		r := o.service.run("status")
		words = r.stdout
		return r.code != 0 && strings.Contains(r.stdout, out.finding)
	}
	console := func() bool {
		var answer struct {
			Clusters []struct {
				Verdict  string
				Findings []struct{ Text string }
			}
		}
		if o.service.call("GET", "/v1/clusters", "", &answer) != 200 || len(answer.Clusters) != 1 {
			return false
		}
		c := answer.Clusters[0]
		return c.Verdict != "VERDICT_SAFE" &&
			slices.ContainsFunc(c.Findings, func(f struct{ Text string }) bool { return strings.Contains(f.Text, out.finding) })
	}
	signals := map[string]func() bool{
		"metric": func() bool { v, err := o.prometheus.Query(out.metric); return err == nil && len(v) > 0 },
		"alert":  func() bool { return firingAlerts(t, o.prometheus)[out.alert] },
		"status": status, "console": console,
	}
	var told []string
	for len(signals) > 0 {
		for name, tells := range signals {
			if tells() {
				told = append(told, fmt.Sprintf("%s %.0f s", name, time.Since(began).Seconds()))
				delete(signals, name)
			}
		}
		if time.Since(began) > awaitOutage {
			t.Fatalf("after %s, these do not tell: %v; status says\n%s", awaitOutage, signals, words)
		}
		o.service.get("/readyz") // 200
		time.Sleep(200 * time.Millisecond)
	}
	if !strings.Contains(words, out.hint) {
		t.Errorf("the words of status lack %q", out.hint)
	}
	t.Logf("%s; alerts: %v; status says\n%s", strings.Join(told, ", "), firingAlerts(t, o.prometheus), words)
}
