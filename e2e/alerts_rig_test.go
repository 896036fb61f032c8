//go:build e2e

package e2e

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.yaml.in/yaml/v3"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// shorter are the numbers of the rules that are others in TestEveryAlertFiresAndEnds: ages in seconds, and windows in which
// an increase counts. Besides, each alert that waits ("for") waits for a second. All else is as it is shipped.
var shorter = map[string][2]string{
	"EtcdSnapshotTooOld":          {"3600", "3"},
	"EtcdSnapshotCopyMissing":     {"3600", "1"},
	"EtcdSnapshotScheduleOverdue": {"3600", "3"},
	"EtcdSnapshotScrubOverdue":    {"86400", "1"},
	"EtcdJournalBehind":           {"300", "5"},
	"EtcdJournalGap":              {"1h", "15s"},
	"EtcdJournalNotProven":        {"1h", "15s"},
	"EtcdJournalNotRedundant":     {"1h", "15s"},
	"EtcdJournalOtherHistory":     {"1h", "15s"},
}

// figure is a number or a time in an expression.
var figure = regexp.MustCompile(`\b\d[\d.]*[smhd]?\b`)

// shortened returns the rules with shorter times, and checks that their expressions differ in figures alone.
func shortened(t *testing.T, rules string) string {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string
			Rules []map[string]any
		}
	}
	if err := yaml.Unmarshal([]byte(rules), &file); err != nil {
		t.Fatal(err)
	}
	done := 0
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if r["for"] != nil {
				r["for"] = "1s"
			}
			name, _ := r["alert"].(string)
			change, ok := shorter[name]
			if !ok {
				continue
			}
			done++
			was, _ := r["expr"].(string)
			is := strings.ReplaceAll(was, change[0], change[1])
			if is == was || figure.ReplaceAllString(is, "#") != figure.ReplaceAllString(was, "#") {
				t.Errorf("%s cannot be made shorter: %s", name, was)
			}
			r["expr"] = is
		}
	}
	if done != len(shorter) {
		t.Errorf("%d of %d rules were made shorter", done, len(shorter))
	}
	out, err := yaml.Marshal(map[string]any{"groups": file.Groups})
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// alarming is a service with a cluster for each thing that breaks, a second replica for one of them, and a Prometheus with
// our rules.
type alarming struct {
	t        *testing.T
	s3       *testenv.S3
	home     *testenv.Cluster // etcd of the catalogs, and of clusters that nothing happens to
	full     *testenv.Cluster // etcd with a small quota
	gone     *testenv.Cluster // etcd that stops
	followed *testenv.Cluster // etcd of the journals
	front    *tlsFront        // before home
	dir      string           // with the directory of each cluster

	first, second *service          // the second one has the cluster "twice" alone
	files         [2]string         // their configurations
	http          [2]string         // the addresses of their HTTP ports, which they have again after a restart
	base          string            // the first snapshot of the cluster "journal"
	hurt          string            // the snapshot of the cluster "damaged"
	only          string            // that of the cluster "emptied"
	was           map[string][]byte // files before they were damaged

	prometheus *testenv.Prometheus
	seen       map[string]bool // alerts that have fired
	unmounted  error           // why no small file system could be mounted
}

