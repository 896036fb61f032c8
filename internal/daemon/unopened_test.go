package daemon

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	"github.com/snapshotd/snapshotd/snapshot"
)

// wholeMetric says whether the last change of the configuration was applied as a whole.
const wholeMetric = "snapshotd_config_last_reload_successful"

// reloading is a service without its loops, whose configuration is looked at when the test says so.
type reloading struct {
	*journaled
	s *Service
	r *reloader
	t *testing.T
}

func newReloading(t *testing.T) *reloading {
	t.Helper()
	w := &reloading{journaled: newJournaled(t, embedded.StartEtcd(t)), t: t}
	w.change("", "")
	w.s = w.open(t)
	w.r = newReloader(w.s)
	return w
}

// change writes a configuration: of the first cluster more than it needs, and the name of a second one, with more.
func (w *reloading) change(first, second string) {
	w.t.Helper()
	backends := fmt.Sprintf("backends: [{name: local, url: \"file://%s\"}]", w.backend)
	clusters := fmt.Sprintf("clusters:\n  - {name: first, etcd: {endpoints: [%[1]q]%[2]s}, %[3]s}\n", w.etcd, first, backends)
	if second != "" {
		clusters += fmt.Sprintf("  - {name: second, etcd: {endpoints: [%[1]q]%[2]s}, %[3]s}\n", w.etcd, second, backends)
	}
	w.write(w.t, clusters)
}

// look looks at the configuration several times, and compares what the metric says then.
func (w *reloading) look(ctx context.Context, whole string) {
	w.t.Helper()
	for range 3 {
		w.r.look(ctx)
		if got := metric(w.s.telemetry, wholeMetric); got != whole {
			w.t.Fatalf("%s is %s, want %s; the log is\n%s", wholeMetric, got, whole, w.log.String())
		}
	}
}

// has compares how often the log has a text.
func (w *reloading) has(text string, want int) {
	w.t.Helper()
	if got := w.log.count(text); got != want {
		w.t.Fatalf("the log has %s %d times, want %d:\n%s", text, got, want, w.log.String())
	}
}

