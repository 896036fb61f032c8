package cluster_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/snapshot/retention"
)

// fleet is three replicas on nodes a, b and c with one catalog. Each has a directory of its own, local@NODE, and all of
// them may have a shared backend.
type fleet struct {
	*fixture
	at    map[string]*cluster.Cluster
	local map[string]*hookedBackend
}

// newFleet returns a fleet with the fixture's backend "one" as the shared one, or with none.
func newFleet(t *testing.T, shared bool, rules retention.Rules) *fleet {
	t.Helper()
	fl := &fleet{fixture: newFixture(t), at: map[string]*cluster.Cluster{}, local: map[string]*hookedBackend{}}
	for _, node := range []string{"a", "b", "c"} {
		name := snapshot.BackendOn("local", node)
		fl.local[node] = &hookedBackend{Backend: memory.New(name, snapshot.BackendLocal)}
		fl.at[node] = fl.replica(t, func(c *cluster.Config) {
			c.Node, c.Backends = node, []repository.Backend{fl.local[node]}
			if shared {
				c.Backends = append(c.Backends, fl.backends["one"])
			}
			c.Retention = map[string]retention.Rules{name: rules}
		})
	}
	return fl
}

// save saves on a node, some minutes after everything before.
func (fl *fleet) save(t *testing.T, node string) string {
	t.Helper()
	fl.clock.pass(5 * time.Minute)
	res, err := fl.at[node].Save(t.Context(), cluster.SaveRequest{Trigger: snapshot.TriggerScheduled})
	if err != nil {
		t.Fatal(err)
	}
	return res.Snapshot.Name
}

