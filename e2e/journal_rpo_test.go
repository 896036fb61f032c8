//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// What a journal with its default intervals promises: so old may be what is lost with the process, and with its machine.
const (
	promisedLocal  = time.Second
	promisedStored = 10 * time.Second
)

// Deaths of a service.
const (
	processDies    = "the process"                                       // killed and started again
	compactedAfter = "the process, and etcd compacts before it is back"  // so that its disk alone has the last changes
	machineDies    = "the machine, etcd on it: restored from the bucket" // nothing but the bucket is left
)

// deathsOfACluster is how many deaths one cluster sees, one after the other: what a restore leaves is journaled, too.
const deathsOfACluster = 6

// TestRecoveryPoint kills services that follow a cluster, or loses their machines, at random moments while the cluster is
// written to. The newest revision that can be restored then has all that was acknowledged 1 s (10 s) before, and all that
// the metric said was safe.
//
// SNAPSHOTD_RPO_DEATHS is how often (12 by default, half of them machines), SNAPSHOTD_RPO_SEED the first seed, and
// SNAPSHOTD_RPO_SLACK is added to what is promised, for machines that are too busy to keep a promise about time; the
// promise of the metric is held without it.
func TestRecoveryPoint(t *testing.T) {
	deaths := int(envInt(t, "SNAPSHOTD_RPO_DEATHS", 12))
	seed := uint64(envInt(t, "SNAPSHOTD_RPO_SEED", time.Now().Unix()%1_000_000))
	slack := envDuration(t, "SNAPSHOTD_RPO_SLACK")
	program(t, "")
	found := &losses{of: map[string][]loss{}}
	t.Run("clusters", func(t *testing.T) {
		for first := 0; first < deaths; first += deathsOfACluster {
			seed := seed + uint64(first/deathsOfACluster)
			t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
				t.Parallel()
				m := newMortal(t, seed)
				m.slack, m.found = slack, found
				kinds := []string{compactedAfter, machineDies, processDies, machineDies, compactedAfter, machineDies}
				m.chance.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
				for _, kind := range kinds[:min(len(kinds), deaths-first)] {
					m.die(kind)
				}
			})
		}
	})
	t.Log("\n" + found.String())
}

// mortal is a cluster that is written to, its bucket, and the service that follows it and dies.
type mortal struct {
	*world
	t      *testing.T
	chance *rand.Rand
	slack  time.Duration
	found  *losses

	data   string // of the service
	serve  *service
	line   string    // the timeline
	since  time.Time // the service had caught up
	writer *writer
	deaths int
}

func newMortal(t *testing.T, seed uint64) *mortal {
	t.Helper()
	m := &mortal{
		world: &world{etcd: testenv.StartCluster(t, 1), s3: testenv.StartS3(t), bucket: "snapshots"}, t: t,
		chance: rand.New(rand.NewPCG(seed, 5)), data: t.TempDir(), writer: &writer{unsure: map[string][]string{}},
	}
	m.s3.MakeBucket(m.bucket)
	m.writer.begin(t, m.etcd)
	m.live()
	return m
}

// live starts the service, and waits until it has caught up, and has the snapshot of a new timeline.
func (m *mortal) live() {
	m.t.Helper()
	file := journaled(m.t, m.data, m.etcd.Endpoints(), map[string]string{"s3": m.s3URL("")}, "lock_ttl: 3s", "journal: {enabled: true}")
	m.serve = start(m.t, m.options(), "--config", file)
	m.serve.follows(m.writer.newest().revision)
	m.since = time.Now()
	if name := m.serve.begun(); name != "" {
		m.line = name
	}
}

func (m *mortal) die(kind string) {
	m.t.Helper()
	m.deaths++
	most, backend := 2500*time.Millisecond, ""
	if kind == machineDies {
		most, backend = promisedStored+2*time.Second, "s3"
	}
	time.Sleep(time.Duration(m.chance.Int64N(int64(most)))) // the moment is random, and not waited for
	var asked time.Time
	var age time.Duration
	eventually(m.t, "the service says how much would be lost", func() (ok bool) {
		asked = time.Now()
		age, ok = m.serve.rpo(backend)
		return ok
	})
	if name := m.serve.begun(); name != "" {
		m.line = name // it may have begun another one since
	}
	d := &death{kind: kind, safe: asked.Add(-age), at: time.Now(), says: age}
	m.serve.kill()
	if kind == machineDies {
		m.loseMachine(d)
	} else {
		m.loseProcess(d)
	}
}

