package cluster_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/snapshot/retention"
)

// missedBy saves on node b, where a backend takes no copy, and returns the name of the snapshot.
func (fl *fleet) missedBy(t *testing.T, b *hookedBackend) string {
	t.Helper()
	b.put = func(context.Context, string, io.Reader) error { return errBroken }
	res, err := fl.at["b"].Save(t.Context(), cluster.SaveRequest{})
	if err == nil {
		t.Fatal("the save went well")
	}
	b.put = nil
	fl.clock.pass(time.Hour)
	return res.Snapshot.Name
}

// pin pins a snapshot on a replica that cannot reach its copy on node b.
func (fl *fleet) pin(t *testing.T, node, name string) error {
	t.Helper()
	_, err := fl.at[node].Update(t.Context(), cluster.UpdateRequest{Name: name, Pinned: new(true)})
	return err
}

func (fl *fleet) pinnedOn(t *testing.T, b repository.Backend, name string) bool {
	t.Helper()
	m, err := place(b, fl.cfg.Trust).ReadManifest(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return m.Record.Pinned
}

// A copy that is made from a directory whose manifest lacks a pin is whole: its manifest is not one that was put back,
// and the update can complete it.
func TestACopyOfAnOutdatedManifestIsOutdatedToo(t *testing.T) {
	for name, during := range map[string]bool{"before the repair": false, "during the repair": true} {
		t.Run(name, func(t *testing.T) {
			fl := newFleet(t, true, retention.Rules{})
			name := fl.missedBy(t, fl.backends["one"])
			if during {
				fl.local["b"].get = func(key string) error {
					if strings.HasSuffix(key, ".db.zst") {
						fl.local["b"].get = nil
						onNode(t, "b", fl.pin(t, "a", name))
					}
					return nil
				}
			} else {
				onNode(t, "b", fl.pin(t, "a", name))
			}
			if _, err := fl.at["b"].RepairLocal(t.Context()); err != nil {
				t.Fatal(err)
			}
			fl.expect(t, name, "local@b, one")
			fl.clock.pass(time.Hour)
			for range 2 {
				fl.maintain(t)
				for node, replica := range fl.at {
					reports, err := replica.Reconcile(t.Context(), cluster.ReconcileRequest{})
					for _, r := range reports {
						if r.Err != nil || err != nil {
							t.Errorf("reconcile on %s: %+v, %v", node, r, err)
						}
					}
				}
			}
			fl.expect(t, name, "local@b, one")
			req := cluster.VerifyRequest{Name: name, Backend: "one", Level: snapshot.LevelChecksum}
			if _, err := fl.at["a"].Verify(t.Context(), req); err != nil {
				t.Error(err)
			}
			if err := fl.pin(t, "a", name); err != nil {
				t.Fatal(err)
			}
			fl.maintain(t)
			if !fl.pinnedOn(t, fl.backends["one"], name) || !fl.pinnedOn(t, fl.local["b"], name) {
				t.Error("the pin is not in both manifests")
			}
			rec := fl.records(t)[name]
			if rec.Outdated("one") || rec.Outdated("local@b") {
				t.Error("they still count as outdated")
			}
		})
	}
}

// A backend that has the pin gives the manifest, whatever the order of the configuration.
func TestARepairCopiesTheNewestManifest(t *testing.T) {
	fl := newFleet(t, true, retention.Rules{})
	for _, node := range []string{"a", "b"} {
		fl.at[node] = fl.replica(t, func(c *cluster.Config) {
			c.Node = node
			c.Backends = []repository.Backend{fl.local[node], fl.backends["one"], fl.backends["two"]}
		})
	}
	name := fl.missedBy(t, fl.backends["two"])
	if err := fl.pin(t, "a", name); err != nil {
		t.Fatal(err)
	}
	if _, err := fl.at["b"].RepairLocal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := fl.at["b"].Repair(t.Context()); err != nil {
		t.Fatal(err)
	}
	fl.expect(t, name, "local@b, one, two")
	if !fl.pinnedOn(t, fl.backends["two"], name) {
		t.Error("the new copy has the manifest from before the pin")
	}
}
