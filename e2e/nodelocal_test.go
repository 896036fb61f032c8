//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// localFleet is three replicas, each with a directory of its own, and one etcd and catalog.
type localFleet struct {
	*world
	t     *testing.T
	nodes []string
	dirs  map[string]string
	serve map[string]*service
}

// TestEachServerHasADirectoryOfItsOwn runs three replicas of one configuration, each with a local directory and no
// shared backend. Each saves, reconciles and prunes its own directory; one of them dies, is retired, and comes back.
// Nothing is lost meanwhile, and no replica says of another one's copies that they are gone.
func TestEachServerHasADirectoryOfItsOwn(t *testing.T) {
	f := newLocalFleet(t)
	names := map[string][]string{}
	for range 2 {
		for _, node := range f.nodes {
			names[node] = append(names[node], f.serve[node].save())
		}
	}
	f.truthful(names)
	f.sendsElsewhere(names["s1"][0])

	// The replica of s3 dies. The others go on, and leave what it had alone.
	f.serve["s3"].kill()
	f.truthful(names)
	names["s2"] = append(names["s2"], f.serve["s2"].save())
	f.serve["s2"].must("prune") // keep_last is 2, and prune asks nobody
	f.expectGone(names["s2"][0])
	names["s2"] = names["s2"][1:]
	f.truthful(names)

	// A snapshot is pinned by another replica than its own, and then by its own: only that one writes its manifest.
	pinned := names["s1"][0]
	if r := f.serve["s2"].run("update", pinned, "--pin"); r.code == 0 || !strings.Contains(r.stderr, "only the replica of node s1 can reach local@s1") {
		t.Errorf("update on s2: exit code %d: %s", r.code, r.stderr)
	}
	f.serve["s1"].must("update", pinned, "--pin")
	f.serve["s1"].must("verify", pinned, "--level", "checksum")

	// A snapshot is deleted by its own replica.
	f.serve["s2"].must("delete", names["s2"][0])
	f.expectGone(names["s2"][0])
	names["s2"] = names["s2"][1:]

	// s3 is given up, and was alive after all.
	dry := f.serve["s1"].must("reconcile", "--retire-node", "s3", "--dry-run")
	f.truthful(names)
	if !strings.Contains(dry, "local@s3") {
		t.Errorf("the dry run says\n%s", dry)
	}
	f.serve["s1"].must("reconcile", "--retire-node", "s3")
	for _, name := range names["s3"] {
		f.expectGone(name)
	}
	f.start("s3")
	eventually(t, "the snapshots of s3 are taken in again", func() bool {
		_, there := f.serve["s1"].locations()[names["s3"][0]]
		return there
	})
	f.truthful(names)
}

func newLocalFleet(t *testing.T) *localFleet {
	f := &localFleet{
		world: newWorld(t, 1<<20), t: t, nodes: []string{"s1", "s2", "s3"}, dirs: map[string]string{}, serve: map[string]*service{},
	}
	for _, node := range f.nodes {
		f.dirs[node] = t.TempDir()
		f.start(node)
	}
	return f
}

// start starts the replica of a node.
func (f *localFleet) start(node string) {
	f.t.Helper()
	doc := fmt.Sprintf(`
data_dir: %s
node_name: %s
reconcile_interval: 5s
clusters:
  - name: default
    etcd: {endpoints: [%s]}
    lock_ttl: 2s
    retention: {keep_last: 2, on_demand: true}
    backends:
      - {name: local, url: "file://%s", node_local: true}
`, f.t.TempDir(), node, f.etcd.Endpoints()[0], f.dirs[node])
	config := filepath.Join(f.t.TempDir(), "snapshotd.yaml")
	if err := os.WriteFile(config, []byte(doc), 0o600); err != nil {
		f.t.Fatal(err)
	}
	f.serve[node] = start(f.t, options{}, "--config", config)
}

// alive returns the replicas that run.
func (f *localFleet) alive() map[string]*service {
	alive := map[string]*service{}
	for node, s := range f.serve {
		select {
		case <-s.done:
		default:
			alive[node] = s
		}
	}
	return alive
}

// truthful lets every living replica reconcile, and checks that each of them shows every snapshot where it is, that
// the files are there, and that its own replica can download and verify one.
func (f *localFleet) truthful(names map[string][]string) {
	f.t.Helper()
	for node, s := range f.alive() {
		if out := s.must("reconcile"); strings.Contains(out, "local@") && !strings.Contains(out, "local@"+node) {
			f.t.Errorf("the replica of %s has reconciled\n%s", node, out)
		}
	}
	for asked, s := range f.alive() {
		shown := map[string]snap{}
		for _, sn := range s.list() {
			shown[sn.Name] = sn
		}
		for node, all := range names {
			for _, name := range all {
				sn := shown[name]
				if len(sn.Locations) != 1 || sn.State != "STATE_READY" || sn.Locations[0].Backend != "local@"+node {
					f.t.Errorf("%s shows %s of %s as %+v", asked, name, node, sn)
				}
			}
		}
	}
	for node, all := range names {
		for _, name := range all {
			if _, err := os.Stat(filepath.Join(f.dirs[node], "default", name+".db.zst")); err != nil {
				f.t.Errorf("the directory of %s: %v", node, err)
			}
		}
		if s := f.alive()[node]; s != nil {
			s.must("download", all[0], "--output", filepath.Join(f.t.TempDir(), "copy.db"))
			s.must("verify", all[0], "--level", "structure")
		}
	}
}

// sendsElsewhere asks s2 for a snapshot of s1.
func (f *localFleet) sendsElsewhere(name string) {
	f.t.Helper()
	for _, args := range [][]string{
		{"verify", name}, {"delete", name}, {"download", name, "--output", filepath.Join(f.t.TempDir(), "copy.db")},
		{"reconcile", "--backend", "local@s1"}, {"prune", "--backend", "local@s1"}, {"save", "--backend", "local@s1"},
	} {
		r := f.serve["s2"].run(args...)
		if r.code == 0 || !strings.Contains(r.stderr, "only the replica of node s1 can reach local@s1") {
			f.t.Errorf("%q: exit code %d: %s", args, r.code, r.stderr)
		}
	}
	// A repair tells of the first snapshot that it cannot copy, which is the newest one of another node.
	if r := f.serve["s2"].run("reconcile", "--repair", "--backend", "local"); r.code != 1 || !strings.Contains(r.stderr, "only the replica of node s") {
		f.t.Errorf("a repair without a source: exit code %d: %s", r.code, r.stderr)
	}
}

// expectGone checks that no replica shows a snapshot any more.
func (f *localFleet) expectGone(name string) {
	f.t.Helper()
	for node, s := range f.alive() {
		if slices.ContainsFunc(s.list(), func(sn snap) bool { return sn.Name == name }) {
			f.t.Errorf("%s shows %s still", node, name)
		}
	}
}