// death is one of them: when it was, and what was known just before.
type death struct {
	kind string
	safe time.Time // all that was acknowledged before is safe, the metric said
	says time.Duration
	at   time.Time
}

// loseProcess starts the service again, on its disk.
func (m *mortal) loseProcess(d *death) {
	m.t.Helper()
	line := m.line
	if d.kind == compactedAfter {
		m.compacts()
	}
	m.live()
	wanted := m.writer.before(d.safe).revision
	if d.kind == processDies {
		wanted = m.writer.newest().revision // etcd has what was not on the disk
	}
	var found window
	eventually(m.t, fmt.Sprintf("the timeline %s has revision %d (%s died)", line, wanted, d.kind), func() bool {
		found = m.serve.window()
		return found.timeline(line).last() >= wanted
	})
	l := found.timeline(line)
	if len(l.Ranges) != 1 || d.kind == processDies && m.line != line {
		m.t.Errorf("after the death of %s the journal has a gap, or began anew (%s): %+v", d.kind, m.line, found.Window)
	}
	m.t.Run(fmt.Sprintf("%d restored", m.deaths), func(t *testing.T) {
		data := filepath.Join(t.TempDir(), "etcd")
		m.must(t, program(t, ""), "restore", "--revision", fmt.Sprint(l.last()), "--from", m.s3URL(""), "--data-dir", data)
		m.writer.compare(t, testenv.StartRestored(t, data), l.last())
	})
	m.judge(d, l.last(), promisedLocal)
}

// compacts makes etcd forget all that it had before.
func (m *mortal) compacts() {
	m.t.Helper()
	resp, err := m.etcd.Client(m.t).Get(m.t.Context(), "x")
	if err == nil {
		_, err = m.etcd.Client(m.t).Compact(m.t.Context(), resp.Header.Revision, clientv3.WithCompactPhysical())
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// loseMachine goes on with an etcd that is restored from the bucket, and with an empty disk.
func (m *mortal) loseMachine(d *death) {
	m.t.Helper()
	m.etcd.Kill(0)
	m.writer.end()
	for _, dir := range []string{m.data, m.etcd.DataDir(0)} {
		if err := os.RemoveAll(dir); err != nil {
			m.t.Fatal(err)
		}
	}
	m.data = m.t.TempDir()
	data := filepath.Join(m.t.TempDir(), "etcd")
	out := m.must(m.t, program(m.t, ""), "restore", "--at", "0s", "--from", m.s3URL(""), "--data-dir", data)
	revision := restoredRevision(m.t, out)
	m.etcd = testenv.StartRestored(m.t, data)
	m.writer.compare(m.t, m.etcd, revision)
	m.judge(d, revision, promisedStored)
	m.writer.forget(revision)
	m.writer.begin(m.t, m.etcd)
	m.live()
}

// judge compares what is lost, as all behind a revision was, with what was promised. What was written while no service
// followed is promised from then on.
func (m *mortal) judge(d *death, revision int64, promised time.Duration) {
	m.t.Helper()
	l := loss{says: d.says}
	for _, p := range m.writer.all() {
		if p.revision <= revision || p.acked.After(d.at) {
			continue
		}
		since := p.acked
		if since.Before(m.since) && d.kind == machineDies {
			since = m.since
		}
		l.age, l.puts = max(l.age, d.at.Sub(since)), l.puts+1
		if !p.acked.After(d.safe) {
			m.t.Errorf("%s died: revision %d is lost, which was acknowledged %s before; the metric had said that all older than %s is safe",
				d.kind, p.revision, d.at.Sub(p.acked), d.at.Sub(d.safe))
			break
		}
	}
	if l.age > promised+m.slack {
		m.t.Errorf("%s died: %s are lost, and %s are promised", d.kind, l.age, promised)
	}
	m.found.add(d.kind, l)
}

// put is a put that etcd has acknowledged.
type put struct {
	key, value string
	revision   int64
	acked      time.Time
}

// writer puts values, one after the other, and notes when each was acknowledged.
type writer struct {
	end func() // waits for the last one

	mu     sync.Mutex
	puts   []put               // in the order of their revisions
	unsure map[string][]string // values whose puts were not answered
	next   int
}

// begin writes to a cluster until end is called.
func (w *writer) begin(t *testing.T, cluster *testenv.Cluster) {
	t.Helper()
	client := cluster.Client(t)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		pace := time.NewTicker(5 * time.Millisecond)
		defer pace.Stop()
		for {
			select {
			case <-done:
				return
			case <-t.Context().Done():
				return
			case <-pace.C:
				w.put(t, client)
			}
		}
	}()
	w.end = sync.OnceFunc(func() { close(done); <-ended })
	t.Cleanup(w.end)
	eventually(t, "etcd is written to", func() bool { return w.newest().revision > 0 })
}

func (w *writer) put(t *testing.T, client *clientv3.Client) {
	ctx, cancel := contextFor(t, time.Second)
	defer cancel()
	p := put{key: fmt.Sprintf("/rpo/%03d", w.next%200), value: fmt.Sprint(w.next)}
	w.next++
	resp, err := client.Put(ctx, p.key, p.value)
	p.acked = time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.unsure[p.key] = append(w.unsure[p.key], p.value)
		return
	}
	p.revision = resp.Header.Revision
	w.puts = append(w.puts, p)
}