const alarmingConfig = `
reconcile_interval: 2s
defaults: {lock_ttl: 2s, catalog: {endpoints: [%[1]q]}}
clusters:
  - {name: well, etcd: {endpoints: [%[1]q]}, schedules: [{name: rarely, cron: "@every 1h"}], backends: [{name: local, url: "file://%[5]s/well"}]}
  - {name: new, etcd: {endpoints: [%[1]q]}, backends: [{name: local, url: "file://%[5]s/new"}]}
  - name: old
    etcd: {endpoints: [%[1]q]}
    schedules: [{name: often, cron: "@every 2s"}]
    scrub: {cron: "@every 5s", share: 20}
    backends: [{name: local, url: "file://%[5]s/old"}, {name: s3, url: %[6]q}]
  - {name: headless, etcd: {endpoints: [%[2]q]}, catalog: {endpoints: [%[2]q]}, backends: [{name: local, url: "file://%[5]s/headless"}]}
  - {name: gone, etcd: {endpoints: [%[2]q]}, schedules: [{name: often, cron: "@every 8s"}], backends: [{name: local, url: "file://%[5]s/gone"}]}
  - {name: full, etcd: {endpoints: [%[3]q]}, schedules: [{name: often, cron: "@every 2s"}], backends: [{name: local, url: "file://%[5]s/full"}]}
  - name: certified
    etcd: {endpoints: ["https://%[7]s"], ca_cert: %[8]s/ca.crt, cert: %[8]s/client.crt, key: %[8]s/client.key}
    backends: [{name: local, url: "file://%[5]s/certified"}]
  - {name: damaged, etcd: {endpoints: [%[1]q]}, backends: [{name: local, url: "file://%[5]s/damaged"}]}
  - {name: unread, etcd: {endpoints: [%[1]q]}, backends: [{name: local, url: "file://%[5]s/unread"}]}
  - {name: crowded, etcd: {endpoints: [%[1]q]}, backends: [{name: local, url: "file://%[5]s/crowded"}]}
  - {name: emptied, etcd: {endpoints: [%[1]q]}, backends: [{name: local, url: "file://%[5]s/emptied"}]}
  - {name: journal, etcd: {endpoints: [%[4]q]}, journal: {enabled: true, upload_interval: 1s}, backends: [{name: s3, url: %[6]q}]}
  - name: unproven
    etcd: {endpoints: [%[4]q]}
    journal: {enabled: true, upload_interval: 1s}
    scrub: {cron: "@every 3s", share: 100, drill: true}
    backends: [{name: local, url: "file://%[5]s/unproven"}]
`

const alarmingTwice = `  - name: twice
    etcd: {endpoints: [%[1]q]}
    catalog: {endpoints: [%[1]q], prefix: %[2]s}
    lock_ttl: 2s
    backends: [{name: local, url: "file://%[3]s/twice"}]
`

// The prefixes of the catalog of the cluster "twice": that which both replicas have to have, and another one.
const (
	samePrefix  = "/snapshotd/v1/"
	otherPrefix = "/snapshotd/other/"
)

