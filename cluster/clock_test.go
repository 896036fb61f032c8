package cluster_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/snapshot/retention"
)

const year = 365 * 24 * time.Hour

// write puts a key, so that the next snapshot has another revision.
func (f *fixture) write(t *testing.T) {
	t.Helper()
	f.stored.write()
}

func (f *fixture) pruneOne(t *testing.T) []string {
	t.Helper()
	decisions, err := f.Prune(t.Context(), cluster.PruneRequest{Backends: []string{"one"}})
	if err != nil {
		t.Fatal(err)
	}
	return staying(t, decisions, "one")
}

func keeping(r retention.Rules) func(*cluster.Config) {
	return func(c *cluster.Config) { c.Retention = map[string]retention.Rules{"one": r} }
}

func TestASnapshotOfAFutureClockMakesNoOtherOld(t *testing.T) {
	for what, rules := range map[string]retention.Rules{
		"keep_within": {KeepWithin: 24 * time.Hour}, "recovery_window": {RecoveryWindow: 24 * time.Hour}, "keep_last": {KeepLast: 3},
	} {
		t.Run(what, func(t *testing.T) {
			f := newFixture(t, keeping(rules))
			good := f.scheduled(t, 2)
			f.clock.pass(year)
			wrong := f.scheduled(t, 1)
			f.clock.pass(-year)
			good = append(f.scheduled(t, 1), good...)
			if got, want := f.pruneOne(t), slices.Concat(wrong, good); !slices.Equal(got, want) {
				t.Errorf("%q stay, want %q", got, want)
			}
		})
	}
}

// While a clock is behind, what is saved looks older than all the rest, and would go as soon as it is there.
func TestTheNewestRevisionStaysWhateverItsTime(t *testing.T) {
	f := newFixture(t, keeping(retention.Rules{KeepLast: 1}))
	f.scheduled(t, 2)
	f.clock.pass(-year)
	f.write(t)
	newest := f.scheduled(t, 1)[0]
	if got := f.pruneOne(t); len(got) != 3 {
		t.Errorf("by the clock that is behind %q stay, want all", got)
	}
	f.clock.pass(year)
	if got := f.pruneOne(t); len(got) != 2 || got[1] != newest {
		t.Errorf("%q stay, want the newest by its time, and %s with the newest revision", got, newest)
	}
}

