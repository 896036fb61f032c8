package cluster_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// keep saves while no backend takes anything, and returns the name of the snapshot.
func (f *fixture) keep(t *testing.T, req cluster.SaveRequest) string {
	t.Helper()
	res, err := f.Save(t.Context(), req)
	if err == nil || res.Snapshot == nil || !slices.Contains(f.held(t), res.Snapshot.Name) {
		t.Fatalf("Save: %+v, %v; kept is %q", res.Snapshot, err, f.held(t))
	}
	f.clock.pass(2 * time.Second)
	return res.Snapshot.Name
}

// keepUnrecorded is keep, by a save that was killed, or whose catalog went away, before the outcome was written.
func (f *fixture) keepUnrecorded(t *testing.T, req cluster.SaveRequest) string {
	t.Helper()
	f.catalog.fail = func(op string) error {
		if op == "update" {
			return errCatalogDown
		}
		return nil
	}
	name := f.keep(t, req)
	f.catalog.fail = nil
	if rec := f.records(t)[name]; rec.State() != snapshot.StateSaving {
		t.Fatalf("the record says %s", rec.State())
	}
	return name
}

// delivered brings what is kept to the backends, and checks that all of these snapshots are there then.
func (f *fixture) delivered(t *testing.T, names ...string) {
	t.Helper()
	for range 3 {
		f.deliver(t)
		f.clock.pass(2 * time.Hour)
	}
	if _, err := f.Repair(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		rec := f.records(t)[name]
		if rec == nil || rec.State() != snapshot.StateReady || rec.FallbackNode() != "" {
			t.Fatalf("after the delivery of %s: %+v", name, rec)
		}
		f.readBack(t, rec)
	}
	if held := f.held(t); len(held) > 0 {
		t.Errorf("kept is still %q", held)
	}
}

// readBack reads a snapshot from each backend that its record calls READY.
func (f *fixture) readBack(t *testing.T, rec *snapshot.Record) {
	t.Helper()
	for _, b := range f.cfg.Backends {
		if !slices.Contains(rec.ReadyOn(), b.Info().Name) {
			continue
		}
		r, err := place(b, nil).OpenCopy(t.Context(), rec, age.Identities{})
		if err == nil {
			_, err = io.Copy(io.Discard, r)
			_ = r.Close()
		}
		if err != nil {
			t.Errorf("%s on %s: %v", rec.Name, b.Info().Name, err)
		}
	}
}

// isKept checks that a snapshot is in the fallback, and that its record says so.
func (f *fixture) isKept(t *testing.T, names ...string) {
	t.Helper()
	held := f.held(t)
	for _, name := range names {
		rec := f.records(t)[name]
		if !slices.Contains(held, name) || rec == nil || rec.State() != snapshot.StateFailed || rec.FallbackNode() != "node-1" {
			t.Fatalf("kept is %q, the record: %+v", held, rec)
		}
	}
}

// onGet lets something happen before the n-th time that a record is read.
func (f *fixture) onGet(n int, do func()) {
	f.catalog.fail = func(op string) error {
		if op != "get" {
			return nil
		}
		if n--; n == 0 {
			f.catalog.fail = nil
			do()
		}
		return nil
	}
}

func TestWhatIsKeptIsDeliveredThoughItsOutcomeWasNotWritten(t *testing.T) {
	for what, between := range map[string]func(f *fixture){
		"this process goes on": func(*fixture) {},
		"a new process":        func(f *fixture) { f.Cluster = f.replica(t) },
		"after a reconcile":    func(f *fixture) { f.mustReconcile(t) },
		"after a day": func(f *fixture) {
			f.mustReconcile(t)
			f.clock.pass(30 * time.Hour)
			f.mustReconcile(t) // forgets the record
		},
	} {
		t.Run(what, func(t *testing.T) {
			f, heal := keeper(t)
			name := f.keepUnrecorded(t, cluster.SaveRequest{})
			between(f)
			f.catalog.fail = func(string) error { return errCatalogDown }
			if _, err := f.UploadFallback(t.Context()); snapshot.ReasonOf(err) != snapshot.ReasonCatalogUnavailable {
				t.Errorf("without the catalog: %v", err)
			}
			f.catalog.fail = nil
			f.deliver(t)
			f.isKept(t, name)
			if rec := f.records(t)[name]; rec.StoredSHA256 == "" || len(rec.Failures()) == 0 {
				t.Errorf("the record: %+v", rec)
			}
			heal("one", "two")
			f.delivered(t, name)
		})
	}
}

