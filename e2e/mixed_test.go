//go:build e2e

package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// mixed is a fleet of two replicas over one etcd and the same backends. One runs this version, the other an older
// one.
type mixed struct {
	*world
	t        *testing.T // the replicas run until it ends
	client   *clientv3.Client
	faults   *testenv.HTTPProxy // before S3
	signing  string             // directory of the keys
	old, new *mixedReplica
}

// mixedReplica is one of them. Its node name is that of its version.
type mixedReplica struct {
	*service
	m    *mixed
	name string // old or new
	path string // of its program
	o    options
	data string
}

// oldBinary returns the program of the older version, or skips the test.
func oldBinary(t *testing.T) string {
	t.Helper()
	binary := os.Getenv("SNAPSHOTD_OLD_BINARY")
	if binary == "" {
		t.Skip("it needs the program of an older version: set SNAPSHOTD_OLD_BINARY to its path (docs/development.md)")
	}
	t.Logf("the older version is %s", command(t.Context(), t, binary, "version").stdout)
	return binary
}

func newMixed(t *testing.T, binary string) *mixed {
	m := &mixed{world: newWorld(t, 1<<20), t: t, signing: t.TempDir()}
	m.client = m.etcd.Client(t)
	m.faults = testenv.StartHTTPProxy(t, m.s3.Addr(), nil)
	m.makeKey(t)
	m.old = &mixedReplica{m: m, name: "old", path: binary, o: m.options(), data: t.TempDir()}
	m.old.o.binary = binary
	m.new = &mixedReplica{m: m, name: "new", path: program(t, ""), o: m.options(), data: t.TempDir()}
	return m
}

// makeKey makes the key that the replicas sign manifests with.
func (m *mixed) makeKey(t *testing.T) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range signingFiles(t, public, private) {
		if err := os.WriteFile(filepath.Join(m.signing, name), block, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// signingFiles returns a pair of keys in PEM, by the names of their files.
func signingFiles(t *testing.T, public ed25519.PublicKey, private ed25519.PrivateKey) map[string][]byte {
	t.Helper()
	privateDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	publicDER, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		"signing.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: privateDER}),
		"signing.pub": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: publicDER}),
	}
}

// start starts a replica with more lines of configuration.
func (r *mixedReplica) start(t *testing.T, more string) {
	t.Helper()
	file := filepath.Join(r.m.t.TempDir(), "snapshotd.yaml")
	doc := fmt.Sprintf(`
data_dir: %s
node_name: %s
reconcile_interval: 1h
clusters:
  - name: default
    etcd: {endpoints: [%q]}
    lock_ttl: 2s
    leftover_age: 2s
    signing: {key_file: %q, accept_unsigned: true}
    backends:
      - {name: local, url: %q}
      - {name: s3, url: %q}
%s`, r.data, r.name, r.m.etcd.Endpoints()[0], filepath.Join(r.m.signing, "signing.pem"),
		"file://"+r.m.dir, r.m.s3URL(r.m.faults.Addr()), more)
	if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	r.service = start(r.m.t, r.o, "--config", file)
}

// TestMixedFleet runs an older version and this one as a fleet: each step is done by one of them on a snapshot of the
// other, and then the other way round.
func TestMixedFleet(t *testing.T) {
	m := newMixed(t, oldBinary(t))
	m.old.start(t, "")
	m.new.start(t, "")
	for _, turn := range [][2]*mixedReplica{{m.old, m.new}, {m.new, m.old}} {
		a, b := turn[0], turn[1]
		for _, step := range []struct {
			name string
			do   func(t *testing.T, a, b *mixedReplica)
		}{
			{"%s saves, %s reads", m.saveAndRead},
			{"%s saves, %s updates", m.saveAndUpdate},
			{"%s saves, %s deletes", m.saveAndDelete},
			{"%s saves in part, %s repairs", m.saveAndRepair},
			{"%s dies, %s settles", m.dieAndSettle},
			{"%s adopts, %s deletes", m.adoptAndDelete},
		} {
			if !t.Run(fmt.Sprintf(step.name, a.name, b.name), func(t *testing.T) { step.do(t, a, b) }) {
				return
			}
		}
	}
	t.Run("the leadership changes", m.leadInTurns)
	m.settled(t, m.new.service)
	m.settled(t, m.old.service)
	m.same(t)
	m.old.kill()
	m.new.kill()
	t.Run("both prune by the same rules", m.pruneInTurns)
}