// newAlarming starts all, of which all is well but for the cluster "new", which has no snapshot.
func newAlarming(t *testing.T) *alarming {
	t.Helper()
	for _, variable := range testenv.S3Env() {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
	a := &alarming{
		t: t, s3: testenv.StartS3(t), home: testenv.StartCluster(t, 1), full: testenv.StartCluster(t, 1, testenv.Quota(4<<20)),
		gone: testenv.StartCluster(t, 1), followed: testenv.StartCluster(t, 1), dir: t.TempDir(),
		http: [2]string{freeAddr(t), freeAddr(t)}, was: map[string][]byte{}, seen: map[string]bool{},
	}
	a.s3.MakeBucket("snapshots")
	home := a.home.Endpoints()[0]
	a.front = startTLS(t, strings.TrimPrefix(home, "http://"))
	for _, name := range []string{"well", "new", "old", "headless", "gone", "full", "certified", "damaged", "emptied", "unproven", "twice",
		"unread", "crowded", "spool"} {
		a.check(os.Mkdir(filepath.Join(a.dir, name), 0o700))
	}
	a.mount("crowded", "size=8m,mode=700")
	a.mount("spool", "size=256m,mode=700")
	a.files[0] = writeConfig(t, "%s", fmt.Sprintf(alarmingConfig, home, a.gone.Endpoints()[0], a.full.Endpoints()[0], a.followed.Endpoints()[0],
		a.dir, a.bucket(), a.front.addr, a.front.authority.dir)+fmt.Sprintf(alarmingTwice, home, samePrefix, a.dir))
	a.configureSecond(samePrefix)
	a.write(a.followed, 20)
	a.startFirst()
	a.startSecond()
	a.prepare()
	a.prometheus = testenv.StartPrometheus(t, prometheusConfig(t, strings.Join(a.http[:], `", "`), "",
		func(rules string) string { return shortened(t, rules) }))
	return a
}

// prepare takes the snapshots that must be there, and proves what has to be proven.
func (a *alarming) prepare() {
	a.t.Helper()
	a.hurt, a.only = a.first.save("--cluster", "damaged"), a.first.save("--cluster", "emptied")
	for _, cluster := range []string{"headless", "certified", "twice", "unread", "crowded"} {
		a.first.must("save", "--cluster", cluster)
	}
	a.has("a snapshot of the cluster that is well", `snapshotd_last_success_revision{cluster="well"}`)
	a.first.must("verify", "latest", "--cluster", "well", "--level", "drill")
	for _, cluster := range []string{"journal", "unproven"} {
		a.has("the base of the journal of "+cluster, fmt.Sprintf(`snapshotd_last_success_revision{cluster=%q}`, cluster))
	}
	a.write(a.followed, 20)
	a.has("a revision of the journal is proven", `snapshotd_journal_proofs_total{cluster="unproven",kind="revision",status="success"}`)
	a.base = a.first.save("--cluster", "journal")
	a.write(a.followed, 20)
}

func (a *alarming) check(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

// has waits until a metric of the first service is more than zero.
func (a *alarming) has(what, metric string) {
	a.t.Helper()
	eventually(a.t, what, func() bool { return a.first.scrape()[metric] > 0 })
}

func (a *alarming) bucket() string { return a.s3.URL("snapshots", "etcd") }

// instance is the name of a replica in Prometheus.
func (a *alarming) instance(replica string) string {
	return a.http[slices.Index([]string{"first", "second"}, replica)]
}

func (a *alarming) startFirst() {
	a.t.Helper()
	a.first = start(a.t, options{}, "--listen-http", a.http[0], "--config", a.files[0])
}

func (a *alarming) startSecond() {
	a.t.Helper()
	a.second = start(a.t, options{}, "--listen-http", a.http[1], "--node-name", "node-2", "--config", a.files[1],
		"--data-dir", filepath.Join(a.dir, "spool"))
}

// configureSecond chooses where the second service has the catalog.
func (a *alarming) configureSecond(prefix string) {
	a.t.Helper()
	a.files[1] = writeConfig(a.t, "%s", "reconcile_interval: 2s\nclusters:\n"+fmt.Sprintf(alarmingTwice, a.home.Endpoints()[0], prefix, a.dir))
}

// addToSecond adds a cluster to the configuration of the second service. A file that it names is not there.
func (a *alarming) addToSecond() {
	a.t.Helper()
	before, err := os.ReadFile(a.files[1])
	a.check(err)
	replaceFile(a.t, a.files[1], string(before)+fmt.Sprintf(
		"  - {name: late, etcd: {endpoints: [\"https://%[1]s\"], ca_cert: %[2]s/late.crt, cert: %[3]s/client.crt, key: %[3]s/client.key}, "+
			"backends: [{name: local, url: \"file://%[2]s/well\"}]}\n", a.front.addr, a.dir, a.front.authority.dir))
}

// bringFile brings the file that addToSecond named.
func (a *alarming) bringFile() {
	a.t.Helper()
	authority, err := os.ReadFile(filepath.Join(a.front.authority.dir, "ca.crt"))
	a.check(err)
	a.check(os.WriteFile(filepath.Join(a.dir, "late.crt"), authority, 0o600))
}

func (a *alarming) moveSecond(prefix string) {
	a.t.Helper()
	a.second.end()
	a.configureSecond(prefix)
	a.startSecond()
}

// write makes n changes, and returns the revision of the last one.
func (a *alarming) write(etcd *testenv.Cluster, n int) (last int64) {
	a.t.Helper()
	client := etcd.Client(a.t)
	for i := range n {
		resp, err := client.Put(a.t.Context(), fmt.Sprint("/alarming/", i), strings.Repeat("x", 100))
		a.check(err)
		last = resp.Header.Revision
	}
	return last
}

// fill writes until etcd has no more space and raises its alarm.
func (a *alarming) fill() {
	a.t.Helper()
	client := a.full.Client(a.t)
	value := strings.Repeat("x", 1<<20)
	for range 20 {
		if _, err := client.Put(a.t.Context(), "/alarming/large", value); err != nil {
			return
		}
	}
	a.t.Fatal("etcd takes more than its quota")
}

// clear does what etcd's manual asks for.
func (a *alarming) clear() {
	a.t.Helper()
	client := a.full.Client(a.t)
	status := a.full.Status(a.t, 0)
	_, err := client.Compact(a.t.Context(), status.Header.Revision, clientv3.WithCompactPhysical())
	a.check(err)
	_, err = client.Defragment(a.t.Context(), a.full.Endpoints()[0])
	a.check(err)
	_, err = client.AlarmDisarm(a.t.Context(), &clientv3.AlarmMember{})
	a.check(err)
}

// mount makes the directory of a name a small file system, where that is allowed.
func (a *alarming) mount(name, options string) {
	a.t.Helper()
	dir := filepath.Join(a.dir, name)
	if err := syscall.Mount("none", dir, "tmpfs", 0, options); err != nil {
		a.unmounted = err
		return
	}
	a.t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
}

// lacksDisk reports whether something cannot be broken because nothing may be mounted. Its alerts need not fire then.
func (a *alarming) lacksDisk(b breakage) bool {
	if !b.mounts || a.unmounted == nil {
		return false
	}
	for _, s := range b.fires {
		a.t.Logf("%s is not tried: no file system can be mounted: %v", s.alert, a.unmounted)
		a.seen[s.alert] = true
	}
	return true
}

// occupy takes all space of the file system of a directory but for some bytes.
func (a *alarming) occupy(name string, leave int64) {
	a.t.Helper()
	var fs syscall.Statfs_t
	dir := filepath.Join(a.dir, name)
	a.check(syscall.Statfs(dir, &fs))
	f, err := os.Create(filepath.Join(dir, "filler"))
	a.check(err)
	a.check(syscall.Fallocate(int(f.Fd()), 0, 0, int64(fs.Bavail)*fs.Bsize-leave))
	a.check(f.Close())
}

// leave gives back what occupy has taken.
func (a *alarming) leave(name string) {
	a.t.Helper()
	a.check(os.Remove(filepath.Join(a.dir, name, "filler")))
}

// put writes a key of the etcd of the catalogs.
func (a *alarming) put(key, value string) {
	a.t.Helper()
	_, err := a.home.Client(a.t).Put(a.t.Context(), key, value)
	a.check(err)
}

// remove removes one.
func (a *alarming) remove(key string) {
	a.t.Helper()
	_, err := a.home.Client(a.t).Delete(a.t.Context(), key)
	a.check(err)
}

// damage changes a byte of each file of a cluster's directory with that end.
func (a *alarming) damage(cluster, suffix string) {
	a.t.Helper()
	found := 0
	a.check(filepath.WalkDir(filepath.Join(a.dir, cluster), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, suffix) {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		found++
		a.was[path] = slices.Clone(data)
		data[len(data)/2] ^= 1
		return os.WriteFile(path, data, 0o600)
	}))
	if found == 0 {
		a.t.Fatalf("the directory of %s has no %s", cluster, suffix)
	}
}

// repair puts the bytes of a cluster's files back.
func (a *alarming) repair(cluster string) {
	a.t.Helper()
	for path, data := range a.was {
		if strings.HasPrefix(path, filepath.Join(a.dir, cluster)+"/") {
			a.check(os.WriteFile(path, data, 0o600))
		}
	}
}

// goBack restores the etcd of the journals to an earlier snapshot, as the same cluster.
func (a *alarming) goBack() {
	a.t.Helper()
	a.followed.Kill(0)
	dir := a.followed.DataDir(0)
	a.check(os.RemoveAll(dir))
	initial := a.followed.Initial()[0]
	name, peer, _ := strings.Cut(initial, "=")
	r := command(a.t.Context(), a.t, a.first.path, "restore", a.base, "--from", a.bucket(), "--cluster", "journal", "--data-dir", dir,
		"--name", name, "--initial-cluster", initial, "--initial-advertise-peer-urls", peer, "--initial-cluster-token", a.t.Name())
	if r.code != 0 {
		a.t.Fatalf("restore: %s%s", r.stdout, r.stderr)
	}
	a.followed.Restart(a.t, 0)
}

// compact changes the etcd of the journals and makes it forget that.
func (a *alarming) compact() {
	a.t.Helper()
	last := a.write(a.followed, 20)
	_, err := a.followed.Client(a.t).Compact(a.t.Context(), last)
	a.check(err)
}

// freeAddr returns an address that nobody listens on, as far as can be known.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
