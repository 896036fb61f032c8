//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// outage is something that breaks, what tells of it, and how it is mended.
type outage struct {
	name   string
	breaks func(*outages)
	mends  func(*outages) // by hand, where the words say so; the commands of `snapshotd status` do the rest
	metric string         // a query that has a result as long as it lasts
	alert  string
	says   []string // parts of what `status` and the console say: what is broken, where, and what to do
	slow   bool     // it takes ten minutes at least until all tell of it
	bytes  int64    // of the database, when it has to be large
}

// lastSaveFailed is a query for a backend that the last save did not reach.
func lastSaveFailed(backend string) string {
	const at = `snapshotd_last_save_timestamp_seconds{backend=%q,result=%q}`
	return fmt.Sprintf(at+" > ignoring(result) "+at, backend, "error", backend, "success")
}

var everyOutage = []outage{
	{
		name:   "S3 stops",
		breaks: func(o *outages) { o.s3.Stop() },
		mends:  func(o *outages) { o.s3.Start() },
		metric: lastSaveFailed("s3"), alert: "EtcdSnapshotFailed",
		says: []string{"The last save did not reach every backend", `"s3"`, "connection refused", "snapshotd reconcile --repair"},
	},
	{
		name:   "etcd stops",
		breaks: func(o *outages) { o.etcd.Kill(0) },
		mends:  func(o *outages) { o.etcd.Restart(o.t, 0) },
		metric: `snapshotd_leader == 0`, alert: "EtcdSnapshotNoLeader",
		says: []string{"The catalog cannot be read", "restores work without it", "snapshotd list --from "},
		slow: true, // the alert waits for a quarter of an hour
	},
	{
		name: "a disk is not mounted any more",
		breaks: func(o *outages) {
			o.check(os.Rename(o.dir, o.dir+".disk"))
			o.check(os.Mkdir(o.dir, 0o700))
		},
		mends: func(o *outages) {
			o.check(os.RemoveAll(o.dir))
			o.check(os.Rename(o.dir+".disk", o.dir))
		},
		metric: lastSaveFailed("local"), alert: "EtcdSnapshotFailed",
		says: []string{"The last save did not reach every backend", `"local"`, "mount the directory", "snapshotd reconcile --repair"},
	},
	{
		name:   "a save that does not end keeps the schedule from saving",
		breaks: func(o *outages) { o.saveForEver() },
		mends:  func(o *outages) { o.stopped.kill() },
		metric: `snapshotd_schedule_last_failure_timestamp_seconds > snapshotd_schedule_last_run_timestamp_seconds`,
		alert:  "EtcdSnapshotScheduleFailed",
		says:   []string{"Schedule often", "has stored nothing since then", "which node-2 has been saving", "restart snapshotd on that node"},
		slow:   true, // a run may end ten minutes after its time
		bytes:  80 << 20,
	},
	{
		name:   "a byte of a stored snapshot changes",
		breaks: func(o *outages) { o.changeByte() },
		mends:  func(*outages) {},
		metric: `snapshotd_snapshots_damaged > 0`, alert: "EtcdSnapshotDamaged",
		says: []string{"did not pass its last verification", "Verify it again when its copies were repaired", "snapshotd verify "},
	},
	{
		name:   "the client certificate for etcd expires",
		breaks: func(o *outages) { o.front.authority.issue(o.t, "client", time.Now().Add(-time.Minute)) },
		mends:  func(o *outages) { o.front.authority.issue(o.t, "client", time.Now().Add(24*time.Hour)) },
		metric: lastSaveFailed("s3"), alert: "EtcdSnapshotFailed",
		says: []string{"The last save failed", "client.crt expired at", "renew the client certificate", "snapshotd save"},
	},
}

// outages is a service of which all is well, behind a client certificate for its etcd, a Prometheus with our rules, and
// a browser with the console.
type outages struct {
	t *testing.T
	*world
	pace       pace
	config     string
	service    *service
	prometheus *testenv.Prometheus
	console    *tab
	front      *tlsFront
	stopped    *service // the replica whose save does not end
}

// pace is how often things are done that find an outage.
type pace struct {
	save, scrub, lock string
	scrape            string
	atOnce            bool // an alert does not wait until its condition has lasted for a while
	limit             time.Duration
}

