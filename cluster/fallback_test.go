package cluster_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage"
)

// keeper is a fixture whose replica has a place of its own, and whose backends take nothing.
func keeper(t *testing.T) (f *fixture, heal func(backends ...string)) {
	t.Helper()
	f = newFixture(t, func(c *cluster.Config) { c.Fallback = ownPlace(t) })
	for _, b := range f.backends {
		b.put = func(_ context.Context, key string, r io.Reader) error {
			if strings.HasPrefix(key, "default/") {
				return errBroken
			}
			return nil
		}
	}
	return f, func(names ...string) {
		for _, n := range names {
			f.backends[n].put = nil
		}
	}
}

func ownPlace(t *testing.T) repository.Backend {
	t.Helper()
	b, err := storage.New(storage.Config{Name: "kept", URL: "file://" + t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// held returns the names of the fallbacks.
func (f *fixture) held(t *testing.T) []string {
	t.Helper()
	entries, err := place(f.cfg.Fallback, nil).Entries(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name)
	}
	return names
}

func (f *fixture) deliver(t *testing.T) time.Time {
	t.Helper()
	next, err := f.UploadFallback(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func TestWhatNoBackendTookIsDeliveredWhenOneDoes(t *testing.T) {
	f, heal := keeper(t)
	req := cluster.SaveRequest{RequestID: "the-one"}
	res, err := f.Save(t.Context(), req)
	if err == nil || res.Snapshot.State() != snapshot.StateFailed || !strings.Contains(err.Error(), "kept on node-1 alone, until a backend takes it") {
		t.Fatalf("Save: %+v, %v", res.Snapshot, err)
	}
	name := res.Snapshot.Name
	rec := f.records(t)[name]
	if rec.FallbackNode() != "node-1" || !strings.HasSuffix(rec.ErrorText(), "; it is kept on node-1 until a backend takes it") {
		t.Errorf("the record says %q, kept on %q", rec.ErrorText(), rec.FallbackNode())
	}
	begin := f.clock.Now()
	if next := f.deliver(t); !next.After(begin.Add(30 * time.Second)) {
		t.Errorf("the next attempt is at %v, and it is %v", next, begin)
	}
	f.clock.pass(2 * time.Minute)
	next := f.deliver(t) // nobody takes it yet
	if !next.After(f.clock.Now()) || len(f.held(t)) != 1 {
		t.Errorf("the next attempt is at %v, and kept is %q", next, f.held(t))
	}
	f.clock.pass(30 * time.Hour)
	f.mustReconcile(t)
	if f.records(t)[name] == nil {
		t.Fatal("the record of what is kept was removed")
	}
	heal("two")
	if next := f.deliver(t); !next.IsZero() || len(f.held(t)) != 0 {
		t.Errorf("the next attempt is at %v, and kept is %q", next, f.held(t))
	}
	rec = f.records(t)[name]
	if rec.State() != snapshot.StatePartial || rec.Location("two").State != snapshot.StateReady || rec.FallbackNode() != "" {
		t.Errorf("after the delivery: %+v", rec)
	}
	heal("one")
	f.clock.pass(3 * time.Hour)
	if _, err := f.Repair(t.Context()); err != nil {
		t.Fatal(err)
	}
	again, err := f.Save(t.Context(), req)
	if err != nil || again.Snapshot.Name != name || again.Snapshot.State() != snapshot.StateReady {
		t.Errorf("the repeated request: %+v, %v", again.Snapshot, err)
	}
	f.whole(t, name)
}

// whole reads a snapshot back from both backends.
func (f *fixture) whole(t *testing.T, name string) {
	t.Helper()
	rec := f.records(t)[name]
	for _, b := range f.cfg.Backends {
		r, err := place(b, nil).OpenCopy(t.Context(), rec, age.Identities{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Errorf("backend %s: %v", b.Info().Name, err)
		}
		_ = r.Close()
	}
}

// A service that is started anew, a catalog that came back from the past.
func TestWhatIsKeptIsDeliveredByALaterProcessThatTheCatalogKnowsNothingOf(t *testing.T) {
	for _, known := range []bool{true, false} {
		f, heal := keeper(t)
		res, err := f.Save(t.Context(), cluster.SaveRequest{Labels: map[string]string{"a": "b"}})
		if err == nil {
			t.Fatal("it was stored")
		}
		if !known {
			f.forget(t, res.Snapshot.Name)
		}
		heal("one", "two")
		later := f.replica(t)
		f.clock.pass(2 * time.Minute)
		for range 2 { // the first one makes the record, if there is none
			if _, err := later.UploadFallback(t.Context()); err != nil {
				t.Fatal(err)
			}
			f.clock.pass(2 * time.Minute)
		}
		if _, err := later.Repair(t.Context()); err != nil {
			t.Fatal(err)
		}
		rec := f.records(t)[res.Snapshot.Name]
		if rec == nil || rec.State() != snapshot.StateReady || rec.Labels["a"] != "b" || len(f.held(t)) != 0 {
			t.Fatalf("known %v: %+v, kept is %q", known, rec, f.held(t))
		}
		f.whole(t, rec.Name)
	}
}

func TestNewestAloneIsKept(t *testing.T) {
	f, _ := keeper(t)
	var last string
	for range 3 {
		res, err := f.Save(t.Context(), cluster.SaveRequest{})
		if err == nil {
			t.Fatal("it was stored")
		}
		last = res.Snapshot.Name
		f.clock.pass(2 * time.Second)
		f.deliver(t)
		if held := f.held(t); len(held) != 1 || held[0] != last {
			t.Errorf("kept is %q, want %s", held, last)
		}
	}
	for name, rec := range f.records(t) {
		if (rec.FallbackNode() != "") != (name == last) {
			t.Errorf("%s is kept on %q", name, rec.FallbackNode())
		}
	}
}

func TestWhatIsKeptGivesWayToANewerSnapshot(t *testing.T) {
	f, heal := keeper(t)
	old, err := f.Save(t.Context(), cluster.SaveRequest{})
	if err == nil {
		t.Fatal("it was stored")
	}
	heal("one", "two")
	f.clock.pass(5 * time.Second)
	f.mustSave(t)
	f.clock.pass(5 * time.Minute)
	f.deliver(t)
	rec := f.records(t)[old.Snapshot.Name]
	if len(f.held(t)) != 0 || rec.State() != snapshot.StateFailed || rec.FallbackNode() != "" || strings.Contains(rec.ErrorText(), "kept on") {
		t.Errorf("kept is %q; the record: %+v", f.held(t), rec)
	}
}

// Whoever calls a save off wants nothing of it, and what was not whole is not kept.
func TestNothingIsKeptOfASaveThatWasCancelledOrIsNotWhole(t *testing.T) {
	f, _ := keeper(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f.source.open = func(s *cluster.Stream) (*cluster.Stream, error) {
		cancel()
		return s, nil
	}
	if _, err := f.Save(ctx, cluster.SaveRequest{}); snapshot.ReasonOf(err) != snapshot.ReasonCancelled {
		t.Fatalf("Save: %v", err)
	}
	f.source.open = func(s *cluster.Stream) (*cluster.Stream, error) {
		n := 0
		s.ReadCloser = reading{s.ReadCloser, func(p []byte) (int, error) {
			if n += len(p); n > 100<<10 {
				return 0, errBroken
			}
			return io.ReadFull(s.ReadCloser, p)
		}}
		return s, nil
	}
	if res, err := f.Save(t.Context(), cluster.SaveRequest{}); err == nil {
		t.Fatalf("Save: %+v", res.Snapshot)
	}
	if held := f.held(t); len(held) != 0 {
		t.Errorf("kept is %q", held)
	}
}

func TestMetricsShowWhatIsKept(t *testing.T) {
	f, _ := keeper(t)
	if _, err := f.Save(t.Context(), cluster.SaveRequest{}); err == nil {
		t.Fatal("it was stored")
	}
	f.clock.pass(10 * time.Minute)
	gets := f.backends["one"].gets.Load()
	if next, err := f.Repair(t.Context()); err != nil || !next.IsZero() {
		t.Errorf("repair: %v, %v; it has nothing to repair from", next, err)
	}
	if f.backends["one"].gets.Load() != gets {
		t.Error("repair tried what it cannot do")
	}
	if w := f.seen.waiting; w["one"].Count != 1 || w["two"].Count != 1 {
		t.Errorf("waiting: %v", w)
	}
}

// A change whose manifest cannot be written would make the fallback look like an older one that was put back: no
// backend would take it any more.
func TestTheFallbackIsNotUpdated(t *testing.T) {
	f, heal := keeper(t)
	res, err := f.Save(t.Context(), cluster.SaveRequest{})
	if err == nil {
		t.Fatal("a backend took it")
	}
	name := res.Snapshot.Name
	_, err = f.Update(t.Context(), cluster.UpdateRequest{Name: name, Pinned: new(true)})
	if snapshot.ReasonOf(err) != snapshot.ReasonConflict || !strings.Contains(err.Error(), "node-1") {
		t.Errorf("Update: %v", err)
	}
	heal("one", "two")
	f.clock.pass(2 * time.Minute)
	f.deliver(t)
	if _, err := f.Update(t.Context(), cluster.UpdateRequest{Name: name, Pinned: new(true)}); err != nil {
		t.Errorf("Update after the delivery: %v", err)
	}
	if rec := f.records(t)[name]; !rec.Pinned || rec.FallbackNode() != "" {
		t.Errorf("record %+v", rec)
	}
}

func TestDeletedFallbackDoesNotComeBack(t *testing.T) {
	f, heal := keeper(t)
	name := f.keep(t, cluster.SaveRequest{})
	other := f.replica(t, func(c *cluster.Config) { c.Node, c.Fallback = "node-2", ownPlace(t) })
	_, err := other.Delete(t.Context(), cluster.DeleteRequest{Name: name})
	if snapshot.ReasonOf(err) != snapshot.ReasonBackendOnOtherNode || !strings.Contains(err.Error(), "--retire-node node-1") {
		t.Errorf("Delete on another node: %v", err)
	}
	f.isKept(t, name)
	if rec, err := f.Delete(t.Context(), cluster.DeleteRequest{Name: name}); err != nil || rec != nil {
		t.Fatalf("Delete: %+v, %v", rec, err)
	}
	heal("one", "two")
	f.clock.pass(2 * time.Minute)
	if next := f.deliver(t); !next.IsZero() || len(f.held(t)) > 0 || len(f.records(t)) > 0 {
		t.Errorf("kept is %q, the catalog has %v, the next look is at %v", f.held(t), f.records(t), next)
	}
}

func TestFallbackThatIsDeletedWhileItIsDeliveredDoesNotComeBack(t *testing.T) {
	f, heal := keeper(t)
	name := f.keep(t, cluster.SaveRequest{})
	heal("one", "two")
	f.clock.pass(2 * time.Minute)
	f.backends["one"].put = func(_ context.Context, key string, _ io.Reader) error {
		if strings.HasSuffix(key, ".json") && strings.HasPrefix(key, "default/") {
			f.backends["one"].put = nil
			if _, err := f.Delete(t.Context(), cluster.DeleteRequest{Name: name}); err != nil {
				t.Error(err)
			}
		}
		return nil
	}
	f.deliver(t)
	f.mustReconcile(t)
	if files := f.files(t, "one"); len(files) > 0 || len(f.held(t)) > 0 || len(f.records(t)) > 0 {
		t.Errorf("left are %q, %q and %v", files, f.held(t), f.records(t))
	}
}