func (w *writer) all() []put {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.puts)
}

func (w *writer) newest() (p put) {
	if all := w.all(); len(all) > 0 {
		p = all[len(all)-1]
	}
	return p
}

// before returns the last put that was acknowledged before a time.
func (w *writer) before(at time.Time) (last put) {
	for _, p := range w.all() {
		if p.acked.Before(at) {
			last = p
		}
	}
	return last
}

// forget drops what was put behind a revision: the history goes on from there.
func (w *writer) forget(revision int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.puts = slices.DeleteFunc(w.puts, func(p put) bool { return p.revision > revision })
}

// compare checks that a cluster has exactly what was put up to a revision.
func (w *writer) compare(t *testing.T, restored *testenv.Cluster, revision int64) {
	t.Helper()
	want := map[string]put{}
	for _, p := range w.all() {
		if p.revision <= revision {
			want[p.key] = p
		}
	}
	resp, err := restored.Client(t).Get(t.Context(), "/rpo/", clientv3.WithPrefix(), clientv3.WithRev(revision))
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, kv := range resp.Kvs {
		key, value := string(kv.Key), string(kv.Value)
		p := want[key]
		delete(want, key)
		if p.revision == kv.ModRevision && p.value == value {
			continue
		}
		if kv.ModRevision < p.revision || !slices.Contains(w.unsure[key], value) {
			t.Errorf("restored to revision %d, %s is %q of revision %d; it was %q of revision %d", revision, key, value,
				kv.ModRevision, p.value, p.revision)
		}
	}
	for _, p := range want {
		t.Errorf("restored to revision %d, %s of revision %d is missing", revision, p.key, p.revision)
	}
}

// loss is how much was lost at a death.
type loss struct {
	age  time.Duration // of the oldest put that was lost
	says time.Duration // how old it could be, the metric said
	puts int
}

// losses are those of all deaths.
type losses struct {
	mu sync.Mutex
	of map[string][]loss
}

func (l *losses) add(kind string, one loss) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of[kind] = append(l.of[kind], one)
}

// String is a table in Markdown.
func (l *losses) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out strings.Builder
	fmt.Fprintln(&out, "| lost | times | median | p90 | most | the metric said at most |\n|---|---|---|---|---|---|")
	for _, kind := range []string{processDies, compactedAfter, machineDies} {
		all := l.of[kind]
		if len(all) == 0 {
			continue
		}
		slices.SortFunc(all, func(a, b loss) int { return int(a.age - b.age) })
		says := slices.MaxFunc(all, func(a, b loss) int { return int(a.says - b.says) }).says
		at := func(share int) time.Duration { return all[(len(all)-1)*share/100].age.Round(10 * time.Millisecond) }
		fmt.Fprintf(&out, "| %s | %d | %s | %s | %s | %s |\n", kind, len(all), at(50), at(90), at(100), says.Round(10*time.Millisecond))
	}
	return out.String()
}