// maintain lets every replica do its regular work, a as the leader.
func (fl *fleet) maintain(t *testing.T) {
	t.Helper()
	if err := errors.Join(fl.at["a"].Maintain(t.Context()), fl.at["b"].MaintainLocal(t.Context()), fl.at["c"].MaintainLocal(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// where returns the locations of a snapshot, with their states where they are not READY.
func (fl *fleet) where(t *testing.T, name string) string {
	t.Helper()
	rec := fl.records(t)[name]
	if rec == nil {
		return "no record"
	}
	var all []string
	for _, l := range rec.Locations() {
		text := l.Backend
		if l.State != snapshot.StateReady {
			text += " " + l.State.String()
		}
		all = append(all, text)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func (fl *fleet) expect(t *testing.T, name, want string) {
	t.Helper()
	if got := fl.where(t, name); got != want {
		t.Errorf("%s is on %s, and not on %s", name, got, want)
	}
}

// onNode checks that an error sends the caller to another node.
func onNode(t *testing.T, node string, err error) {
	t.Helper()
	if snapshot.ReasonOf(err) != snapshot.ReasonBackendOnOtherNode || !strings.Contains(err.Error(), "only the replica of node "+node+" can reach") {
		t.Errorf("the caller is not sent to node %s: %v", node, err)
	}
}

// objects returns how many objects of snapshots a node's directory has.
func (fl *fleet) objects(t *testing.T, node string) (n int) {
	t.Helper()
	for _, err := range fl.local[node].List(t.Context(), "default/") {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

func TestEachReplicaSavesToItsOwnDirectoryAndLeavesTheOthersAlone(t *testing.T) {
	fl := newFleet(t, true, retention.Rules{})
	for range 2 {
		for _, node := range []string{"a", "b", "c"} {
			name := fl.save(t, node)
			fl.maintain(t)
			fl.clock.pass(2 * time.Hour)
			for _, replica := range fl.at {
				reports, err := replica.Reconcile(t.Context(), cluster.ReconcileRequest{})
				for _, r := range reports {
					if err = errors.Join(err, r.Err); r.Removed+r.Updated+r.Swept+r.Foreign > 0 {
						t.Errorf("reconcile changed %+v", r)
					}
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			fl.expect(t, name, "local@"+node+", one")
		}
	}
}

// A whole catalog that was lost comes back from the directories, each by its own replica.
func TestCatalogIsMadeAnewByAllReplicas(t *testing.T) {
	fl := newFleet(t, true, retention.Rules{})
	a, b := fl.save(t, "a"), fl.save(t, "b")
	fl.forget(t, a, b)
	fl.maintain(t)
	fl.expect(t, a, "local@a, one")
	fl.expect(t, b, "local@b, one")
}

// Each replica sees its own directory and the shared backend. The one that comes second must not leave out the location
// that only it can see.
func TestACatalogThatAllReplicasMakeAnewAtOnceLacksNoLocation(t *testing.T) {
	for what, forget := range map[string]func(*fleet) string{
		"a snapshot of ours": func(fl *fleet) string {
			name := fl.save(t, "b")
			fl.forget(t, name)
			return name
		},
		"another program's": func(fl *fleet) string {
			db := fl.etcdctl(t)
			fl.plant(t, "one", k3sFile, db)
			err := fl.local["b"].Put(t.Context(), "default/"+k3sFile, bytes.NewReader(db), repository.PutOptions{ContentType: "x"})
			if err != nil {
				t.Fatal(err)
			}
			fl.clock.pass(time.Hour)
			return k3sFile
		},
	} {
		t.Run(what, func(t *testing.T) {
			fl := newFleet(t, true, retention.Rules{})
			fl.save(t, "b") // the stores are known
			name := forget(fl)
			fl.catalog.fail = func(op string) error {
				if op != "create" {
					return nil
				}
				fl.catalog.fail = nil
				_, err := fl.at["a"].Reconcile(t.Context(), cluster.ReconcileRequest{}) // is faster
				return err
			}
			if _, err := fl.at["b"].Reconcile(t.Context(), cluster.ReconcileRequest{}); err != nil {
				t.Fatal(err)
			}
			got := strings.Split(fl.where(t, name), ", ")
			slices.Sort(got)
			if !slices.Equal(got, []string{"local@b", "one"}) {
				t.Errorf("it is on %q", got)
			}
		})
	}
}

func TestOnlyItsOwnReplicaConcludesThatACopyIsGone(t *testing.T) {
	fl := newFleet(t, false, retention.Rules{})
	kept, lost := fl.save(t, "b"), fl.save(t, "b")
	for _, suffix := range []string{".db.zst", ".json"} {
		if err := fl.local["b"].Delete(t.Context(), "default/"+lost+suffix); err != nil {
			t.Fatal(err)
		}
	}
	fl.clock.pass(2 * time.Hour)
	if err := fl.at["a"].Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	fl.expect(t, lost, "local@b")
	if err := fl.at["b"].MaintainLocal(t.Context()); err != nil {
		t.Fatal(err)
	}
	fl.expect(t, lost, "no record")
	fl.expect(t, kept, "local@b")
}

func TestCallsForACopyOfAnotherNodeSayWhoHasIt(t *testing.T) {
	fl := newFleet(t, false, retention.Rules{})
	name := fl.save(t, "b")
	a := fl.at["a"]
	for _, backend := range []string{"", "local@b"} {
		_, err := a.Verify(t.Context(), cluster.VerifyRequest{Name: name, Level: snapshot.LevelChecksum, Backend: backend})
		onNode(t, "b", err)
		_, err = a.Download(t.Context(), cluster.DownloadRequest{Name: name, Backend: backend})
		onNode(t, "b", err)
		var chosen []string
		if backend != "" {
			chosen = append(chosen, backend)
			_, err = a.Reconcile(t.Context(), cluster.ReconcileRequest{Backends: chosen})
			onNode(t, "b", err)
			_, err = a.Prune(t.Context(), cluster.PruneRequest{Backends: chosen})
			onNode(t, "b", err)
			_, err = a.Save(t.Context(), cluster.SaveRequest{Backends: chosen})
			onNode(t, "b", err)
		}
		_, err = a.Delete(t.Context(), cluster.DeleteRequest{Name: name, Backends: chosen})
		onNode(t, "b", err)
	}
	if _, err := a.Delete(t.Context(), cluster.DeleteRequest{Name: name, Backends: []string{"local"}}); snapshot.ReasonOf(err) != snapshot.ReasonInvalidArgument ||
		!strings.Contains(err.Error(), "it is on local@b") {
		t.Errorf("delete from a directory that does not hold it: %v", err)
	}
	reports, err := a.Reconcile(t.Context(), cluster.ReconcileRequest{Backends: []string{"local"}, Repair: true})
	if err != nil || len(reports) != 1 || reports[0].Backend != "local@a" {
		t.Fatalf("%+v, %v", reports, err)
	}
	onNode(t, "b", reports[0].Err)
	if err := a.Scrub(t.Context(), cluster.Scrub{Share: 100}); err != nil {
		t.Errorf("the scrub of a replica without a copy: %v", err)
	}
	fl.expect(t, name, "local@b")

	b := fl.at["b"] // its own replica can do all of that
	if rec, err := b.Verify(t.Context(), cluster.VerifyRequest{Name: name, Level: snapshot.LevelChecksum, Backend: "local"}); err != nil ||
		!slices.Equal(rec.Verification.Backends, []string{"local@b"}) {
		t.Errorf("%+v, %v", rec, err)
	}
	if d, err := b.Download(t.Context(), cluster.DownloadRequest{Name: name}); err != nil || d.Backend != "local@b" || d.Close() != nil {
		t.Errorf("download: %v", err)
	}
	if _, err := b.Delete(t.Context(), cluster.DeleteRequest{Name: name, Backends: []string{"local"}}); err != nil || fl.objects(t, "b") != 0 {
		t.Errorf("delete: %v", err)
	}
	fl.expect(t, name, "no record")
}

func TestRetentionCountsInEachDirectory(t *testing.T) {
	fl := newFleet(t, false, retention.Rules{KeepLast: 2})
	var a, b []string
	for range 3 {
		a = append(a, fl.save(t, "a"))
	}
	b = append(b, fl.save(t, "b"))
	if err := fl.at["a"].Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	b = append(b, fl.save(t, "b"), fl.save(t, "b"))
	fl.expect(t, b[0], "local@b")
	fl.maintain(t)
	fl.maintain(t)
	for _, names := range [][]string{a, b} {
		node := string(names[0][strings.LastIndex(names[0], "-")-1])
		fl.expect(t, names[0], "no record")
		fl.expect(t, names[1], "local@"+node)
		fl.expect(t, names[2], "local@"+node)
		if n := fl.objects(t, node); n != 4 {
			t.Errorf("the directory of %s has %d objects", node, n)
		}
	}
}

// A replica dies after its own directory has the snapshot whole, and before the catalog knows.
func TestDeadSaveIsSettledInADirectoryByItsOwnReplica(t *testing.T) {
	for _, shared := range []bool{true, false} {
		fl := newFleet(t, shared, retention.Rules{})
		fl.save(t, "a")
		fl.catalog.fail = func(op string) error { // it is not heard of again once its copies are made
			if op == "update" {
				return errBroken
			}
			return nil
		}
		res, _ := fl.at["b"].Save(t.Context(), cluster.SaveRequest{})
		fl.catalog.fail = nil
		name := res.Snapshot.Name
		fl.clock.pass(time.Hour)
		if err := fl.at["a"].Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := "local@b FAILED"
		if shared {
			want += ", one"
		}
		fl.expect(t, name, want)
		if text := fl.records(t)[name].Location("local@b").Error; !strings.Contains(text, "the replica of node b alone can tell") {
			t.Errorf("the location says %q", text)
		}
		fl.clock.pass(48 * time.Hour)
		if err := fl.at["a"].Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
		fl.expect(t, name, want)
		fl.maintain(t)
		fl.expect(t, name, strings.Replace(want, " FAILED", "", 1))
	}
}

func TestFailedSaveIsForgottenOnceItsOwnReplicaHasLooked(t *testing.T) {
	fl := newFleet(t, true, retention.Rules{})
	fl.save(t, "b")
	for _, b := range []*hookedBackend{fl.local["b"], fl.backends["one"]} {
		b.put = func(context.Context, string, io.Reader) error { return errBroken }
	}
	res, err := fl.at["b"].Save(t.Context(), cluster.SaveRequest{})
	if err == nil {
		t.Fatal("the save went well")
	}
	fl.clock.pass(25 * time.Hour)
	if err := fl.at["a"].Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	fl.expect(t, res.Snapshot.Name, "local@b FAILED, one FAILED")
	for range 2 {
		if err := errors.Join(fl.at["b"].MaintainLocal(t.Context()), fl.at["a"].Maintain(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	fl.expect(t, res.Snapshot.Name, "no record")
}

func TestRepairIsMadeByTheReplicaThatCan(t *testing.T) {
	broken := func(context.Context, string, io.Reader) error { return errBroken }
	for _, down := range []string{"local@b", "one"} {
		t.Run(down, func(t *testing.T) {
			fl := newFleet(t, true, retention.Rules{})
			fl.save(t, "b")
			target := fl.backends["one"]
			if down == "local@b" {
				target = fl.local["b"]
			}
			target.put = broken
			res, err := fl.at["b"].Save(t.Context(), cluster.SaveRequest{})
			if err == nil {
				t.Fatal("the save went well")
			}
			target.put = nil
			fl.clock.pass(time.Hour)
			before := fl.where(t, res.Snapshot.Name)
			for _, other := range []string{"a", "c"} {
				next, err := fl.at[other].Repair(t.Context())
				if err != nil || !next.IsZero() {
					t.Errorf("on %s: next %v, %v", other, next, err)
				}
				if _, err := fl.at[other].RepairLocal(t.Context()); err != nil {
					t.Error(err)
				}
			}
			fl.expect(t, res.Snapshot.Name, before)
			if repairs := fl.records(t)[res.Snapshot.Name].Repairs(); len(repairs) > 0 {
				t.Errorf("replicas without a source have tried: %+v", repairs)
			}
			if _, err := fl.at["b"].RepairLocal(t.Context()); err != nil {
				t.Fatal(err)
			}
			fl.expect(t, res.Snapshot.Name, "local@b, one")
		})
	}
}

// Reconcile with repair does not bring every snapshot of the fleet to every disk, unless the directory is named.
func TestSnapshotsOfOtherNodesAreCopiedToADirectoryOnRequest(t *testing.T) {
	fl := newFleet(t, true, retention.Rules{})
	name := fl.save(t, "a")
	for _, step := range []struct {
		backends []string
		want     string
	}{{nil, "local@a, one"}, {[]string{"local"}, "local@a, local@b, one"}} {
		if _, err := fl.at["b"].Reconcile(t.Context(), cluster.ReconcileRequest{Backends: step.backends, Repair: true}); err != nil {
			t.Fatal(err)
		}
		fl.expect(t, name, step.want)
	}
}

func TestPinReachesTheManifestOfAnotherNode(t *testing.T) {
	fl := newFleet(t, true, retention.Rules{})
	name := fl.save(t, "b")
	if _, err := fl.at["a"].Update(t.Context(), cluster.UpdateRequest{Name: name, Pinned: new(true)}); err != nil {
		t.Fatal(err)
	}
	verify := cluster.VerifyRequest{Name: name, Level: snapshot.LevelChecksum}
	if _, err := fl.at["b"].Verify(t.Context(), verify); err != nil {
		t.Errorf("a manifest that could not be written yet: %v", err)
	}
	fl.maintain(t)
	if m, err := place(fl.local["b"], nil).ReadManifest(t.Context(), name); err != nil || !m.Record.Pinned {
		t.Errorf("the manifest of node b: %+v, %v", m, err)
	}
	if fl.records(t)[name].Outdated("local@b") {
		t.Error("it still counts as outdated")
	}
	if _, err := fl.at["b"].Verify(t.Context(), verify); err != nil {
		t.Error(err)
	}
}

// Without a shared backend there is no witness of the change but the catalog, which anybody with access to etcd can
// write.
func TestPinWithoutAWitnessIsWrittenByItsOwnReplicaAlone(t *testing.T) {
	fl := newFleet(t, false, retention.Rules{})
	name := fl.save(t, "b")
	pin := cluster.UpdateRequest{Name: name, Pinned: new(true)}
	rec, err := fl.at["a"].Update(t.Context(), pin)
	if onNode(t, "b", err); rec == nil || !rec.Pinned {
		t.Errorf("the record is %+v", rec)
	}
	fl.maintain(t)
	if m, err := place(fl.local["b"], nil).ReadManifest(t.Context(), name); err != nil || m.Record.Pinned {
		t.Errorf("the catalog alone has changed the manifest: %+v, %v", m, err)
	}
	if rec, err := fl.at["b"].Verify(t.Context(), cluster.VerifyRequest{Name: name, Level: snapshot.LevelChecksum}); err != nil || !rec.Pinned {
		t.Errorf("%+v, %v", rec, err)
	}
	if _, err := fl.at["b"].Update(t.Context(), pin); err != nil {
		t.Fatal(err)
	}
	if m, err := place(fl.local["b"], nil).ReadManifest(t.Context(), name); err != nil || !m.Record.Pinned {
		t.Errorf("the manifest: %+v, %v", m, err)
	}
	if _, err := fl.at["a"].Update(t.Context(), pin); err != nil {
		t.Errorf("nothing is left to be written: %v", err)
	}
}

// A removal that its own replica has begun keeps the leader from nothing.
func TestRemovalOnAnotherNodeDoesNotHoldUpReconcile(t *testing.T) {
	fl := newFleet(t, true, retention.Rules{})
	name := fl.save(t, "b")
	fl.local["b"].del = func(string) error { return errBroken }
	if _, err := fl.at["b"].Delete(t.Context(), cluster.DeleteRequest{Name: name, Backends: []string{"local"}}); err == nil {
		t.Fatal("the removal went well")
	}
	fl.expect(t, name, "local@b DELETING, one")
	for _, suffix := range []string{".db.zst", ".json"} {
		if err := fl.backends["one"].Delete(t.Context(), "default/"+name+suffix); err != nil {
			t.Fatal(err)
		}
	}
	fl.clock.pass(time.Hour)
	if err := fl.at["a"].Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	fl.expect(t, name, "local@b DELETING")
	fl.local["b"].del = nil
	fl.maintain(t)
	fl.expect(t, name, "no record")
	if n := fl.objects(t, "b"); n != 0 {
		t.Errorf("%d objects are left", n)
	}
}

func TestRetiredNodeIsForgottenAndTakenInAgainWhenItComesBack(t *testing.T) {
	fl := newFleet(t, true, retention.Rules{})
	both := fl.save(t, "c")
	fl.clock.pass(5 * time.Minute)
	res, err := fl.at["c"].Save(t.Context(), cluster.SaveRequest{Backends: []string{"local"}})
	if err != nil {
		t.Fatal(err)
	}
	alone := res.Snapshot.Name
	if _, err := fl.at["a"].Reconcile(t.Context(), cluster.ReconcileRequest{Retire: []string{"a"}}); snapshot.ReasonOf(err) != snapshot.ReasonInvalidArgument {
		t.Errorf("a replica retires its own node: %v", err)
	}
	if _, err := fl.at["a"].Reconcile(t.Context(), cluster.ReconcileRequest{Retire: []string{"c", ""}}); snapshot.ReasonOf(err) != snapshot.ReasonInvalidArgument {
		t.Errorf("an empty name of a node: %v", err)
	}
	lock, err := fl.catalog.Catalog.Lock(t.Context(), "c/1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fl.at["a"].Reconcile(t.Context(), cluster.ReconcileRequest{Retire: []string{"c"}}); snapshot.ReasonOf(err) != snapshot.ReasonSaveInProgress {
		t.Errorf("a node that saves is retired: %v", err)
	}
	lock.Unlock(t.Context())
	for _, dry := range []bool{true, false} {
		fl.expect(t, both, "local@c, one")
		fl.expect(t, alone, "local@c")
		reports, err := fl.at["a"].Reconcile(t.Context(), cluster.ReconcileRequest{Retire: []string{"c"}, ValidateOnly: dry})
		last := reports[len(reports)-1]
		if err != nil || last.Backend != "local@c" || last.Removed != 2 || last.Err != nil {
			t.Errorf("dry %v: %+v, %v", dry, reports, err)
		}
	}
	fl.expect(t, both, "one")
	fl.expect(t, alone, "no record")
	fl.maintain(t) // it was alive after all
	fl.expect(t, both, "local@c, one")
	fl.expect(t, alone, "local@c")
}

// A node may die after a backend took what it kept, and before the record says so.
func TestRetirementBelievesNoFallbackOfWhatABackendHas(t *testing.T) {
	for what, test := range map[string]struct{ retire, where, keptOn string }{
		"another node":              {"c", "one", "b"},
		"the node, and it is READY": {"b", "local@c, one", ""},
	} {
		t.Run(what, func(t *testing.T) {
			fl := newFleet(t, true, retention.Rules{})
			name := fl.save(t, "c")
			fl.keepOn(t, name, "b")
			log := fl.retire(t, test.retire)
			fl.expect(t, name, test.where)
			if rec := fl.records(t)[name]; rec.FallbackNode() != test.keptOn || strings.Contains(log, "nothing is left") {
				t.Errorf("kept on %q; the log: %s", rec.FallbackNode(), log)
			}
		})
	}
	t.Run("the node, and it is PARTIAL", func(t *testing.T) {
		fl := newFleet(t, true, retention.Rules{})
		fl.backends["one"].put = func(_ context.Context, key string, _ io.Reader) error {
			if strings.HasPrefix(key, "default/") {
				return errBroken
			}
			return nil
		}
		res, err := fl.at["c"].Save(t.Context(), cluster.SaveRequest{})
		if err == nil {
			t.Fatal("the save went well")
		}
		name := res.Snapshot.Name
		fl.keepOn(t, name, "b")
		log := fl.retire(t, "b")
		fl.expect(t, name, "local@c, one FAILED")
		rec := fl.records(t)[name]
		if rec.FallbackNode() != "" || strings.Contains(rec.ErrorText(), "is lost") || strings.Contains(log, "nothing is left") {
			t.Errorf("kept on %q, %s; the log: %s", rec.FallbackNode(), rec.ErrorText(), log)
		}
	})
}

// keepOn makes a record name a node that keeps the snapshot.
func (fl *fleet) keepOn(t *testing.T, name, node string) {
	t.Helper()
	rec := forge(fl.records(t)[name], func(_ *snapshot.Status, b *snapshot.Bookkeeping) { b.FallbackNode = node })
	if err := fl.catalog.Catalog.Update(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
}

// retire retires a node, and returns the log of that.
func (fl *fleet) retire(t *testing.T, node string) string {
	t.Helper()
	var log strings.Builder
	a := fl.replica(t, func(c *cluster.Config) {
		c.Node, c.Backends = "a", []repository.Backend{fl.local["a"], fl.backends["one"]}
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	if _, err := a.Reconcile(t.Context(), cluster.ReconcileRequest{Retire: []string{node}}); err != nil {
		t.Fatal(err)
	}
	return log.String()
}

// A new machine under the old name has an empty directory, which is refused as long as the old one is not retired.
func TestNewDirectoryUnderTheNameOfARetiredNode(t *testing.T) {
	fl := newFleet(t, true, retention.Rules{})
	fl.save(t, "c")
	rebuilt := fl.replica(t, func(c *cluster.Config) {
		c.Node, c.Backends = "c", []repository.Backend{memory.New("local@c", snapshot.BackendLocal), fl.backends["one"]}
	})
	if _, err := rebuilt.Save(t.Context(), cluster.SaveRequest{}); snapshot.ReasonOf(err) != snapshot.ReasonBackendWrongStore {
		t.Errorf("an empty directory was taken for the old one: %v", err)
	}
	if _, err := fl.at["a"].Reconcile(t.Context(), cluster.ReconcileRequest{Retire: []string{"c"}}); err != nil {
		t.Fatal(err)
	}
	fl.clock.pass(time.Minute)
	if _, err := rebuilt.Save(t.Context(), cluster.SaveRequest{}); err != nil {
		t.Error(err)
	}
}

// A paused save was taken over on another node, and its own directory has a copy that nobody was told of.
func TestCopyOfATakenOverSaveInADirectory(t *testing.T) {
	for _, shared := range []bool{true, false} {
		fl := newFleet(t, shared, retention.Rules{})
		fl.save(t, "a")
		fl.save(t, "b")
		req := cluster.SaveRequest{RequestID: "one", Trigger: snapshot.TriggerScheduled}
		var heir cluster.SaveResult
		fl.freezeLocal(t, "b", shared, func() {
			fl.breakLock(t)
			fl.clock.pass(time.Minute)
			var err error
			if heir, err = fl.at["a"].Save(t.Context(), req); err != nil {
				t.Error(err)
			}
		})
		late, err := fl.at["b"].Save(t.Context(), req)
		if snapshot.ReasonOf(err) != snapshot.ReasonInterrupted {
			t.Errorf("the paused save: %v", err)
		}
		fl.clock.pass(3 * time.Hour)
		for range 2 {
			fl.maintain(t)
			fl.clock.pass(25 * time.Hour)
		}
		fl.maintain(t)
		if shared {
			fl.expect(t, heir.Snapshot.Name, "local@a, one")
			fl.expect(t, late.Snapshot.Name, "no record")
		} else {
			fl.expect(t, heir.Snapshot.Name, "local@a")
			fl.expect(t, late.Snapshot.Name, "local@b") // nothing that b can see tells of another one
		}
	}
}

// freezeLocal stops the save of a node once, when its own directory has data and manifest of a second snapshot and a
// shared backend has no manifest of it yet, and does something meanwhile.
func (fl *fleet) freezeLocal(t *testing.T, node string, shared bool, meanwhile func()) {
	var frozen atomic.Bool
	if shared {
		fl.backends["one"].put = func(_ context.Context, key string, _ io.Reader) error {
			if strings.HasSuffix(key, ".json") && frozen.CompareAndSwap(false, true) {
				for fl.objects(t, node) < 4 {
					runtime.Gosched()
				}
				meanwhile()
			}
			return nil
		}
		return
	}
	fl.catalog.fail = func(op string) error {
		if op == "update" && frozen.CompareAndSwap(false, true) {
			meanwhile()
		}
		return nil
	}
}

// Copies in a directory are scrubbed by its own replica, each in its turn, whatever the leader verifies meanwhile.
func TestEachDirectoryIsScrubbedByItsReplica(t *testing.T) {
	fl := newFleet(t, true, retention.Rules{})
	names := []string{fl.save(t, "b"), fl.save(t, "b"), fl.save(t, "b"), fl.save(t, "b")}
	gets := map[string]bool{}
	fl.local["b"].get = func(key string) error {
		if name, ok := strings.CutSuffix(strings.TrimPrefix(key, "default/"), ".db.zst"); ok {
			gets[name] = true
		}
		return nil
	}
	for range names {
		fl.clock.pass(time.Hour)
		if err := fl.at["b"].ScrubLocal(t.Context(), cluster.Scrub{Share: 25}); err != nil {
			t.Fatal(err)
		}
		if err := fl.at["a"].Scrub(t.Context(), cluster.Scrub{Share: 100}); err != nil {
			t.Fatal(err)
		}
	}
	if len(gets) != len(names) {
		t.Errorf("%d of %d copies were read", len(gets), len(names))
	}
}