// same checks that both replicas show the same snapshots, and returns them as the older one does.
func (m *mixed) same(t *testing.T) []snap {
	t.Helper()
	var byOld, byNew []any
	eventually(t, "nothing changes", func() bool { // the leader may be repairing
		byOld = m.old.shows("snapshots", "list")
		byNew = m.new.shows("snapshots", "list")
		return len(differences("", byOld, m.old.shows("snapshots", "list"), exactly)) == 0
	})
	compare(t, "list of the new version", byOld, byNew, exactly)
	return m.old.list()
}

// undisturbed checks that a replica finds nothing to change.
func (m *mixed) undisturbed(t *testing.T, r *mixedReplica) {
	t.Helper()
	rec, res := r.reconcile()
	if res.code != 0 || len(rec.Backends) != 2 {
		t.Errorf("reconcile by the %s one: exit code %d: %s", r.name, res.code, res.stderr)
	}
	for _, at := range rec.Backends {
		if at.Added+at.Updated+at.Removed+at.Repaired+at.Swept > 0 {
			t.Errorf("reconcile by the %s one: %+v", r.name, at)
		}
	}
}

// find returns a snapshot as both show it; nil when neither has it.
func (m *mixed) find(t *testing.T, name string) *snap {
	t.Helper()
	snaps := m.same(t)
	i := slices.IndexFunc(snaps, func(sn snap) bool { return sn.Name == name })
	if i < 0 {
		return nil
	}
	var byOld, byNew map[string]any
	decode(t, m.old.must("get", name, "-o", "json"), &byOld)
	decode(t, m.new.must("get", name, "-o", "json"), &byNew)
	for _, d := range differences("get "+name, byOld, byNew, exactly) {
		t.Error(d)
	}
	return &snaps[i]
}

// leader waits until one of the two leads, and returns it and the other one.
func (m *mixed) leader(t *testing.T) (leader, other *mixedReplica) {
	t.Helper()
	eventually(t, "a replica leads", func() bool {
		resp, err := m.client.Get(t.Context(), leaderKey)
		if err != nil {
			t.Fatal(err)
		}
		if len(resp.Kvs) == 0 {
			return false
		}
		leader, other = m.old, m.new
		if string(resp.Kvs[0].Value) == m.new.name {
			leader, other = m.new, m.old
		}
		return true
	})
	return leader, other
}

// leadInTurns kills each leader in turn. The other one takes over and reconciles.
func (m *mixed) leadInTurns(t *testing.T) {
	led := map[string]bool{}
	for range 2 {
		leader, other := m.leader(t)
		led[leader.name] = true
		name := leader.save()
		leader.kill()
		for _, suffix := range []string{".json", ".db.zst"} {
			if err := os.Remove(filepath.Join(m.dir, "default", name+suffix)); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "the other one leads and reconciles", func() bool {
			return other.locations()[name] == "READY: s3 READY"
		})
		leader.start(t, "")
		m.same(t)
		leader.must("reconcile", "--repair", "--backend", "local")
		if got := other.locations()[name]; got != "READY: local READY, s3 READY" {
			t.Errorf("repaired by the %s one: %s", leader.name, got)
		}
	}
	if len(led) != 2 {
		t.Errorf("only %v have led", led)
	}
}

// pruneInTurns compares the decisions of both versions, and lets each of them prune once. None of them leads
// meanwhile.
func (m *mixed) pruneInTurns(t *testing.T) {
	resign := holdLeadership(t, m.client)
	defer resign()
	const rules = "    retention: {keep_last: 3, min_keep: 1, on_demand: true, adopted: true}\n"
	m.old.start(t, rules)
	m.new.start(t, rules)
	for _, r := range []*mixedReplica{m.old, m.new} {
		m.old.save()
		m.new.save()
		before := m.same(t)
		plan := m.old.shows("decisions", "prune", "--dry-run")
		compare(t, "what the new version would prune", plan, m.new.shows("decisions", "prune", "--dry-run"), sameRule)
		done := r.shows("decisions", "prune")
		compare(t, "what the "+r.name+" version has pruned", plan, done, sameRule)
		after := m.same(t)
		if len(after) >= len(before) {
			t.Errorf("the %s one has pruned %d snapshots to %d", r.name, len(before), len(after))
		}
		m.undisturbed(t, m.old)
		m.undisturbed(t, m.new)
		for _, other := range []*mixedReplica{m.old, m.new} {
			for _, d := range other.shows("decisions", "prune", "--dry-run") {
				if !field[bool](d, "stays") {
					t.Errorf("after it, the %s one would remove %v", other.name, d)
				}
			}
		}
		for _, sn := range after {
			if sn.State == "STATE_READY" {
				m.whole(t, "local", sn)
				m.whole(t, "s3", sn)
			}
		}
	}
}