// Two clusters of one name, each with a catalog of its own, save to the same place.
func TestTheLastSnapshotOfAnotherEtcdStays(t *testing.T) {
	var log strings.Builder
	f := newFixture(t, keeping(retention.Rules{KeepLast: 2}), func(c *cluster.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	other := newFixture(t, func(c *cluster.Config) { c.Backends, c.Node = f.cfg.Backends, "node-2" })
	other.stored.clusterID = "00000000000000ff"
	f.scheduled(t, 1)
	other.clock.pass(time.Hour)
	last := other.scheduled(t, 2)[0]
	f.mustReconcile(t)
	if strings.Contains(log.String(), "two etcd clusters") {
		t.Error("one that may have been restored as the other is called two")
	}
	f.clock.pass(time.Minute + 3*time.Hour)
	own := f.scheduled(t, 3)
	f.mustReconcile(t)
	if !strings.Contains(log.String(), "two etcd clusters are saved to one place") {
		t.Error("nothing was said of two etcds in turns")
	}
	if got, want := f.pruneOne(t), []string{own[0], own[1], last}; !slices.Equal(got, want) {
		t.Errorf("%q stay, want %q", got, want)
	}

	// Nor does it go when somebody has written into its record that it is one of this etcd.
	id := f.records(t)[own[0]].EtcdClusterID
	f.edited(t, last, func(rec *snapshot.Record) { rec.EtcdClusterID = id })
	decisions, err := f.Prune(t.Context(), cluster.PruneRequest{Backends: []string{"one"}})
	if err != nil {
		t.Log(err)
	}
	i := slices.IndexFunc(decisions, func(d cluster.Decision) bool { return d.Name == last })
	if i < 0 || snapshot.ReasonOf(decisions[i].Err) != snapshot.ReasonConflict ||
		!strings.Contains(decisions[i].Err.Error(), id) || !strings.Contains(decisions[i].Err.Error(), "00000000000000ff") {
		t.Errorf("%+v", decisions)
	}
	f.kept(t, last)
}

// The outcome of another etcd's request must not be told to a caller of this one, though both have one name and one
// place.
func TestARequestOfAnotherEtcdIsNew(t *testing.T) {
	f := newFixture(t)
	other := newFixture(t, func(c *cluster.Config) { c.Backends, c.Node = f.cfg.Backends, "node-2" })
	other.stored.clusterID = "00000000000000ff"
	request := cluster.SaveRequest{RequestID: "nightly"}
	theirs, err := other.Save(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	f.mustReconcile(t)
	if f.records(t)[theirs.Snapshot.Name] == nil {
		t.Fatal("the other one's snapshot was not found")
	}
	f.clock.pass(time.Hour)
	ours, err := f.Save(t.Context(), request)
	if err != nil || ours.Snapshot.Name == theirs.Snapshot.Name {
		t.Fatalf("the request has led to %s, %v", ours.Snapshot.Name, err)
	}
	f.forget(t, slices.Collect(maps.Keys(f.records(t)))...)
	f.mustReconcile(t)
	if again, err := f.Save(t.Context(), request); err != nil || again.Snapshot.Name != ours.Snapshot.Name {
		t.Errorf("after the catalog was lost it has led to %s and not to %s, %v", again.Snapshot.Name, ours.Snapshot.Name, err)
	}
}

// A prune that is paused goes on when the newest snapshot, for the sake of which others may go, has been deleted.
func TestPausedPruneLeavesWhatHasBecomeTheLast(t *testing.T) {
	for what, at := range map[string]string{"before the record says DELETING": "get", "after it": "updated"} {
		t.Run(what, func(t *testing.T) {
			f := newFixture(t, keepLast(1))
			names := f.scheduled(t, 2)
			paused := f.replica(t, func(c *cluster.Config) {
				c.Records = &pausing{Records: f.catalog, at: at, name: names[1], pause: func() {
					if _, err := f.Delete(t.Context(), cluster.DeleteRequest{Name: names[0]}); err != nil {
						t.Error(err)
					}
				}}
			})
			decisions, err := paused.Prune(t.Context(), cluster.PruneRequest{Backends: []string{"one"}})
			if err != nil {
				t.Fatal(err)
			}
			if d := decisions[1]; snapshot.ReasonOf(d.Err) != snapshot.ReasonConflict || !strings.Contains(d.Err.Error(), "not READY there any more") {
				t.Errorf("%+v", d)
			}
			if rec := f.records(t)[names[1]]; rec == nil || rec.State() != snapshot.StateReady || len(f.files(t, "one")) != 2 {
				t.Errorf("left of the last snapshot: %+v, %q", rec, f.files(t, "one"))
			}
			if r := f.mustReconcile(t)["one"]; r.Removed > 0 || r.Unchanged != 1 {
				t.Errorf("reconcile: %+v", r)
			}
		})
	}
}

// pausing is a catalog that lets something happen once: before the record of a name is read, or after it was updated.
type pausing struct {
	cluster.Records
	at, name string
	pause    func()
}

func (p *pausing) once() {
	pause := p.pause
	p.pause = func() {}
	pause()
}

func (p *pausing) Get(ctx context.Context, name string) (*snapshot.Record, error) {
	if p.at == "get" && name == p.name {
		p.once()
	}
	return p.Records.Get(ctx, name)
}

func (p *pausing) Update(ctx context.Context, r *snapshot.Record) error {
	err := p.Records.Update(ctx, r)
	if p.at == "updated" && r.Name == p.name {
		p.once()
	}
	return err
}

func TestAFutureSnapshotDoesNotSupersedeWhatIsKept(t *testing.T) {
	f, heal := keeper(t)
	broken := f.backends["one"].put
	heal("one", "two")
	f.clock.pass(year)
	if _, err := f.replica(t).Save(t.Context(), cluster.SaveRequest{}); err != nil {
		t.Fatal(err)
	}
	f.clock.pass(-year)
	for _, b := range f.backends {
		b.put = broken
	}
	res, err := f.Save(t.Context(), cluster.SaveRequest{})
	if err == nil {
		t.Fatal("the save went well")
	}
	f.deliver(t)
	if got := f.held(t); !slices.Equal(got, []string{res.Snapshot.Name}) {
		t.Errorf("kept: %q, want %s", got, res.Snapshot.Name)
	}
}

func TestNamesFollowAClockThatWasPutRight(t *testing.T) {
	f := newFixture(t)
	f.clock.pass(year)
	f.mustSave(t)
	f.clock.pass(-year)
	s := f.mustSave(t)
	if !strings.HasSuffix(s.Name, fmt.Sprint("-", s.CreateTime.Unix())) {
		t.Errorf("a snapshot of %v is called %s", s.CreateTime, s.Name)
	}
}

// A replica whose clock is a year ahead notes when to try again; nobody waits a year for it.
func TestRepairDoesNotWaitForAFutureClock(t *testing.T) {
	f := newFixture(t)
	f.backends["two"].put = func(context.Context, string, io.Reader) error { return errBroken }
	f.clock.pass(year)
	if _, err := f.Save(t.Context(), cluster.SaveRequest{}); err == nil {
		t.Fatal("the save went well")
	}
	f.clock.pass(time.Hour)
	if _, err := f.Repair(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.clock.pass(-year)
	f.backends["two"].put = nil
	if next, err := f.Repair(t.Context()); err != nil || !next.IsZero() {
		t.Errorf("the next attempt is at %v, %v", next, err)
	}
	if got := f.files(t, "two"); len(got) != 2 {
		t.Errorf("backend two has %q", got)
	}
}

// The newest proof is in a metric, by which an alert tells that there is none.
func TestTheNewestProofIsNoneOfAFutureClock(t *testing.T) {
	drill := &fakeDriller{}
	f := newFixture(t, func(c *cluster.Config) { c.Driller = drill })
	s := f.mustSave(t)
	drill.said.TotalKeys = s.TotalKeys
	f.verify(t, s.Name, snapshot.LevelDrill)
	right := f.clock.Now()
	f.clock.pass(2 * time.Second)
	second := f.mustSave(t).Name
	f.clock.pass(year)
	f.verify(t, second, snapshot.LevelDrill)
	f.clock.pass(-year)
	f.mustReconcile(t)
	if got := f.seen.proven; !got.Equal(f.records(t)[s.Name].Proven()) || got.After(right) {
		t.Errorf("the newest proof is of %v, and it is %v", got, f.clock.Now())
	}
	if _, err := f.Delete(t.Context(), cluster.DeleteRequest{Name: s.Name}); err != nil {
		t.Fatal(err)
	}
	f.mustReconcile(t)
	if got := f.seen.proven; !got.IsZero() {
		t.Errorf("with that of the future alone, the newest proof is of %v", got)
	}
}

// Neither a snapshot of the future nor a verification in it keeps the scrub from what is due.
func TestScrubDoesNotBelieveAFutureClock(t *testing.T) {
	drill := &fakeDriller{}
	f := newFixture(t, func(c *cluster.Config) { c.Driller = drill })
	first := f.mustSave(t).Name
	f.clock.pass(year)
	future := f.mustSave(t).Name
	f.verify(t, first, snapshot.LevelChecksum)
	f.clock.pass(time.Hour - year)
	f.write(t)
	s := f.mustSave(t)
	newest := s.Name
	drill.said.TotalKeys = s.TotalKeys
	if err := f.Scrub(t.Context(), cluster.Scrub{Drill: true, Share: 50}); err != nil {
		t.Fatal(err)
	}
	records := f.records(t)
	if v := records[newest].Verification; v == nil || v.Level != snapshot.LevelDrill {
		t.Errorf("the newest: %+v", v)
	}
	if v := records[future].Verification; v != nil && v.Level == snapshot.LevelDrill {
		t.Error("the one of the future was taken for the newest")
	}
	if err := f.Scrub(t.Context(), cluster.Scrub{Share: 100}); err != nil {
		t.Fatal(err)
	}
	if v := f.records(t)[first].Verification; v == nil || v.Time.After(f.clock.Now()) {
		t.Errorf("the first: %+v", v)
	}
}
