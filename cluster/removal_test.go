package cluster_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/snapshot/retention"
)

// forged replaces the record of a snapshot with one that was edited in etcd.
func (f *fixture) forged(t *testing.T, name string, edit func(rec *snapshot.Record, st *snapshot.Status, b *snapshot.Bookkeeping)) {
	t.Helper()
	rec := f.records(t)[name].Copy()
	next := forge(rec, func(st *snapshot.Status, b *snapshot.Bookkeeping) { edit(rec, st, b) })
	next.Pinned, next.Trigger, next.CreateTime, next.File, next.RequestID = rec.Pinned, rec.Trigger, rec.CreateTime, rec.File, rec.RequestID
	if err := f.catalog.Catalog.Update(t.Context(), next); err != nil {
		t.Fatal(err)
	}
}

// rewritten makes the manifests of a snapshot look written long after the catalog learned of the copies.
func (f *fixture) rewritten(t *testing.T, name string) {
	t.Helper()
	for b := range f.backends {
		late := f.clock.Now().Add(time.Hour)
		if err := os.Chtimes(f.path(b, name, ".json"), late, late); err != nil {
			t.Fatal(err)
		}
	}
}

// intact fails the test unless both backends hold the snapshot and its record is READY after a reconcile.
func (f *fixture) intact(t *testing.T, name string) {
	t.Helper()
	f.mustReconcile(t)
	if rec := f.records(t)[name]; rec == nil || rec.State() != snapshot.StateReady {
		t.Errorf("record %+v", rec)
	}
	for _, b := range []string{"one", "two"} {
		if !strings.Contains(strings.Join(f.files(t, b), " "), name+".db.zst") {
			t.Errorf("backend %s has %q", b, f.files(t, b))
		}
	}
}

// Whoever can write to etcd must not be able to delete backups.
func TestNothingInTheCatalogAloneRemovesBytes(t *testing.T) {
	deleting := func(_ *snapshot.Record, st *snapshot.Status, _ *snapshot.Bookkeeping) {
		st.State = snapshot.StateDeleting
		for i := range st.Locations {
			st.Locations[i].State = snapshot.StateDeleting
		}
	}
	for what, edit := range map[string]func(*snapshot.Record, *snapshot.Status, *snapshot.Bookkeeping){
		"DELETING": deleting,
		"DELETING, unpinned": func(rec *snapshot.Record, st *snapshot.Status, b *snapshot.Bookkeeping) {
			rec.Pinned = false
			deleting(rec, st, b)
		},
		"unpinned and old": func(rec *snapshot.Record, _ *snapshot.Status, _ *snapshot.Bookkeeping) {
			rec.Pinned, rec.CreateTime = false, rec.CreateTime.Add(-1000*time.Hour)
		},
		"another trigger": func(rec *snapshot.Record, _ *snapshot.Status, _ *snapshot.Bookkeeping) {
			rec.Pinned, rec.Trigger = false, snapshot.TriggerScheduled
		},
		"superseded": func(rec *snapshot.Record, st *snapshot.Status, b *snapshot.Bookkeeping) {
			b.SupersededBy = "another"
			for i := range st.Locations {
				st.Locations[i].State = snapshot.StateFailed
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			f := newFixture(t, keeping(retention.Rules{KeepLast: 1}), signed(t))
			victim := f.mustSave(t).Name
			pinned := true
			if _, err := f.Update(t.Context(), cluster.UpdateRequest{Name: victim, Pinned: &pinned}); err != nil {
				t.Fatal(err)
			}
			f.scheduled(t, 3)
			f.clock.pass(2 * time.Hour)
			f.forged(t, victim, edit)
			for range 2 {
				if _, err := f.Reconcile(t.Context(), cluster.ReconcileRequest{}); err != nil {
					t.Fatal(err)
				}
				if _, err := f.Prune(t.Context(), cluster.PruneRequest{}); err != nil {
					t.Fatal(err)
				}
				f.clock.pass(2 * time.Hour)
			}
			for _, b := range []string{"one", "two"} {
				if !strings.Contains(strings.Join(f.files(t, b), " "), victim+".db.zst") {
					t.Errorf("backend %s has %q", b, f.files(t, b))
				}
			}
		})
	}
}

