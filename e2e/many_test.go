//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/internal/testenv/simetcd"
)

// many is a configuration of so many clusters, each with a simulated etcd of its own.
type many struct {
	fleet  *simetcd.Fleet
	n      int
	config string // but for what each replica has for itself
}

// newMany returns one for so many replicas. With schedules, the etcds give the snapshot of a real one.
func newMany(t *testing.T, n, replicas int, settings string) *many {
	t.Helper()
	program(t, "") // building it is no part of a start
	var snapshot []byte
	if strings.Contains(settings, "schedules:") {
		snapshot = someSnapshot(t)
	}
	m := &many{n: n, fleet: simetcd.Start(t, n, replicas, snapshot)}
	var b strings.Builder
	fmt.Fprintf(&b, "defaults:\n%s  backends:\n    - {name: local, url: \"file://%s\"}\nclusters:\n",
		settings, t.TempDir())
	for i := range n {
		fmt.Fprintf(&b, "  - name: %s\n    etcd: {endpoints: [%q]}\n", manyName(i), m.fleet.URL(i))
	}
	m.config = b.String()
	return m
}

// someSnapshot returns what a small etcd sends as its snapshot.
func someSnapshot(t *testing.T) []byte {
	t.Helper()
	client := testenv.StartCluster(t, 1).Client(t)
	for i := range 100 {
		if _, err := client.Put(t.Context(), fmt.Sprintf("/registry/%03d", i), "value"); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := client.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	all, err := io.ReadAll(stream)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func manyName(i int) string { return fmt.Sprintf("c%05d", i) }

// start starts a replica. It returns how long it took until the service said that it is ready.
func (m *many) start(t *testing.T, node string) (*service, time.Duration) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "snapshotd.yaml")
	doc := fmt.Sprintf("data_dir: %s\nnode_name: %s\n%s", t.TempDir(), node, m.config)
	if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	s := start(t, options{}, "--config", file)
	return s, time.Since(begin)
}

// leads returns how many clusters a replica leads.
func (s *service) leads() (n int) {
	for name, v := range s.scrape() {
		if strings.HasPrefix(name, "snapshotd_leader{") && v == 1 {
			n++
		}
	}
	return n
}

// leaders returns how many clusters have a leader, and of which replica, by the catalogs: asking the replicas for their
// metrics would be work of theirs.
func (m *many) leaders(t *testing.T) (all int, of map[string]int) {
	t.Helper()
	of = m.fleet.Leaders(t)
	for _, n := range of {
		all += n
	}
	return all, of
}

// connections returns how many connections to the etcds are open.
func (m *many) connections(t *testing.T) (n int) {
	t.Helper()
	for _, port := range m.fleet.Ports() {
		n += connections(t, fmt.Sprintf("127.0.0.1:%d", port))
	}
	return n
}

// connections returns how many connections to an address are open.
func connections(t *testing.T, endpoint string) int {
	t.Helper()
	_, port, err := net.SplitHostPort(strings.TrimPrefix(endpoint, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			fields := strings.Fields(lines.Text())
			if len(fields) > 3 && strings.HasSuffix(fields[2], fmt.Sprintf(":%04X", number)) && fields[3] == "01" {
				n++
			}
		}
		_ = f.Close()
	}
	return n
}

// TestClustersCostTheSameEach compares a service of some clusters with one of twice as many: each further cluster has
// one connection, and the same few goroutines.
func TestClustersCostTheSameEach(t *testing.T) {
	for _, n := range []int{20, 40} {
		m := newMany(t, n, 1, "")
		s, _ := m.start(t, "node-1")
		eventually(t, "the service leads all clusters", func() bool { return s.leads() == n })
		// A connection that one question needs is closed after it.
		eventually(t, "each cluster has one connection", func() bool { return m.connections(t) == n })
		var got float64
		eventually(t, "no more goroutines are left than clusters at rest need", func() bool {
			got = s.scrape()["go_goroutines"]
			return got <= float64(goroutines+goroutinesEach*n)
		})
		t.Logf("%d clusters: %v goroutines", n, got)
		s.kill()
	}
}

// How many goroutines a service may have while nothing happens, and each of its clusters.
const (
	goroutines     = 60
	goroutinesEach = 7
)