// In Kubernetes a configuration often comes a minute before the files that it names.
func TestAClusterThatCannotBeOpenedIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := newReloading(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer func() {
		cancel()
		w.s.close(context.WithoutCancel(ctx))
	}()
	if got := metric(w.s.telemetry, wholeMetric); got != "1" {
		t.Errorf("at the start, %s is %q", wholeMetric, got)
	}
	first, file := w.s.clusters[0], filepath.Join(t.TempDir(), "password")
	secret := fmt.Sprintf(", user: root, password_file: %q", file)
	w.change(secret, secret)
	w.look(ctx, "0")
	w.has(`"cluster not changed yet; it stays as it was, and is tried again" cluster=first`, 1)
	w.has(`"cluster not added yet; it is tried again" cluster=second`, 1)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.look(ctx, "0") // it is empty, which is another reason
	w.has(`"cluster not added yet; it is tried again" cluster=second`, 2)
	w.r.ask(ctx) // who asks is told again
	w.has(`"cluster not added yet; it is tried again" cluster=second`, 3)
	if err := os.WriteFile(file, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.look(ctx, "1")
	w.has(`"cluster is in effect" cluster=second`, 1)
	if first.successor.Load() != w.s.clusters[0] {
		t.Error("the first cluster does not know its successor, to which its last saves leave what they keep")
	}
	eventually(t, "the first cluster is changed", func() bool { return w.log.count(`"cluster is in effect" cluster=first`) == 1 })
}

// Who looks at the status finds a cluster that is configured, whatever has become of it.
func TestAClusterThatCannotBeOpenedIsShown(t *testing.T) {
	t.Parallel()
	w := &reloading{journaled: newJournaled(t, embedded.StartEtcd(t)), t: t}
	w.change("", "")
	w.s = w.serve(t)
	file := filepath.Join(t.TempDir(), "password")
	secret := fmt.Sprintf(", user: root, password_file: %q", file)
	ask := func(method, path, body string) string {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+w.s.HTTPAddr()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		answer, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(answer)
	}
	cluster := func(name string) string { return ask(http.MethodGet, "/v1/clusters/"+name, "") }
	// In these orders the answers and the metrics have their words.
	says := func(text string, words ...string) bool {
		return regexp.MustCompile("(?s)" + strings.Join(words, ".*")).MatchString(text)
	}
	w.change(secret, secret)
	w.reload <- syscall.SIGHUP
	eventually(t, "both clusters are shown as they are", func() bool {
		return says(cluster("second"), "VERDICT_UNKNOWN", "could not open the cluster", file, "file://") &&
			says(cluster("first"), "has changed, and the earlier one stays in effect", file)
	})
	if got := ask(http.MethodGet, "/v1/clusters", ""); !says(got, `"first"`, `"second"`) {
		t.Errorf("the clusters are %s", got)
	}
	if got := ask(http.MethodPost, "/v1/clusters/second/snapshots:save", "{}"); !says(got, file, "CLUSTER_NOT_OPEN") {
		t.Errorf("a save answers %s", got)
	}
	verdict := `snapshotd_cluster_verdict{cluster="second",verdict="unknown"}`
	eventually(t, "the metric has the verdict", func() bool { return metric(w.s.telemetry, verdict) == "1" })
	if err := os.WriteFile(file, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.reload <- syscall.SIGHUP
	eventually(t, "both clusters are in effect", func() bool {
		return !says(cluster("second"), "could not open") &&
			!says(cluster("first"), "stays in effect")
	})
	w.change("", ", user: root, password_file: /nowhere/password")
	w.reload <- syscall.SIGHUP
	eventually(t, "the change is not in effect", func() bool {
		return says(cluster("second"), "stays in effect", "/nowhere/password")
	})
	w.change("", "")
	w.reload <- syscall.SIGHUP
	eventually(t, "the cluster is gone", func() bool {
		return says(cluster("second"), "CLUSTER_NOT_FOUND") && metric(w.s.telemetry, verdict) == ""
	})
}

// begin starts the loops, as [Service.Run] does.
func (w *reloading) begin(ctx context.Context) {
	for _, c := range w.s.clusters {
		ctx, stop := context.WithCancel(ctx)
		c.stop = stop
		c.run(ctx, nil)
	}
}

// are compares the names of the clusters that are served.
func (w *reloading) are(names ...string) {
	w.t.Helper()
	var got []string
	for _, c := range w.s.clusters {
		got = append(got, c.Name())
	}
	if slices.Sort(got); !slices.Equal(got, names) {
		w.t.Fatalf("the clusters are %q, want %q; the log is\n%s", got, names, w.log.String())
	}
}

// A cluster that is renamed goes when the new one can be opened, and not before: nothing else saves its etcd.
func TestAClusterWhoseSuccessorCannotBeOpenedGoesOn(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "password")
	for what, test := range map[string]struct {
		before, between, after []string // names of clusters
		etcd                   string   // of the last of them; that of the others when it is empty
	}{
		"the only one":                {[]string{"first"}, []string{"first"}, []string{"renamed"}, ""},
		"one of two":                  {[]string{"first", "second"}, []string{"first", "second"}, []string{"second", "renamed"}, ""},
		"all, by one of another etcd": {[]string{"first"}, []string{"first"}, []string{"renamed"}, "http://127.0.0.1:1"},
	} {
		t.Run(what, func(t *testing.T) {
			w := newReloading(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer func() {
				cancel()
				w.s.close(context.WithoutCancel(ctx))
			}()
			_ = os.Remove(file)
			configure := func(names []string) {
				doc := "clusters:\n"
				for _, name := range names {
					etcd, more := w.etcd, ""
					if name == "renamed" {
						etcd, more = cmp.Or(test.etcd, w.etcd), fmt.Sprintf(", user: root, password_file: %q", file)
					}
					doc += fmt.Sprintf("  - {name: %s, etcd: {endpoints: [%q]%s}, backends: [{name: local, url: \"file://%s\"}]}\n",
						name, etcd, more, w.backend)
				}
				w.write(t, doc)
			}
			w.begin(ctx)
			configure(test.before)
			w.look(ctx, "1")
			first := w.s.clusters[0]
			leads := func() bool { return metric(w.s.telemetry, `snapshotd_leader{cluster="first"}`) == "1" }
			eventually(t, "the first cluster is led", leads)

			configure(test.after)
			w.look(ctx, "0")
			w.are(test.between...)
			w.has(`"cluster not added yet; it is tried again" cluster=renamed`, 1)
			if got := metric(w.s.telemetry, `snapshotd_cluster_verdict{cluster="renamed",verdict="unknown"}`); got != "1" {
				t.Errorf("the verdict on the cluster that cannot be opened is %q", got)
			}
			if !leads() {
				t.Error("the first cluster is not led any more")
			}
			if res, err := first.Save(ctx, cluster.SaveRequest{}); err != nil || res.Snapshot.State() != snapshot.StateReady {
				t.Errorf("the first cluster is saved: %+v, %v", res.Snapshot, err)
			}

			if err := os.WriteFile(file, []byte("secret"), 0o600); err != nil {
				t.Fatal(err)
			}
			w.look(ctx, "1")
			slices.Sort(test.after)
			w.are(test.after...)
			eventually(t, "the new name is in effect", func() bool { return w.log.count(`"cluster is in effect" cluster=renamed`) == 1 })
			<-first.ended
			if c := first.successor.Load(); c != nil {
				t.Errorf("%s has taken its place", c.Name())
			}
		})
	}
}

// What no backend took of a cluster that was renamed or removed may be the last copy, and nothing delivers it.
func TestWhatIsKeptOfAClusterThatIsNotConfiguredIsToldOnce(t *testing.T) {
	t.Parallel()
	w := &reloading{journaled: newJournaled(t, embedded.StartEtcd(t)), t: t}
	keep := func(cluster, prefix string, suffixes ...string) {
		dir := filepath.Join(w.dataDir, "kept", cluster, prefix)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, suffix := range suffixes {
			if err := os.WriteFile(filepath.Join(dir, "etcd-snapshot-node-1-1700000000"+suffix), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	keep("first", "first", ".db.zst", ".json")
	keep("gone", "gone", ".db.zst", ".json")
	keep("bare", "", ".db.zst", ".json")
	keep("half", "half", ".db.zst")
	w.change("", "")
	w.s = w.open(t)
	w.r = newReloader(w.s)
	defer func() { w.s.close(context.WithoutCancel(t.Context())) }()
	const told = `"snapshots are kept of a cluster that is not configured`
	w.has(told, 2)
	for cluster, prefix := range map[string]string{"gone": "gone/", "bare": ""} {
		dir := filepath.Join(w.dataDir, "kept", cluster)
		w.has(fmt.Sprintf("cluster=%[1]s dir=%[2]s restore=\"snapshotd restore latest --from file://%[2]s --cluster %[1]s --prefix '%[3]s' --data-dir DIR\"",
			cluster, dir, prefix), 1)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.change("", ", user: root, password: secret")
	w.look(ctx, "1")
	w.has(told, 2)
	keep("second", "second", ".db.zst", ".json")
	w.change("", "")
	w.look(ctx, "1")
	w.has(told, 3)
	w.has("cluster=second dir=", 1)
}

// A cluster that is not wanted any more is tried no more, and a wrong file is told of until it is right.
func TestTheMetricTellsOfAConfigurationThatIsNotInEffect(t *testing.T) {
	t.Parallel()
	w := newReloading(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer func() {
		cancel()
		w.s.close(context.WithoutCancel(ctx))
	}()
	w.change("", ", user: root, password_file: /nowhere/password")
	w.look(ctx, "0")
	w.change("", "")
	w.look(ctx, "1")
	w.change(", nonsense: 1", "")
	w.look(ctx, "0")
	w.has(`"configuration has changed and is wrong`, 1)
	w.change("", "")
	w.look(ctx, "1")
	w.has(`"cluster is in effect"`, 0)
}

// Rules that were taken back and come again are as wrong as before, and that is told again.
func TestRulesThatCannotBeAppliedAreToldEachTimeTheyCome(t *testing.T) {
	t.Parallel()
	w := newReloading(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer func() {
		cancel()
		w.s.close(context.WithoutCancel(ctx))
	}()
	rules := fmt.Sprintf("access: {tokens_file: %q, rules: [{role: admin, tokens: [a]}]}\n", filepath.Join(t.TempDir(), "gone"))
	clusters := fmt.Sprintf("clusters: [{name: first, etcd: {endpoints: [%q]}, backends: [{name: local, url: \"file://%s\"}]}]\n",
		w.etcd, w.backend)
	for times := 1; times <= 2; times++ {
		w.write(t, rules+clusters)
		w.look(ctx, "0")
		w.has(`"rules of access not applied yet`, times)
		w.write(t, clusters)
		w.look(ctx, "1")
	}
}