func TestRecordThatIsDeletingWithoutTheMarkIsTakenBack(t *testing.T) {
	f := newFixture(t)
	name := f.mustSave(t).Name
	f.forged(t, name, func(_ *snapshot.Record, st *snapshot.Status, _ *snapshot.Bookkeeping) {
		st.State, st.Locations[0].State, st.Locations[0].UpdateTime = snapshot.StatePartial, snapshot.StateDeleting, f.clock.Now()
	})
	f.mustReconcile(t)
	if l := f.records(t)[name].Location("one"); l == nil || l.State != snapshot.StateDeleting {
		t.Errorf("a removal that has just begun may go on; it is %+v", l)
	}
	f.clock.pass(2 * time.Minute)
	f.intact(t, name)
	f.quiet(t)
}

// A removal may be interrupted at each of its steps, and the catalog may be lost in between.
func TestInterruptedRemovalGoesOnFromTheMark(t *testing.T) {
	for _, suffix := range []string{".db.zst", ".json"} {
		for _, lost := range []bool{false, true} {
			f := newFixture(t)
			name := f.mustSave(t).Name
			f.backends["one"].del = func(key string) error {
				if strings.HasSuffix(key, suffix) {
					return errBroken
				}
				return nil
			}
			if _, err := f.Delete(t.Context(), cluster.DeleteRequest{Name: name, Backends: []string{"one"}}); err == nil {
				t.Fatal("the removal was not interrupted")
			}
			f.backends["one"].del = nil
			if lost {
				f.forget(t, name)
			}
			f.clock.pass(2 * time.Minute)
			f.mustReconcile(t)
			if left := f.files(t, "one"); len(left) > 0 {
				t.Errorf("interrupted at %s, catalog lost: %t: left %q", suffix, lost, left)
			}
			if rec := f.records(t)[name]; rec == nil || rec.Location("two").State != snapshot.StateReady {
				t.Errorf("interrupted at %s, catalog lost: %t: record %+v", suffix, lost, rec)
			}
		}
	}
}

// A removal that can never go on is an error of its backend in each report, and not another replica's work.
func TestARemovalThatCannotGoOnIsAnError(t *testing.T) {
	f := newFixture(t)
	name := f.mustSave(t).Name
	f.backends["one"].del = func(string) error { return errBroken }
	if _, err := f.Delete(t.Context(), cluster.DeleteRequest{Name: name, Backends: []string{"one"}}); err == nil {
		t.Fatal("the removal was not interrupted")
	}
	f.backends["one"].del = nil
	changed := f.records(t)[name]
	changed.Revision++ // by something else, in etcd
	if err := f.catalog.Catalog.Update(t.Context(), changed); err != nil {
		t.Fatal(err)
	}
	f.clock.pass(2 * time.Minute)
	for range 2 {
		if err := f.reconcile(t, cluster.ReconcileRequest{})["one"].Err; snapshot.ReasonOf(err) != snapshot.ReasonConflict {
			t.Errorf("the report of one: %v", err)
		}
	}
}