// TestBenchClusters measures a service of SNAPSHOTD_CLUSTERS clusters (docs/performance.md), and as many replicas as
// SNAPSHOTD_REPLICAS says.
func TestBenchClusters(t *testing.T) {
	n, replicas := int(envInt(t, "SNAPSHOTD_CLUSTERS", 0)), int(envInt(t, "SNAPSHOTD_REPLICAS", 1))
	minutes := envInt(t, "SNAPSHOTD_MINUTES", 6)
	if n == 0 {
		t.Skip("SNAPSHOTD_CLUSTERS is not set: this is a measurement")
	}
	m := newMany(t, n, replicas, os.Getenv("SNAPSHOTD_SETTINGS"))
	var all []*service
	for i := range replicas {
		s, ready := m.start(t, nodeName(i))
		all = append(all, s)
		t.Logf("replica %d: ready after %.1f s, RssAnon %.1f MiB", i+1, ready.Seconds(), mib(s.rssAnon()))
	}
	begin := time.Now()
	m.wait(t, "all clusters have a leader", func(led int, _ map[string]int) bool { return led == n })
	m.wait(t, "each replica leads its share, or two thirds of it", func(_ int, of map[string]int) bool {
		for i := range replicas {
			if of[nodeName(i)] < n/replicas*2/3 {
				return false
			}
		}
		return true
	})
	if strings.Contains(m.config, "schedules:") {
		m.waitFirst(t, all)
	}
	measured := time.Now()
	asked := measured
	told := all[0].run("status").stdout
	t.Logf("status of all clusters takes %.1f s, RssAnon %.1f MiB after it; %d of them are UNKNOWN",
		time.Since(asked).Seconds(), mib(all[0].rssAnon()), strings.Count(told, "  UNKNOWN  "))
	pause := max(20*time.Second, time.Duration(n)*6*time.Millisecond)
	for end := time.Now().Add(time.Duration(minutes) * time.Minute); time.Now().Before(end); time.Sleep(pause) {
		var line strings.Builder
		_, leads := m.leaders(t)
		for i, s := range all {
			resident := mib(s.rssAnon()) // before the scrape, which is garbage of the service
			asked = time.Now()
			samples := s.scrape()
			fmt.Fprintf(&line, " [RssAnon %.1f MiB, heap %.1f MiB, stacks %.1f MiB, %v goroutines, CPU %.1f s, leads %d, "+
				"waiting %v, %d samples in %.1f s]",
				resident, samples["go_memstats_heap_inuse_bytes"]/(1<<20), samples["go_memstats_stack_inuse_bytes"]/(1<<20),
				samples["go_goroutines"], samples["process_cpu_seconds_total"], leads[nodeName(i)],
				samples[`snapshotd_jobs_waiting{job="save"}`], len(samples), time.Since(asked).Seconds())
		}
		t.Logf("%3.0f s: load %s, %d connections%s", time.Since(begin).Seconds(), loadAverage(), m.connections(t),
			line.String())
	}
	// Those of the last minute may still be under way.
	if late, missing := lateness(t, all, measured, time.Now().Add(-time.Minute)); len(late)+missing > 0 {
		t.Logf("%d scheduled saves; ended after their time: median %.1f s, p99 %.1f s, most %.1f s; %d more have not ended",
			len(late), percentile(late, 50).Seconds(), percentile(late, 99).Seconds(), percentile(late, 100).Seconds(), missing)
	}
}

// wait waits until the leaders are as they should be, and logs how long that takes.
func (m *many) wait(t *testing.T, what string, done func(led int, of map[string]int) bool) {
	t.Helper()
	begin := time.Now()
	for {
		led, of := m.leaders(t)
		if done(led, of) {
			t.Logf("%s after %.1f s: %v", what, time.Since(begin).Seconds(), of)
			return
		}
		if time.Since(begin) > waitTimeout*10 {
			t.Fatalf("%s is not so after %s: %d of %d clusters have a leader, by replica %v",
				what, waitTimeout*10, led, m.n, of)
		}
		time.Sleep(3 * time.Second)
	}
}

// waitFirst waits until each cluster has its first snapshot, by the logs.
func (m *many) waitFirst(t *testing.T, all []*service) {
	t.Helper()
	begin := time.Now()
	for {
		saved := map[string]bool{}
		for _, s := range all {
			for _, l := range s.savesLogged(t) {
				if l.Msg == savedLine {
					saved[l.Cluster] = true
				}
			}
		}
		if len(saved) == m.n {
			t.Logf("all clusters have a first snapshot after %.1f s more", time.Since(begin).Seconds())
			return
		}
		if time.Since(begin) > waitTimeout*10 {
			t.Fatalf("%d of %d clusters have a snapshot after %s", len(saved), m.n, waitTimeout*10)
		}
		time.Sleep(5 * time.Second)
	}
}

func nodeName(i int) string { return fmt.Sprintf("node-%d", i+1) }

// loadAverage returns the load of the machine in the last minute, as the system tells it.
func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(b), " ")
	return first
}

// lateness returns how long after their time the scheduled saves had ended that were due in a span of time, in order, and
// how many of them no snapshot has followed.
func lateness(t *testing.T, all []*service, from, until time.Time) (late []time.Duration, missing int) {
	t.Helper()
	type run struct {
		cluster string
		due     time.Time
	}
	due, saved := map[run]bool{}, map[string][]time.Time{}
	for _, s := range all {
		for _, l := range s.savesLogged(t) {
			switch {
			case l.Msg == savedLine:
				saved[l.Cluster] = append(saved[l.Cluster], l.Time)
			case l.At.After(from) && l.At.Before(until):
				due[run{l.Cluster, l.At}] = true
			}
		}
	}
	for r := range due {
		ends := saved[r.cluster]
		slices.SortFunc(ends, time.Time.Compare)
		i, _ := slices.BinarySearchFunc(ends, r.due, time.Time.Compare)
		if i == len(ends) {
			missing++
			continue
		}
		late = append(late, ends[i].Sub(r.due))
	}
	slices.Sort(late)
	return late, missing
}

// percentile returns one; 0 when there is none.
func percentile(sorted []time.Duration, percent int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)-1)*percent/100]
}

// The lines of the log that tell of saves.
const (
	savedLine = "snapshot saved"
	dueLine   = "next scheduled save"
)

// saveLine is one of them.
type saveLine struct {
	Time, At     time.Time
	Msg, Cluster string
}

// savesLogged returns what the log tells of saves.
func (s *service) savesLogged(t *testing.T) (lines []saveLine) {
	t.Helper()
	for line := range strings.Lines(s.log.String()) {
		if !strings.Contains(line, savedLine) && !strings.Contains(line, dueLine) {
			continue
		}
		var l saveLine
		decode(t, line, &l)
		lines = append(lines, l)
	}
	return lines
}