// A process that reads its configuration anew looks at the fallback while the one before ends its save.
func TestWhatIsKeptIsLeftToASaveThatEnds(t *testing.T) {
	f, heal := keeper(t)
	later := f.replica(t)
	looked := false
	f.catalog.fail = func(op string) error {
		if op == "update" && len(f.held(t)) == 1 && !looked {
			looked = true
			if next, err := later.UploadFallback(t.Context()); err != nil || next.IsZero() {
				t.Errorf("it is to be looked at again at %v, %v", next, err)
			}
			if rec, err := f.catalog.Catalog.Get(t.Context(), f.held(t)[0]); err != nil || rec.State() != snapshot.StateSaving {
				t.Errorf("the record of the save that runs: %+v, %v", rec, err)
			}
		}
		return nil
	}
	name := f.keep(t, cluster.SaveRequest{})
	if f.catalog.fail = nil; !looked {
		t.Fatal("nobody looked")
	}
	f.isKept(t, name)
	heal("one", "two")
	f.delivered(t, name)
}

func TestWhatIsKeptIsTheSnapshotWhenTheSaveThatTookItsRequestCameToNothing(t *testing.T) {
	f, heal := keeper(t)
	req := cluster.SaveRequest{RequestID: "nightly"}
	name := f.keepUnrecorded(t, req)
	later := f.replica(t)
	f.source.open = func(*cluster.Stream) (*cluster.Stream, error) {
		f.clock.pass(time.Hour)
		heal("one", "two")
		if _, err := later.UploadFallback(t.Context()); err != nil { // the other save may still have a snapshot
			t.Error(err)
		}
		if rec := f.records(t)[name]; rec.SupersededBy() == "" || len(rec.ReadyOn()) > 0 {
			t.Errorf("while the request is saved: %+v", rec)
		}
		return nil, errBroken
	}
	res, err := f.Save(t.Context(), req)
	if err == nil || res.Snapshot.Name == name {
		t.Fatalf("the request again: %+v, %v", res.Snapshot, err)
	}
	f.deliver(t)
	f.delivered(t, name)
}

func TestWhatIsKeptGivesWayToTheSnapshotOfTheSaveThatTookItsRequest(t *testing.T) {
	f, heal := keeper(t)
	req := cluster.SaveRequest{RequestID: "nightly"}
	name := f.keepUnrecorded(t, req)
	heal("one", "two")
	res, err := f.Save(t.Context(), req)
	if err != nil || res.Snapshot.Name == name {
		t.Fatalf("the request again: %+v, %v", res.Snapshot, err)
	}
	f.deliver(t)
	if held := f.held(t); len(held) > 0 {
		t.Errorf("kept is %q", held)
	}
}

// That an upload ends without an error proves nothing.
func TestWhatIsKeptStaysWhenItsRecordGoesAstrayMeanwhile(t *testing.T) {
	for what, astray := range map[string]func(f *fixture, name string){
		"the catalog came back from the past": func(f *fixture, name string) { f.forget(t, name) },
		"the record cannot be read":           func(f *fixture, name string) { f.catalog.Spoil(name) },
		"a reconcile sweeps a leftover": func(f *fixture, name string) {
			rec := forge(f.records(t)[name], func(st *snapshot.Status, _ *snapshot.Bookkeeping) {
				for i := range st.Locations {
					st.Locations[i].State = snapshot.StateDeleting
				}
			})
			if err := f.catalog.Catalog.Update(t.Context(), rec); err != nil {
				t.Error(err)
			}
		},
		"it says READY and no backend has it": func(f *fixture, name string) {
			rec := forge(f.records(t)[name], func(st *snapshot.Status, b *snapshot.Bookkeeping) {
				st.State, b.FallbackNode = snapshot.StateReady, ""
				for i := range st.Locations {
					st.Locations[i].State, st.Locations[i].Size = snapshot.StateReady, f.records(t)[name].StoredSize
				}
			})
			if err := f.catalog.Catalog.Update(t.Context(), rec); err != nil {
				t.Error(err)
			}
		},
	} {
		for _, when := range []string{"before the attempt", "after the upload"} {
			t.Run(what+" "+when, func(t *testing.T) {
				f, heal := keeper(t)
				name := f.keep(t, cluster.SaveRequest{})
				f.clock.pass(2 * time.Minute)
				heal("one", "two")
				uploaded := when == "after the upload"
				if uploaded {
					f.backends["one"].put = func(_ context.Context, key string, _ io.Reader) error {
						if strings.HasSuffix(key, ".json") {
							f.backends["one"].put = nil
							astray(f, name)
						}
						return nil
					}
				} else {
					f.onGet(2, func() { astray(f, name) })
				}
				f.deliver(t)
				if held, files := f.held(t), f.files(t, "one"); len(held) == 0 && (!uploaded || len(files) < 2) {
					t.Fatalf("kept is %q; on the backend is %q", held, files)
				}
				f.catalog.Wipe(name)
				f.mustReconcile(t)
				f.delivered(t, name)
			})
		}
	}
}