// TestOutages breaks one thing after another, each of a service of its own and all side by side, with the rules as they
// are shipped, and with saves and scrubs every minute. All that tells of an outage has to: the metric in Prometheus,
// the alert, `snapshotd status`, the console; /readyz goes on, because a service that is restarted mends nothing. Then
// what the words ask for is done, and all of them have to say that all is well. The log of the test has how long each
// of them took, and the words.
func TestOutages(t *testing.T) {
	if os.Getenv("SNAPSHOTD_OUTAGES") == "" {
		t.Skip("SNAPSHOTD_OUTAGES is not set: this takes 20 minutes")
	}
	chromium(t)
	rows := make([]string, len(everyOutage))
	t.Run("each", func(t *testing.T) {
		for i, out := range everyOutage {
			t.Run(out.name, func(t *testing.T) {
				t.Parallel()
				o := newOutages(t, max(out.bytes, 1<<20), pace{save: "* * * * *", scrub: "* * * * *", lock: "15s", scrape: "15s", limit: 25 * time.Minute})
				rows[i] = o.drill(out)
			})
		}
	})
	t.Logf("\n%s\n%s", outageHead, strings.Join(rows, "\n"))
}

// TestOutagesAreTold is the short form: the outages that are told of within seconds, of one service, with alerts that
// fire at once.
func TestOutagesAreTold(t *testing.T) {
	chromium(t)
	o := newOutages(t, 1<<20, pace{save: "@every 5s", scrub: "@every 5s", lock: "2s", scrape: "1s", atOnce: true, limit: 2 * waitTimeout})
	for _, out := range everyOutage {
		if !out.slow {
			t.Log(o.drill(out))
		}
	}
}

func newOutages(t *testing.T, bytes int64, p pace) *outages {
	t.Helper()
	w := newWorld(t, bytes)
	o := &outages{t: t, world: w, pace: p, front: startTLS(t, strings.TrimPrefix(w.etcd.Endpoints()[0], "http://"))}
	o.config = fmt.Sprintf(`
clusters:
  - etcd: {endpoints: ["https://%s"], ca_cert: %s, cert: %s, key: %s}
    lock_ttl: %s
    backends:
      - {name: local, url: "file://%s"}
      - {name: s3, url: %q}
`, o.front.addr, o.front.authority.file("ca.crt"), o.front.authority.file("client.crt"), o.front.authority.file("client.key"),
		p.lock, w.dir, w.s3URL(""))
	o.service = start(t, w.options(), "--config", writeConfig(t, "%s", o.config+fmt.Sprintf(`
    schedules: [{name: often, cron: %q}]
    scrub: {cron: %q, share: 100}
`, p.save, p.scrub)))
	o.service.must("verify", o.ready(), "--level", "drill")
	o.prometheus = testenv.StartPrometheus(t, p.config(t, o.service.http))
	o.console = browse(t, "http://"+o.service.http+"/", "")
	eventually(t, "Prometheus sees that the service leads, and its certificate", func() bool {
		return o.asked(`snapshotd_leader == 1`) && o.asked(`snapshotd_etcd_certificate_not_after_timestamp_seconds > time()`)
	})
	return o
}

// ready returns the name of a snapshot that is READY.
func (o *outages) ready() (name string) {
	o.t.Helper()
	eventually(o.t, "a snapshot is READY", func() bool {
		all := o.service.list()
		i := slices.IndexFunc(all, func(s snap) bool { return s.State == "STATE_READY" })
		if i >= 0 {
			name = all[i].Name
		}
		return i >= 0
	})
	return name
}

func (o *outages) check(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
}

// saveForEver begins a save on another replica that has no schedule, and reads so slowly that it does not end.
func (o *outages) saveForEver() {
	o.t.Helper()
	o.stopped = start(o.t, o.options(), "--node-name", "node-2", "--config", writeConfig(o.t, "%s", o.config+"    stream_limit: 64KiB\n"))
	go o.stopped.run("save", "--name-prefix", "by-hand")
	eventually(o.t, "the other replica saves", func() bool {
		return strings.Contains(o.service.run("list").stdout, "by-hand-node-2-")
	})
}

// changeByte changes a byte of a snapshot in the directory.
func (o *outages) changeByte() {
	o.t.Helper()
	files := o.files(o.t)
	file := files[slices.IndexFunc(files, func(f string) bool { return strings.HasSuffix(f, ".db.zst") })]
	data, err := os.ReadFile(file)
	o.check(err)
	data[len(data)/2] ^= 1
	o.check(os.WriteFile(file, data, 0o600))
}
