//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// following is a service that follows clusters, each of them with a backend of its own.
type following struct {
	t        *testing.T
	file     string // the configuration
	options  options
	serve    *service
	clusters []*written
}

// written is a cluster that is changed, one key at each revision.
type written struct {
	t         *testing.T
	name, url string // of its backend
	etcd      *testenv.Cluster
	env       []string // of commands that read the backend
	client    *clientv3.Client
	values    map[int64]string // by their revisions
	last      int64            // the newest of these
	safe      int64            // journaled, before the fault
	durable   int64            // on the disk of the service, as its metric says
	compacted int64
	window    window
	metrics   map[string]float64
}

// follow starts a service with a data directory, which follows clusters that are stored in directories, and waits until the
// changes so far are there.
func follow(t *testing.T, data string, names ...string) *following {
	t.Helper()
	urls := map[string]string{}
	for _, name := range names {
		urls[name] = "file://" + t.TempDir()
	}
	return followTo(t, data, urls, options{})
}

// followTo does so with the URLs of backends, by the names of the clusters.
func followTo(t *testing.T, data string, urls map[string]string, o options) *following {
	t.Helper()
	f := &following{t: t, options: o}
	doc := fmt.Sprintf("data_dir: %s\nnode_name: node-1\nclusters:\n", data)
	for name, url := range urls {
		c := &written{t: t, name: name, url: url, env: o.env, etcd: testenv.StartCluster(t, 1), values: map[int64]string{}}
		c.client = c.etcd.Client(t)
		f.clusters = append(f.clusters, c)
		doc += fmt.Sprintf("  - {name: %s, etcd: {endpoints: [%q]}, lock_ttl: 3s, journal: {enabled: true, upload_interval: 1s}, "+
			"backends: [{name: store, url: %q}]}\n", name, c.etcd.Endpoints()[0], url)
		c.put("first", 10)
	}
	f.file = filepath.Join(t.TempDir(), "snapshotd.yaml")
	if err := os.WriteFile(f.file, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	f.serve = start(t, o, "--config", f.file)
	f.goesOn()
	for _, c := range f.clusters {
		c.safe = c.last
	}
	return f
}

func (f *following) cluster(name string) *written {
	return f.clusters[slices.IndexFunc(f.clusters, func(c *written) bool { return c.name == name })]
}

func (f *following) window(cluster string) (found window) {
	f.t.Helper()
	decode(f.t, f.serve.windowJSON("--cluster", cluster), &found)
	return found
}

// goesOn changes all clusters, and waits until the changes are on the backends and can be restored. It keeps what is said of
// them then.
func (f *following) goesOn() {
	f.t.Helper()
	for _, c := range f.clusters {
		eventually(f.t, "the journal of "+c.name+" goes on", func() bool {
			c.put("one more", 1) // a timeline begins with a change
			line := f.window(c.name).timeline("")
			return len(line.Ranges) > 0 && line.Ranges[0].RestorableFromRevision > 0
		})
		c.put("more", 20)
		eventually(f.t, "the changes of "+c.name+" are on the backend", func() bool {
			c.window = f.window(c.name)
			return c.window.timeline("").last() >= c.last
		})
		c.metrics = f.serve.scrape()
	}
}

// nothingLost checks that the journal of a cluster has all of its history: it leads to the newest revision, which has all of
// the values.
func (f *following) nothingLost(name string) {
	f.t.Helper()
	c := f.cluster(name)
	if w := c.window.Window; len(w.Timelines) != 1 || len(w.Timelines[0].Ranges) != 1 || len(w.Gaps)+len(w.Unread) > 0 {
		f.t.Errorf("etcd has the history of %s, and the window is %+v", name, w)
	}
	if n := gaps(c.metrics, name); n != 0 {
		f.t.Errorf("etcd has the history of %s, and %v gaps are counted", name, n)
	}
	c.restored(c.last, c.compacted)
}

// gap checks that what etcd has forgotten of a cluster, and nothing else, is a gap for a reason, and cannot be restored.
func (f *following) gap(name, reason string) {
	f.t.Helper()
	c := f.cluster(name)
	w := c.window.Window
	if len(w.Timelines) != 2 || len(w.Gaps) != 1 {
		f.t.Fatalf("etcd has forgotten what was put into %s, and the window is %+v", name, w)
	}
	gap, end := w.Gaps[0], w.Timelines[0].Ranges[0].LastRevision
	if gap.AfterRevision != end || end < c.safe || gap.BeforeRevision != c.compacted || !strings.HasPrefix(gap.Reason, reason) {
		f.t.Errorf("the journal of %s ended at revision %d, with %d before the fault, and etcd was compacted up to %d; the gap is %+v",
			name, end, c.safe, c.compacted, gap)
	}
	if n := gaps(c.metrics, name); n != 1 {
		f.t.Errorf("%v gaps of %s are counted", n, name)
	}
	c.restored(end, 1)
	c.restored(c.last, c.compacted)
	for _, revision := range []int64{gap.AfterRevision + 1, gap.BeforeRevision - 1} {
		args := c.args(revision)
		r := c.run(args...)
		for _, want := range []int64{revision, gap.AfterRevision} {
			if r.code == 0 || !regexp.MustCompile(fmt.Sprintf(`\brevisions? [^/]*\b%d\b`, want)).MatchString(r.stderr) {
				f.t.Errorf("snapshotd %v: exit code %d, does not name %d\n%s%s", args, r.code, want, r.stdout, r.stderr)
			}
		}
	}
}

// gaps returns how many gaps of a cluster are counted.
func gaps(metrics map[string]float64, cluster string) (n float64) {
	for name, value := range metrics {
		if strings.HasPrefix(name, "snapshotd_journal_gaps_total{") && strings.Contains(name, fmt.Sprintf("cluster=%q", cluster)) {
			n += value
		}
	}
	return n
}

// put changes a key some times.
func (c *written) put(value string, n int) {
	c.t.Helper()
	for range n {
		value := fmt.Sprint(len(c.values), " ", value)
		resp, err := c.client.Put(c.t.Context(), "/paused", value)
		if err != nil {
			c.t.Fatal(err)
		}
		c.last = resp.Header.Revision
		c.values[c.last] = value
	}
}

func (c *written) leases() int {
	c.t.Helper()
	resp, err := c.client.Leases(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	return len(resp.Leases)
}

func (c *written) compact() {
	c.t.Helper()
	c.compacted = c.last
	if _, err := c.client.Compact(c.t.Context(), c.compacted, clientv3.WithCompactPhysical()); err != nil {
		c.t.Fatal(err)
	}
}

// run runs the program.
func (c *written) run(args ...string) result {
	c.t.Helper()
	script := append([]string{"-c", `exec env "$@"`, "sh"}, c.env...)
	return command(c.t.Context(), c.t, "sh", append(append(script, program(c.t, "")), args...)...)
}

// args are those of a restore of a revision. The data directory is the last one.
func (c *written) args(revision int64) []string {
	return []string{"restore", "--revision", fmt.Sprint(revision), "--from", c.url, "--cluster", c.name,
		"--data-dir", filepath.Join(c.t.TempDir(), "etcd")}
}

// restored restores a revision, and compares all values of its history from a revision on.
func (c *written) restored(revision, from int64) {
	c.t.Helper()
	args := c.args(revision)
	r := c.run(args...)
	if r.code != 0 {
		c.t.Errorf("snapshotd %v: exit code %d\n%s%s", args, r.code, r.stdout, r.stderr)
		return
	}
	client := testenv.StartRestored(c.t, args[len(args)-1]).Client(c.t)
	ctx, cancel := context.WithTimeout(c.t.Context(), waitTimeout)
	defer cancel()
	compared := 0
	for at, want := range c.values {
		if at < from || at > revision {
			continue
		}
		resp, err := client.Get(ctx, "/paused", clientv3.WithRev(at))
		if err != nil || len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != want || resp.Kvs[0].ModRevision != at {
			c.t.Errorf("%s, restored to revision %d: revision %d is %.200v, %v; want %.40q", c.name, revision, at, resp, err, want)
		}
		compared++
	}
	if compared == 0 {
		c.t.Errorf("%s, restored to revision %d: nothing was compared", c.name, revision)
	}
}