func TestLostFallbackIsTold(t *testing.T) {
	var log strings.Builder
	f, heal := keeper(t)
	name := f.keep(t, cluster.SaveRequest{})
	disk := f.cfg.Fallback
	f.cfg.Fallback, f.cfg.Logger = ownPlace(t), slog.New(slog.NewTextHandler(&log, nil))
	f.Cluster = f.replica(t)
	if next := f.deliver(t); !next.IsZero() {
		t.Errorf("the next attempt is at %v", next)
	}
	rec := f.records(t)[name]
	if rec.State() != snapshot.StateFailed || rec.FallbackNode() != "" || !strings.Contains(rec.ErrorText(), "it was kept on node-1, and is lost") {
		t.Errorf("%s, kept on %q: %s", rec.State(), rec.FallbackNode(), rec.ErrorText())
	}
	if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), name) {
		t.Errorf("the log: %s", log.String())
	}
	if _, err := f.Repair(t.Context()); err != nil || len(f.seen.waiting) > 0 {
		t.Errorf("there wait %v, %v", f.seen.waiting, err)
	}

	// The disk was not mounted, and is now.
	f.cfg.Fallback = disk
	f.Cluster = f.replica(t)
	f.deliver(t)
	f.isKept(t, name)
	if text := f.records(t)[name].ErrorText(); strings.Contains(text, "lost") || !strings.Contains(text, "it is kept on node-1") {
		t.Errorf("the error is %s", text)
	}
	heal("one", "two")
	f.delivered(t, name)
}

// The data directory comes back under another host name, and nothing waits for the old one any more.
func TestWhatIsKeptIsGivenUpUnderTheNewNameOfItsNode(t *testing.T) {
	f, heal := keeper(t)
	name := f.keep(t, cluster.SaveRequest{})
	heal("one", "two")
	f.mustSave(t)
	renamed := f.replica(t, func(c *cluster.Config) { c.Node = "node-9" })
	if next, err := renamed.UploadFallback(t.Context()); err != nil || !next.IsZero() || len(f.held(t)) > 0 {
		t.Fatalf("kept is %q, the next look is at %v, %v", f.held(t), next, err)
	}
	if rec := f.records(t)[name]; rec.FallbackNode() != "" || strings.Contains(rec.ErrorText(), "kept on") {
		t.Errorf("kept on %q: %s", rec.FallbackNode(), rec.ErrorText())
	}
	if _, err := f.Repair(t.Context()); err != nil || len(f.seen.waiting) > 0 {
		t.Errorf("there wait %v, %v", f.seen.waiting, err)
	}
}