// The marker, the manifest, and the manifest again before it is marked and before the data goes.
func TestADeleteLooksAtACopyOnce(t *testing.T) {
	f := newFixture(t)
	name := f.mustSave(t).Name
	before := f.backends["one"].gets.Load()
	if _, err := f.Delete(t.Context(), cluster.DeleteRequest{Name: name, Backends: []string{"one"}}); err != nil {
		t.Fatal(err)
	}
	if n := f.backends["one"].gets.Load() - before; n != 4 {
		t.Errorf("%d objects were read, want 4", n)
	}
	if left := f.files(t, "one"); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

// A replica that is paused after its record says DELETING may be overtaken by a caller who pins the snapshot.
func TestARemovalThatWakesUpFindsThePin(t *testing.T) {
	f := newFixture(t, signed(t))
	name := f.mustSave(t).Name
	updates := 0
	f.catalog.fail = func(op string) error {
		if updates++; op != "update" {
			return nil
		}
		f.catalog.fail = nil
		pinned := f.records(t)[name]
		pinned.Pinned = true
		pinned.Generation++
		doc, err := repository.EncodeManifest(pinned, f.cfg.Signer)
		if err != nil {
			t.Fatal(err)
		}
		return place(f.backends["one"], nil).PutManifest(t.Context(), name, doc)
	}
	if _, err := f.Delete(t.Context(), cluster.DeleteRequest{Name: name, Backends: []string{"one"}}); snapshot.ReasonOf(err) != snapshot.ReasonConflict {
		t.Errorf("delete: %v", err)
	}
	if left := f.files(t, "one"); len(left) != 2 {
		t.Errorf("left %q", left)
	}
}

// A bucket that locks objects and keeps no versions of them refuses the mark, because it would replace the manifest.
func TestALockedManifestSaysWhatCanBeDone(t *testing.T) {
	f := newFixture(t)
	name := f.mustSave(t).Name
	f.backends["one"].put = func(context.Context, string, io.Reader) error {
		return snapshot.ReasonBackendAccessDenied.New("backend %q: put", "one").On("one")
	}
	until := f.clock.Now().Add(time.Hour)
	f.backends["one"].stat = func(o *repository.Object) {
		if strings.HasSuffix(o.Key, ".json") {
			o.LockedUntil = until
		}
	}
	_, err := f.Delete(t.Context(), cluster.DeleteRequest{Name: name})
	if snapshot.ReasonOf(err) != snapshot.ReasonObjectLocked || !strings.Contains(err.Error(), "turn versioning on") {
		t.Errorf("delete: %v", err)
	}
	if left := f.files(t, "one"); len(left) != 2 {
		t.Errorf("left %q", left)
	}
}

// A catalog that came back from the past calls a copy READY whose removal had begun.
func TestMarkIsFoundUnderAReadyRecord(t *testing.T) {
	f := newFixture(t)
	name := f.mustSave(t).Name
	before := f.records(t)[name]
	f.clock.pass(time.Hour)
	f.backends["one"].del = func(string) error { return errBroken }
	_, _ = f.Delete(t.Context(), cluster.DeleteRequest{Name: name, Backends: []string{"one"}})
	f.backends["one"].del = nil
	f.rewritten(t, name) // the manifest was written after the save
	old := before.Copy()
	old.Version = f.records(t)[name].Version
	if err := f.catalog.Catalog.Update(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	f.mustReconcile(t)
	if left := f.files(t, "one"); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

func TestForgedFileLeadsToNothingElse(t *testing.T) {
	f := newFixture(t)
	victim := f.mustSave(t).Name
	f.plant(t, "one", k3sFile, f.etcdctl(t))
	f.mustReconcile(t)
	for _, file := range []string{victim + ".db.zst", victim + ".json", k3sFile + ".json", "x"} {
		f.forged(t, k3sFile, func(rec *snapshot.Record, st *snapshot.Status, _ *snapshot.Bookkeeping) {
			rec.File, rec.Pinned = file, false
			for i := range st.Locations {
				st.Locations[i].State = snapshot.StateReady
			}
		})
		if _, err := f.Delete(t.Context(), cluster.DeleteRequest{Name: k3sFile}); snapshot.ReasonOf(err) != snapshot.ReasonConflict {
			t.Errorf("delete with the file %q: %v", file, err)
		}
	}
	// A record that calls our own snapshot adopted.
	f.forged(t, victim, func(rec *snapshot.Record, _ *snapshot.Status, _ *snapshot.Bookkeeping) {
		rec.Trigger, rec.File = snapshot.TriggerAdopted, victim+".db"
	})
	if _, err := f.Delete(t.Context(), cluster.DeleteRequest{Name: victim}); snapshot.ReasonOf(err) != snapshot.ReasonConflict {
		t.Errorf("delete of a snapshot that is said to be adopted: %v", err)
	}
	if got := strings.Join(f.files(t, "one"), " "); !strings.Contains(got, victim+".db.zst") || !strings.Contains(got, victim+".json") {
		t.Errorf("left %q", got)
	}
}

// An older manifest, signed as it was, takes back later decisions: a pin, for one.
func TestOlderManifestThatWasPutBackIsAnError(t *testing.T) {
	f := newFixture(t, signed(t))
	name := f.mustSave(t).Name
	first := read(t, f.path("one", name, ".json"))
	pinned := true
	if _, err := f.Update(t.Context(), cluster.UpdateRequest{Name: name, Pinned: &pinned}); err != nil {
		t.Fatal(err)
	}
	second := read(t, f.path("one", name, ".json"))
	writeFile(t, f.path("one", name, ".json"), string(first))
	r := f.reconcile(t, cluster.ReconcileRequest{Repair: true})["one"]
	if !snapshot.IsDamage(r.Err) || !strings.Contains(r.Err.Error(), "generation 1") {
		t.Errorf("report %+v", r)
	}
	if got := read(t, f.path("one", name, ".json")); !bytes.Equal(got, second) {
		t.Errorf("after the repair:\n%s", got)
	}
}

// A manifest that is replaced at once after the save is no less wrong than one that is replaced a day later.
func TestManifestThatIsReplacedAtOnceIsAnError(t *testing.T) {
	f := newFixture(t, signed(t))
	a, b := f.mustSave(t).Name, f.mustSave(t).Name
	f.mustReconcile(t)
	own, other := read(t, f.path("one", a, ".json")), read(t, f.path("one", b, ".json"))
	for what, doc := range map[string][]byte{
		"that of another snapshot": other, "cut": own[:len(own)/2], "empty": nil, "not signed": bytes.Replace(own, []byte("ed25519"), []byte("ED25519"), 1),
	} {
		writeFile(t, f.path("one", a, ".json"), string(doc))
		for range 2 { // it stays an error
			if r := f.reconcile(t, cluster.ReconcileRequest{})["one"]; r.Err == nil {
				t.Errorf("%s: report %+v", what, r)
			}
		}
		if l := f.records(t)[a].Location("one"); l.State != snapshot.StateFailed {
			t.Errorf("%s: location %+v", what, l)
		}
		writeFile(t, f.path("one", a, ".json"), string(own))
		f.mustReconcile(t)
		f.intact(t, a)
	}
}

// A catalog that came back from the past learns of an update from the manifest.
func TestNewerManifestIsTakenIntoAnOlderCatalog(t *testing.T) {
	f := newFixture(t)
	name := f.mustSave(t).Name
	before := f.records(t)[name]
	pinned := true
	if _, err := f.Update(t.Context(), cluster.UpdateRequest{Name: name, Pinned: &pinned, Labels: map[string]string{"a": "b"}}); err != nil {
		t.Fatal(err)
	}
	old := before.Copy()
	old.Version = f.records(t)[name].Version
	if err := f.catalog.Catalog.Update(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	f.rewritten(t, name)
	f.mustReconcile(t)
	if rec := f.records(t)[name]; !rec.Pinned || rec.Labels["a"] != "b" || rec.Generation != 2 {
		t.Errorf("record %+v", rec)
	}
	f.quiet(t)
}

// An update that ended half-way has reached one backend alone. A record that is made anew knows of it all the same.
func TestARecordMadeAnewKnowsAnUpdateThatEndedHalfWay(t *testing.T) {
	f := newFixture(t)
	name := f.mustSave(t).Name
	f.backends["one"].put = func(context.Context, string, io.Reader) error { return errBroken }
	if _, err := f.Update(t.Context(), cluster.UpdateRequest{Name: name, Pinned: new(true)}); err == nil {
		t.Fatal("the update did not end half-way")
	}
	f.backends["one"].put = nil
	f.forget(t, name)
	f.mustReconcile(t)
	if rec := f.records(t)[name]; !rec.Pinned || rec.Generation != 2 {
		t.Errorf("record %+v", rec)
	}
}

// The file of a record that is said to be a save of ours is not taken from the record.
func TestForgedFileOfASaveLeadsToNothingElse(t *testing.T) {
	f := newFixture(t, keeping(retention.Rules{KeepLast: 1, OnDemand: true}))
	victim := f.mustSave(t).Name
	pinned := true
	if _, err := f.Update(t.Context(), cluster.UpdateRequest{Name: victim, Pinned: &pinned}); err != nil {
		t.Fatal(err)
	}
	decoy := f.mustSave(t).Name
	f.scheduled(t, 2)
	f.forged(t, decoy, func(rec *snapshot.Record, _ *snapshot.Status, _ *snapshot.Bookkeeping) { rec.File = victim + ".db.zst" })
	for range 2 {
		_, _ = f.Prune(t.Context(), cluster.PruneRequest{})
		_, _ = f.Delete(t.Context(), cluster.DeleteRequest{Name: decoy})
		f.clock.pass(2 * time.Hour)
		_, _ = f.Reconcile(t.Context(), cluster.ReconcileRequest{})
	}
	for _, b := range []string{"one", "two"} {
		if !strings.Contains(strings.Join(f.files(t, b), " "), victim+".db.zst") {
			t.Errorf("backend %s has %q", b, f.files(t, b))
		}
	}
}

// Another program's file has no manifest. A record that calls it a save of ours, good or failed, does not remove it.
func TestFileOfAnotherProgramIsNotMadeOurs(t *testing.T) {
	const file = "before-upgrade"
	for what, edit := range map[string]func(*snapshot.Record, *snapshot.Status, *snapshot.Bookkeeping){
		"a good save": func(*snapshot.Record, *snapshot.Status, *snapshot.Bookkeeping) {},
		"a failed save": func(_ *snapshot.Record, st *snapshot.Status, _ *snapshot.Bookkeeping) {
			st.State, st.Locations[0].State, st.Locations[0].Size, st.Locations[0].Error = snapshot.StateFailed, snapshot.StateFailed, 0, "x"
		},
		"a removal": func(_ *snapshot.Record, st *snapshot.Status, _ *snapshot.Bookkeeping) {
			st.State, st.Locations[0].State = snapshot.StateDeleting, snapshot.StateDeleting
		},
	} {
		t.Run(what, func(t *testing.T) {
			f := newFixture(t, keeping(retention.Rules{KeepLast: 1, OnDemand: true, Adopted: true}))
			f.plant(t, "one", file+".db", f.etcdctl(t))
			f.mustReconcile(t)
			if rec := f.records(t)[file]; rec == nil || rec.Trigger != snapshot.TriggerAdopted {
				t.Fatalf("not adopted: %+v", rec)
			}
			f.scheduled(t, 2)
			f.forged(t, file, func(rec *snapshot.Record, st *snapshot.Status, b *snapshot.Bookkeeping) {
				rec.Trigger, rec.File, rec.Pinned = snapshot.TriggerScheduled, "", false
				edit(rec, st, b)
			})
			for range 3 {
				f.clock.pass(25 * time.Hour)
				_, _ = f.Reconcile(t.Context(), cluster.ReconcileRequest{})
				_, _ = f.Prune(t.Context(), cluster.PruneRequest{})
			}
			if !strings.Contains(strings.Join(f.files(t, "one"), " "), file+".db") {
				t.Errorf("left %q", f.files(t, "one"))
			}
		})
	}
}

// A record that says that its request has another snapshot is believed when the manifests of both name that request.
func TestForgedRequestSupersedesNothing(t *testing.T) {
	f := newFixture(t)
	var names []string
	for _, id := range []string{"one", "two"} {
		res, err := f.Save(t.Context(), cluster.SaveRequest{Trigger: snapshot.TriggerManual, RequestID: id})
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, res.Snapshot.Name)
	}
	victim, heir := names[0], names[1]
	f.clock.pass(2 * time.Hour)
	f.forged(t, victim, func(rec *snapshot.Record, st *snapshot.Status, b *snapshot.Bookkeeping) {
		rec.RequestID, b.SupersededBy, st.State = f.records(t)[heir].RequestID, heir, snapshot.StateFailed
		for i := range st.Locations {
			st.Locations[i].State, st.Locations[i].Size = snapshot.StateFailed, 0
		}
	})
	for range 2 {
		_, _ = f.Reconcile(t.Context(), cluster.ReconcileRequest{Repair: true})
		f.clock.pass(25 * time.Hour)
	}
	for _, b := range []string{"one", "two"} {
		if !strings.Contains(strings.Join(f.files(t, b), " "), victim+".db.zst") {
			t.Errorf("backend %s has %q", b, f.files(t, b))
		}
	}
}

// invented makes records of n snapshots that do not exist, each a minute older than the one before.
func (f *fixture) invented(t *testing.T, like *snapshot.Record, n int) {
	t.Helper()
	for i := range n {
		fake := like.Copy()
		fake.Name = "x-" + strings.Repeat("x", i) + like.Name
		fake.CreateTime, fake.RequestID, fake.Version = like.CreateTime.Add(-time.Minute*time.Duration(i+1)), "", 0
		if err := f.catalog.Catalog.Create(t.Context(), fake); err != nil {
			t.Fatal(err)
		}
	}
}

// Records of snapshots that do not exist take no place that a rule of retention gives.
func TestForgedRecordsPushNothingOut(t *testing.T) {
	f := newFixture(t, keeping(retention.Rules{KeepLast: 3}))
	names := f.scheduled(t, 4)
	f.invented(t, f.records(t)[names[0]], 5)
	if _, err := f.Prune(t.Context(), cluster.PruneRequest{}); err != nil {
		t.Log(err)
	}
	f.kept(t, names[:3]...)
}