// Another snapshot of the same name, on the disk of another node, is no business of this one.
func TestWhatAnotherNodeKeepsUnderTheSameNameStays(t *testing.T) {
	f, heal := keeper(t)
	name := f.keep(t, cluster.SaveRequest{})
	rec := forge(f.records(t)[name], func(_ *snapshot.Status, b *snapshot.Bookkeeping) { b.FallbackNode = "node-2" })
	rec.StoredSHA256 = strings.Repeat("0", 64)
	if err := f.catalog.Catalog.Update(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	heal("one", "two")
	f.mustSave(t)
	f.deliver(t)
	if rec := f.records(t)[name]; rec.FallbackNode() != "node-2" || len(f.held(t)) > 0 {
		t.Errorf("kept is %q; the record says on %q", f.held(t), rec.FallbackNode())
	}
}

func TestFallbackOfARetiredNodeIsGivenUp(t *testing.T) {
	f, heal := keeper(t)
	name := f.keep(t, cluster.SaveRequest{})
	other := f.replica(t, func(c *cluster.Config) { c.Node, c.Fallback = "node-2", ownPlace(t) })
	if _, err := other.UploadFallback(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.isKept(t, name) // what another node has is no business of this one
	for _, dry := range []bool{true, false} {
		if _, err := other.Reconcile(t.Context(), cluster.ReconcileRequest{Retire: []string{"node-1"}, ValidateOnly: dry}); err != nil {
			t.Fatal(err)
		}
		if rec := f.records(t)[name]; (rec.FallbackNode() == "") == dry || strings.Contains(rec.ErrorText(), "is lost") == dry {
			t.Errorf("dry run %v: kept on %q: %s", dry, rec.FallbackNode(), rec.ErrorText())
		}
	}
	if _, err := other.Repair(t.Context()); err != nil || len(f.seen.waiting) > 0 {
		t.Errorf("there wait %v, %v", f.seen.waiting, err)
	}
	f.deliver(t) // the node comes back
	f.isKept(t, name)
	heal("one", "two")
	f.delivered(t, name)
}

// The answer to an upload may be lost: a reconcile finds the snapshot, and the record must not name the fallback for ever.
func TestWhatAReconcileHasFoundIsNotKeptAnyMore(t *testing.T) {
	f, _ := keeper(t)
	name := f.keep(t, cluster.SaveRequest{})
	kept := strings.TrimPrefix(f.cfg.Fallback.Info().Root, "file://")
	files, err := filepath.Glob(filepath.Join(kept, "default", name+".*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("kept are the files %q, %v", files, err)
	}
	for _, b := range []string{"one", "two"} {
		if err := os.MkdirAll(filepath.Join(f.dirs[b], "default"), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err == nil {
				err = os.WriteFile(filepath.Join(f.dirs[b], "default", filepath.Base(file)), content, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	f.mustReconcile(t)
	if rec := f.records(t)[name]; rec.State() != snapshot.StateReady || rec.FallbackNode() == "" {
		t.Fatalf("after a reconcile that found it: %s, kept on %q", rec.State(), rec.FallbackNode())
	}
	f.deliver(t)
	if rec := f.records(t)[name]; len(f.held(t)) > 0 || rec.FallbackNode() != "" {
		t.Errorf("kept is %q, and the record says on %q", f.held(t), rec.FallbackNode())
	}
}

func TestWhatIsKeptIsDeliveredToTheBackendsThatTookThePlaceOfAll(t *testing.T) {
	f, _ := keeper(t)
	name := f.keep(t, cluster.SaveRequest{})
	f.cfg.Backends = nil
	f.addBackend(t, "three", t.TempDir())
	f.deliver(t)
	if _, err := f.Repair(t.Context()); err != nil || f.seen.waiting["three"].Count != 1 {
		t.Errorf("there wait %v, %v", f.seen.waiting, err)
	}
	f.clock.pass(2 * time.Minute)
	if next := f.deliver(t); !next.IsZero() || len(f.held(t)) > 0 {
		t.Errorf("kept is %q, the next attempt is at %v", f.held(t), next)
	}
	if rec := f.records(t)[name]; rec.Location("three") == nil || rec.Location("three").State != snapshot.StateReady {
		t.Errorf("the record: %+v", rec)
	}
}

// A backend that the save was not to write to, and that is configured, gets nothing.
func TestWhatIsKeptIsForTheChosenBackends(t *testing.T) {
	f, heal := keeper(t)
	name := f.keep(t, cluster.SaveRequest{Backends: []string{"one"}})
	heal("two")
	f.clock.pass(2 * time.Minute)
	f.deliver(t)
	f.isKept(t, name)
	if files := f.files(t, "two"); len(files) > 0 {
		t.Errorf("on two is %q", files)
	}
}

func TestOlderFallbackGoesByItsRevisionAndNotByAClockThatWasAhead(t *testing.T) {
	f, heal := keeper(t)
	f.clock.pass(year)
	old := f.keep(t, cluster.SaveRequest{})
	f.clock.pass(-year)
	for range 2 {
		f.stored.write()
		newest := f.keep(t, cluster.SaveRequest{})
		f.deliver(t)
		if held := f.held(t); !slices.Equal(held, []string{newest}) {
			t.Fatalf("kept is %q, want %s", held, newest)
		}
		f.isKept(t, newest)
		if rec := f.records(t)[old]; rec.FallbackNode() != "" {
			t.Errorf("the older one is kept on %s", rec.FallbackNode())
		}
		old = newest
	}
	heal("one", "two")
	f.delivered(t, old)
}

// otherHistories are what an etcd can have become when it is restored.
var otherHistories = map[string]func(f *fixture){
	"a new etcd":                   func(f *fixture) { f.stored.clusterID = "00000000000000ff" },
	"etcd as it was some time ago": func(f *fixture) { f.stored.n.Store(0) },
}

func TestNothingOfAnotherHistoryMakesWhatIsKeptUseless(t *testing.T) {
	for what, restored := range otherHistories {
		t.Run(what+", kept as well", func(t *testing.T) {
			f, heal := keeper(t)
			f.stored.write()
			first := f.keep(t, cluster.SaveRequest{})
			restored(f)
			second := f.keep(t, cluster.SaveRequest{})
			f.deliver(t)
			f.isKept(t, first, second)
			heal("one", "two")
			f.delivered(t, first, second)
		})
		t.Run(what+", stored", func(t *testing.T) {
			f, heal := keeper(t)
			f.stored.write()
			first := f.keep(t, cluster.SaveRequest{})
			restored(f)
			heal("one", "two")
			f.mustSave(t)
			f.clock.pass(2 * time.Minute)
			f.delivered(t, first)
		})
	}
}

// Once etcd has written more than it had before it was restored, its revisions are higher again, and it still does not
// have what it had then.
func TestNothingOfALaterHistoryMakesWhatIsKeptUseless(t *testing.T) {
	for what, restored := range otherHistories {
		t.Run(what+", kept as well", func(t *testing.T) {
			f, heal := keeper(t)
			f.stored.write()
			first := f.keep(t, cluster.SaveRequest{})
			restored(f)
			f.keep(t, cluster.SaveRequest{})
			f.deliver(t)
			f.stored.n.Store(2)
			last := f.keep(t, cluster.SaveRequest{})
			f.deliver(t)
			f.isKept(t, first, last)
			heal("one", "two")
			f.delivered(t, first, last)
		})
		t.Run(what+", kept as well by a catalog of the past", func(t *testing.T) {
			f, heal := keeper(t)
			f.stored.write()
			first := f.keep(t, cluster.SaveRequest{})
			restored(f)
			between := f.keep(t, cluster.SaveRequest{})
			f.stored.n.Store(2)
			last := f.keep(t, cluster.SaveRequest{})
			f.forget(t, first, between, last)
			f.deliver(t)
			f.isKept(t, first, last)
			heal("one", "two")
			f.delivered(t, first, last)
		})
		t.Run(what+", stored", func(t *testing.T) {
			f, heal := keeper(t)
			f.stored.write()
			first := f.keep(t, cluster.SaveRequest{})
			restored(f)
			heal("one", "two")
			f.mustSave(t)
			f.clock.pass(2 * time.Second)
			f.stored.n.Store(2)
			f.mustSave(t)
			f.clock.pass(2 * time.Minute)
			f.delivered(t, first)
		})
	}
}

// The record of a save that failed is forgotten after a day, and an outage may last longer.
func TestThatAHistoryHasEndedIsRemembered(t *testing.T) {
	f, heal := keeper(t)
	f.stored.write()
	first := f.keep(t, cluster.SaveRequest{})
	f.stored.n.Store(0)
	between := f.keep(t, cluster.SaveRequest{})
	f.deliver(t)
	f.stored.n.Store(2)
	f.keep(t, cluster.SaveRequest{})
	f.deliver(t)
	f.clock.pass(30 * time.Hour)
	f.mustReconcile(t)
	if f.records(t)[between] != nil {
		t.Fatal("the record of the snapshot that shows it is still there")
	}
	f.Cluster = f.replica(t)
	last := f.keep(t, cluster.SaveRequest{})
	f.deliver(t)
	f.isKept(t, first, last)
	heal("one", "two")
	f.delivered(t, first, last)
	if rec := f.records(t)[first]; rec.TimelineEnded() {
		t.Error("it is remembered when the snapshot is delivered")
	}
}

// The catalog alone cannot make what is kept go: it may be of another time, and others can write to it.
func TestWhatIsKeptStaysWhenTheNewerSnapshotIsInTheCatalogAlone(t *testing.T) {
	f, heal := keeper(t)
	name := f.keep(t, cluster.SaveRequest{})
	heal("one", "two")
	newer := f.mustSave(t)
	for _, backend := range []string{"one", "two"} {
		f.lose(t, backend, newer.Name)
	}
	f.deliver(t)
	f.isKept(t, name)
	f.clock.pass(2 * time.Minute)
	f.delivered(t, name)
}

// putKept writes a file of what is kept behind the service's back.
func (f *fixture) putKept(t *testing.T, key, content string) {
	t.Helper()
	err := f.cfg.Fallback.Put(t.Context(), "default/"+key, strings.NewReader(content), repository.PutOptions{ContentType: "application/json"})
	if err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) deleteKept(t *testing.T, key string) {
	t.Helper()
	if err := f.cfg.Fallback.Delete(t.Context(), "default/"+key); err != nil {
		t.Fatal(err)
	}
}

func TestWhatCannotBeDeliveredStaysAndIsToldOnce(t *testing.T) {
	for what, spoil := range map[string]func(f *fixture, name string){
		"its manifest is no manifest": func(f *fixture, name string) { f.putKept(t, name+".json", "{}") },
		"its manifest is gone, and its record names it": func(f *fixture, name string) {
			f.deleteKept(t, name+".json")
			f.clock.pass(2 * time.Hour)
		},
		"the catalog has another snapshot of its name": func(f *fixture, name string) {
			rec := f.records(t)[name]
			rec.StoredSHA256 = strings.Repeat("0", 64)
			if err := f.catalog.Update(t.Context(), rec); err != nil {
				t.Fatal(err)
			}
		},
		"its manifest is gone, and its save may still write it": func(f *fixture, name string) {
			f.deleteKept(t, name+".json")
			f.forget(t, name)
		},
	} {
		t.Run(what, func(t *testing.T) {
			var log strings.Builder
			f, heal := keeper(t)
			f.cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
			f.Cluster = f.replica(t)
			name := f.keep(t, cluster.SaveRequest{})
			spoil(f, name)
			heal("one", "two")
			for range 3 {
				f.clock.pass(2 * time.Minute)
				if next := f.deliver(t); next.IsZero() {
					t.Error("it is not looked at again")
				}
			}
			if held := f.held(t); len(held) != 1 {
				t.Errorf("kept is %q", held)
			}
			if n := strings.Count(log.String(), "cannot be delivered"); n != 1 {
				t.Errorf("it was told %d times: %s", n, log.String())
			}
		})
	}
}

func TestWhatAKilledSaveHasLeftHalfMadeGoes(t *testing.T) {
	f, _ := keeper(t)
	name := f.keepUnrecorded(t, cluster.SaveRequest{})
	f.deleteKept(t, name+".json")
	f.clock.pass(30 * time.Minute)
	if next := f.deliver(t); next.IsZero() || len(f.held(t)) != 1 {
		t.Errorf("kept is %q, the next look is at %v", f.held(t), next)
	}
	f.clock.pass(time.Hour)
	if next := f.deliver(t); !next.IsZero() || len(f.held(t)) > 0 {
		t.Errorf("kept is %q, the next look is at %v", f.held(t), next)
	}
}

func TestWhatAKilledSaveHasLeftInAFileOfItsOwnIsSwept(t *testing.T) {
	f, _ := keeper(t)
	name := f.keep(t, cluster.SaveRequest{})
	dir := filepath.Join(strings.TrimPrefix(f.cfg.Fallback.Info().Root, "file://"), "default")
	left, foreign := filepath.Join(dir, "killed.db.zst.0123abcd.tmp"), filepath.Join(dir, "notes.0123abcd.tmp")
	for _, path := range []string{left, foreign} {
		if err := os.WriteFile(path, []byte("half of it"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, f.clock.Now(), f.clock.Now()); err != nil {
			t.Fatal(err)
		}
	}
	there := func(path string) bool {
		_, err := os.Stat(path)
		return err == nil
	}
	f.clock.pass(50 * time.Minute)
	f.deliver(t)
	if !there(left) {
		t.Error("a file that a save may still be writing was removed")
	}
	f.clock.pass(20 * time.Minute)
	f.deliver(t)
	if there(left) || !there(foreign) {
		t.Errorf("the leftover is there: %v; a file of another program: %v", there(left), there(foreign))
	}
	f.isKept(t, name)
}

func TestFallbackWithoutItsDataIsToldAsLost(t *testing.T) {
	f, _ := keeper(t)
	name := f.keep(t, cluster.SaveRequest{})
	f.deleteKept(t, name+".db.zst")
	if next := f.deliver(t); !next.IsZero() || len(f.held(t)) > 0 {
		t.Errorf("kept is %q, the next look is at %v", f.held(t), next)
	}
	if rec := f.records(t)[name]; rec.FallbackNode() != "" || !strings.Contains(rec.ErrorText(), "is lost") {
		t.Errorf("kept on %q: %s", rec.FallbackNode(), rec.ErrorText())
	}
}

// Each replica has a disk of its own, and delivers what is on it.
func TestEachReplicaDeliversItsOwnFallback(t *testing.T) {
	f, heal := keeper(t)
	first := f.keep(t, cluster.SaveRequest{})
	other := f.replica(t, func(c *cluster.Config) { c.Node, c.Fallback = "node-2", ownPlace(t) })
	res, err := other.Save(t.Context(), cluster.SaveRequest{})
	if err == nil {
		t.Fatal("a backend took it")
	}
	if _, err := other.UploadFallback(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.isKept(t, first) // nobody but its own replica can tell
	heal("one", "two")
	f.clock.pass(2 * time.Minute)
	f.delivered(t, first)
	if next, err := other.UploadFallback(t.Context()); err != nil || !next.IsZero() {
		t.Errorf("the next look is at %v, %v", next, err)
	}
	if rec := f.records(t)[res.Snapshot.Name]; len(rec.ReadyOn()) == 0 {
		t.Errorf("the one of the other replica: %+v", rec)
	}
}

// The disk may have become read-only under it, or one file of it unreadable.
func TestWhatCannotBeRemovedKeepsNothingElseFromBeingDelivered(t *testing.T) {
	f, heal := keeper(t)
	old := f.keep(t, cluster.SaveRequest{})
	disk := &hookedBackend{Backend: f.cfg.Fallback, del: func(key string) error {
		if strings.Contains(key, old) {
			return errBroken
		}
		return nil
	}}
	f.cfg.Fallback = disk
	f.Cluster = f.replica(t)
	newer := f.keep(t, cluster.SaveRequest{}) // makes the old one useless
	heal("one", "two")
	f.clock.pass(2 * time.Minute)
	if _, err := f.UploadFallback(t.Context()); !errors.Is(err, errBroken) {
		t.Errorf("the error is %v", err)
	}
	if rec := f.records(t)[newer]; len(rec.ReadyOn()) == 0 || rec.FallbackNode() != "" {
		t.Errorf("the other one: %+v", rec)
	}
	if held := f.held(t); !slices.Equal(held, []string{old}) {
		t.Errorf("kept is %q", held)
	}
	disk.del = nil
	f.delivered(t, newer)
}

// A store that is another one shows nothing, though the files in it are right.
func TestWhatIsKeptStaysWhileTheBackendIsAnotherStore(t *testing.T) {
	f, heal := keeper(t)
	name := f.keep(t, cluster.SaveRequest{})
	f.clock.pass(2 * time.Minute)
	heal("one")
	f.backends["one"].get = func(key string) error {
		if key == snapshot.MarkerKey && len(f.files(t, "one")) == 2 {
			return errors.New("this is no marker")
		}
		return nil
	}
	f.deliver(t)
	if held := f.held(t); len(held) != 1 {
		t.Errorf("kept is %q", held)
	}
	f.backends["one"].get = nil
	heal("two")
	f.delivered(t, name)
}
