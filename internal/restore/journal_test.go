package restore_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/etcd/member"
	"github.com/snapshotd/snapshotd/internal/restore"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/journal/upkeep"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/repository/signing"
	"github.com/snapshotd/snapshotd/snapshot"
)

// TestJournalLeadsToTheEtcdOfThatRevision is the oracle of replay: an etcd is changed at random, compacted, saved and
// journaled; revisions and times of it are restored elsewhere, from any snapshot before, and compared: HashKV with its
// compact revision, all keys, all leases. SNAPSHOTD_JOURNAL_SEEDS is how many histories are tried, of 16 targets each.
func TestJournalLeadsToTheEtcdOfThatRevision(t *testing.T) {
	t.Parallel()
	seeds := 1
	if n, err := strconv.Atoi(os.Getenv("SNAPSHOTD_JOURNAL_SEEDS")); err == nil {
		seeds = n
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			o := newOracle(t, seed)
			for i := range 16 {
				o.check(t, i)
			}
			t.Logf("%d of 16 targets by the journal, %d segments; leases exact: %t", o.replayed, len(o.sealed), o.exact)
			if o.replayed < 6 {
				t.Errorf("only %d targets were reached by the journal", o.replayed)
			}
		})
	}
}

// oracle is a history with its journal on two backends.
type oracle struct {
	*recorder
	rnd      *rand.Rand
	backends [2]*memory.Backend
	bases    map[string]int64 // the revisions of the snapshots
	exact    bool             // leases were asked for after each change
	replayed int              // targets for which the journal was used
}

func newOracle(t *testing.T, seed uint64) *oracle {
	t.Helper()
	o := &oracle{rnd: rand.New(rand.NewPCG(seed, 3)), bases: map[string]int64{}}
	for i := range o.backends {
		o.backends[i] = memory.New(fmt.Sprint("backend-", i), snapshot.BackendS3)
	}
	h := embedded.NewHistory(t, seed)
	h.Change(t, 20+o.rnd.IntN(50))
	from := h.Revision() + 1
	if o.rnd.IntN(2) == 0 {
		from = 2 // the journal overlaps the first snapshot
	}
	o.recorder = record(t, h, from, dayBefore, o.backends[0], o.backends[1])
	o.sync(t)
	o.exact = o.rnd.IntN(2) == 0
	for part := range 4 {
		o.base(t)
		for range 60 + o.rnd.IntN(60) {
			o.step(t, part)
		}
	}
	o.seal(t)
	return o
}

func (o *oracle) base(t *testing.T) {
	t.Helper()
	name, revision := o.save(t, o.backends[0], o.backends[1])
	o.bases[name] = revision
}

// step changes the etcd, and journals that.
func (o *oracle) step(t *testing.T, part int) {
	t.Helper()
	o.Change(t, 1)
	if !o.exact && o.rnd.IntN(3) > 0 {
		return
	}
	o.sync(t)
	if o.rnd.IntN(3) == 0 {
		o.sample(t)
	}
	switch n := o.rnd.IntN(40); {
	case n < 6:
		o.seal(t)
	case n == 6 && part > 0 && o.Revision() > 40:
		o.compact(t, o.Revision()-1-o.rnd.Int64N(30))
	}
}

// choice returns a choice that leads to a revision, in one of the ways in which an operator may give it.
func (o *oracle) choice(t *testing.T, revision int64, i int) restore.Choice {
	t.Helper()
	switch i % 3 {
	case 0:
		return restore.Choice{Revision: revision}
	case 1: // within the second before the next one
		return restore.Choice{At: o.times[revision].Add(time.Duration(o.rnd.IntN(900)) * time.Millisecond)}
	}
	var before []string
	for name, base := range o.bases {
		if base <= revision {
			before = append(before, name)
		}
	}
	slices.Sort(before)
	return restore.Choice{Name: before[o.rnd.IntN(len(before))], Revision: revision}
}

func (o *oracle) check(t *testing.T, i int) {
	t.Helper()
	first := int64(1 << 62)
	for _, base := range o.bases {
		first = min(first, base)
	}
	var targets []int64
	for revision := range o.moments {
		if revision >= first && !o.times[revision].IsZero() {
			targets = append(targets, revision)
		}
	}
	slices.Sort(targets)
	revision := targets[o.rnd.IntN(len(targets))]
	c := o.choice(t, revision, i)
	opts := options(t, c, o.backends[0], o.backends[1])
	res, err := restore.Run(t.Context(), opts)
	if err != nil {
		t.Fatalf("revision %d by %+v: %v", revision, c, err)
	}
	defer func() { _ = os.RemoveAll(opts.DataDir) }() // now, as the log of each etcd takes 128 MB
	if len(res.Skipped) > 0 {
		t.Errorf("revision %d by %+v: left out: %v", revision, c, res.Skipped)
	}
	restored := embedded.StartEtcd(t, func(cfg *member.Config) { cfg.Dir = opts.DataDir })
	defer restored.Close(t)
	if res.Replayed == nil { // a snapshot holds the revision; TestMakeAtMakesTheEtcdOfThatRevision compares these
		if c.Revision == 0 || c.Name != "" && o.bases[c.Name] < revision {
			t.Errorf("revision %d by %+v: the journal was not used", revision, c)
		}
		return
	}
	o.replayed++
	if r := res.Replayed; r.Revision != revision || r.TotalKeys != int64(len(o.moments[revision].Keys)) || len(r.Gaps) > 0 {
		t.Errorf("revision %d by %+v: %+v", revision, c, r)
	}
	o.compare(t, restored, revision, o.exact)
}

// faulted is a history of which snapshots and journal are on two backends: a snapshot, four segments, a snapshot, four
// segments. All is compacted away at its end but on the way there, so that the journal alone leads to most revisions.
type faulted struct {
	*recorder
	backends [2]*memory.Backend
	names    [2]string
	bases    [2]int64
	trust    *signing.Trust // nil while signatures are not asked for
}

func newFaulted(t *testing.T, seed uint64) *faulted {
	t.Helper()
	return newHistory(t, seed, dayBefore, twoBackends())
}

// twoBackends returns backends that hold nothing.
func twoBackends() (backends [2]*memory.Backend) {
	for i := range backends {
		backends[i] = memory.New(fmt.Sprint("backend-", i), snapshot.BackendS3)
	}
	return backends
}

// dayBefore is when journals begin.
var dayBefore = now.Add(-24 * time.Hour)

// newHistory stores a history that begins at a time.
func newHistory(t *testing.T, seed uint64, begin time.Time, backends [2]*memory.Backend) *faulted {
	t.Helper()
	f := &faulted{backends: backends}
	h := embedded.NewHistory(t, seed)
	h.Change(t, 30)
	f.recorder = record(t, h, h.Revision()+1, begin, f.backends[0], f.backends[1])
	for i := range f.names {
		f.Compact(t, f.Revision()) // a snapshot holds its own revision alone
		f.names[i], f.bases[i] = f.save(t, f.backends[0], f.backends[1])
		for range 4 {
			for range 12 {
				f.Change(t, 1)
				f.sync(t)
				f.sample(t)
			}
			f.seal(t)
		}
	}
	return f
}

// options are those of a restore from both backends.
func (f *faulted) options(t *testing.T, c restore.Choice) restore.Options {
	t.Helper()
	o := options(t, c, f.backends[0], f.backends[1])
	if f.trust != nil {
		for i, b := range f.backends {
			o.Repositories[i] = repository.New(repository.Config{Backend: b, Cluster: "default", Prefix: "default/", Trust: f.trust})
		}
	}
	return o
}

// plan returns what would be restored.
func (f *faulted) plan(t *testing.T, c restore.Choice) (restore.Result, error) {
	t.Helper()
	return restore.Plan(t.Context(), f.options(t, c))
}

// run restores a revision, and compares it; but not the leases without keys, which the next segment may show.
func (f *faulted) run(t *testing.T, c restore.Choice, revision int64) restore.Result {
	t.Helper()
	e, res := started(t, f.options(t, c))
	defer e.Close(t)
	f.compare(t, e, revision, false)
	return res
}

// latest is a snapshot. Whoever restores it must know that the journal has more.
func TestLatestTellsThatTheJournalGoesOn(t *testing.T) {
	t.Parallel()
	f := newFaulted(t, 5)
	latest := restore.Choice{Latest: true}
	for what, run := range map[string]func(context.Context, restore.Options) (restore.Result, error){"plan": restore.Plan, "run": restore.Run} {
		res, err := run(t.Context(), options(t, latest, f.backends[0], f.backends[1]))
		if err != nil || res.Snapshot.Name != f.names[1] || res.Later != f.revision {
			t.Errorf("%s: the journal goes on to %d, and not %d (%v)", what, res.Later, f.revision, err)
		}
		res, err = run(t.Context(), options(t, restore.Choice{Name: f.names[0]}, f.backends[0], f.backends[1]))
		if err != nil || res.Later != 0 {
			t.Errorf("%s by name: the journal goes on to %d (%v)", what, res.Later, err)
		}
	}
}

// The cluster was replaced by another one, and its journal was left. It does not go on behind a snapshot of the new one.
func TestLatestIsSilentAboutTheJournalOfAnotherCluster(t *testing.T) {
	t.Parallel()
	f := newFaulted(t, 5)
	data := testenv.Stored(t, 0).Data
	name := storeData(t, f.backends[0], now.Sub(f.clock)-time.Hour, data, func(s *snapshot.Snapshot) {
		s.EtcdClusterID = fmt.Sprintf("%016x", f.timeline.EtcdCluster()+1)
	})
	for what, run := range map[string]func(context.Context, restore.Options) (restore.Result, error){"plan": restore.Plan, "run": restore.Run} {
		res, err := run(t.Context(), f.options(t, restore.Choice{Latest: true}))
		if err != nil || res.Snapshot.Name != name || res.Snapshot.Revision >= f.revision {
			t.Fatalf("%s: %+v, %v", what, res, err)
		}
		if res.Later != 0 {
			t.Errorf("%s: the journal goes on to revision %d", what, res.Later)
		}
	}
}

// A hole is known to the plan of every target, and stops those behind it alone.
func TestTimeInAHoleStopsBeforeIt(t *testing.T) {
	t.Parallel()
	f := newFaulted(t, 12)
	second := f.sealed[1]
	for _, b := range f.backends {
		f.spoil(t, b, second.First, func(string, []byte) []byte { return nil })
	}
	at := f.times[second.First+3]
	res := f.run(t, restore.Choice{At: at}, second.First-1)
	m := res.Replayed.Moment
	if m.Gap == nil || m.Gap.First != second.First || m.Gap.Last != second.Last || m.Upper != 0 {
		t.Errorf("the time is %+v", m)
	}
	if len(res.Replayed.Gaps) != 1 || res.Replayed.Gaps[0] != *m.Gap {
		t.Errorf("the holes are %v", res.Replayed.Gaps)
	}
}

// The newest segments cannot be read. What is older than it could be is never restored without a word: damage is named
// with what is lost, and what is only away ends the restore.
func TestASegmentThatCannotBeReadForATimeIsNamed(t *testing.T) {
	t.Parallel()
	f := newFaulted(t, 23)
	last := f.sealed[len(f.sealed)-1]
	before, atEnd := last.First-1, f.clock.Add(time.Hour)
	for name, b := range map[string]*faulty{
		"its data":     {Backend: f.backends[0], get: failOn(last.Name()+".seg", snapshot.ReasonBackendUnavailable.New("get it").On("backend-0"))},
		"its manifest": {Backend: f.backends[0], get: failOn(last.Name()+".json", snapshot.ReasonBackendUnavailable.New("get it").On("backend-0"))},
	} {
		res, err := restore.Plan(t.Context(), options(t, restore.Choice{At: atEnd}, b))
		if snapshot.ReasonOf(err) != snapshot.ReasonBackendUnavailable || !strings.Contains(err.Error(), "nothing was restored") {
			t.Errorf("%s is away: %+v of %+v, %v", name, res, res.Replayed, err)
		}
		res, err = restore.Plan(t.Context(), options(t, restore.Choice{At: atEnd, AcceptOlder: true}, b))
		if err != nil || res.Replayed.Revision != before || len(res.Skipped) != 1 {
			t.Errorf("%s is away, and an older state is accepted: %+v, left out: %v, %v", name, res.Replayed, res.Skipped, err)
		}
		// What was complete before it needs nothing of it.
		if res, err := restore.Plan(t.Context(), options(t, restore.Choice{At: f.times[f.sealed[1].First]}, b)); err != nil || len(res.Skipped) > 0 {
			t.Errorf("%s is away: of a time before it, %v is left out, %v", name, res.Skipped, err)
		}
		// The other backend has it.
		if res, err := restore.Plan(t.Context(), options(t, restore.Choice{At: atEnd}, b, f.backends[1])); err != nil || res.Replayed.Revision != last.Last {
			t.Errorf("%s is away on one backend: %+v, %v", name, res.Replayed, err)
		}
	}
	for _, b := range f.backends {
		f.spoil(t, b, last.First, func(_ string, content []byte) []byte { return content[:len(content)/2] })
	}
	res, err := f.plan(t, restore.Choice{At: atEnd})
	if err != nil || res.Replayed.Revision != before || len(res.Skipped) != 1 || !strings.Contains(fmt.Sprint(res.Skipped), last.Name()) {
		t.Fatalf("a damaged end: %+v, left out: %v, %v", res.Replayed, res.Skipped, err)
	}
	if g := res.Replayed.Moment.Gap; g == nil || g.First != last.First || g.Last != last.Last {
		t.Errorf("a damaged end: %v are said to be lost", g)
	}
}

// A clock that goes wrong for a while hides nothing from whoever asks for the newest state. Of an earlier time, nothing
// is restored that arrived later.
func TestNowIsTheNewestStateWhateverTheClockSaid(t *testing.T) {
	t.Parallel()
	f := newFaulted(t, 28)
	before, calm := f.revision, f.clock
	more := func(clock time.Time) {
		f.clock = clock
		for range 12 {
			f.Change(t, 1)
			f.sync(t)
			f.sample(t)
		}
		f.seal(t)
	}
	more(now.Add(48 * time.Hour))
	f.run(t, restore.Choice{At: now}, f.revision)
	if res, err := f.plan(t, restore.Choice{At: calm.Add(time.Second / 2)}); err != nil || res.Replayed == nil || res.Replayed.Revision != before {
		t.Errorf("at a time before, it is %+v, %v", res.Replayed, err)
	}
	more(calm.Add(time.Hour))
	f.run(t, restore.Choice{At: now}, f.revision)
	if res, err := f.plan(t, restore.Choice{At: now.Add(-time.Minute)}); err != nil || res.Replayed == nil || f.times[res.Replayed.Revision].After(now) {
		t.Errorf("at a time after, it is %+v, %v", res.Replayed, err)
	}
}

// A timeline has the second of its beginning in its name, and its first revision comes later.
func TestATimeAtTheBeginningOfATimelineIsOfTheOneBefore(t *testing.T) {
	t.Parallel()
	f := newFaulted(t, 24)
	end := f.sealed[len(f.sealed)-1].Last
	begin := f.clock.Add(time.Minute)
	newHistory(t, 25, begin, f.backends)
	res, err := f.plan(t, restore.Choice{At: begin.Add(500 * time.Millisecond)})
	if err != nil || res.Replayed == nil || res.Replayed.Timeline != f.timeline || res.Replayed.Revision != end {
		t.Errorf("it leads to %+v, and not to revision %d: %v", res.Replayed, end, err)
	}
}

// A timeline has begun, and its first snapshot is still to come: that one holds the revisions before it.
func TestATimeBeforeTheFirstSnapshotOfATimelineIsInThatSnapshot(t *testing.T) {
	t.Parallel()
	f := &faulted{backends: twoBackends()}
	h := embedded.NewHistory(t, 27)
	h.Change(t, 30)
	f.recorder = record(t, h, h.Revision()+1, dayBefore, f.backends[0])
	for range 20 {
		f.Change(t, 1)
		f.sync(t)
		f.sample(t)
	}
	f.seal(t)
	name, _ := f.save(t, f.backends[0])
	revision := f.sealed[0].First + 3
	e, res := started(t, options(t, restore.Choice{At: f.times[revision].Add(time.Millisecond)}, f.backends[0]))
	defer e.Close(t)
	if res.Snapshot.Name != name || res.Past == nil || res.Past.Revision != revision || res.Moment == nil || res.Moment.Revision != revision || len(res.Skipped) > 0 {
		t.Fatalf("%+v of %+v, left out: %v", res.Past, res.Snapshot, res.Skipped)
	}
	if got := e.At(t, revision); got.Hash != f.moments[revision].Hash {
		t.Errorf("the hash is %+v, want %+v", got.Hash, f.moments[revision].Hash)
	}
}

func TestTimeIsBracketed(t *testing.T) {
	t.Parallel()
	f := newFaulted(t, 13)
	revision := f.sealed[1].First + 2
	res, err := f.plan(t, restore.Choice{At: f.times[revision].Add(500 * time.Millisecond)})
	if err != nil {
		t.Fatal(err)
	}
	m := res.Replayed.Moment
	if m.Revision != revision || !m.Arrived.Equal(f.times[revision]) || m.Upper < revision || m.Upper > revision+5 || m.Gap != nil {
		t.Errorf("the moment is %+v, of revision %d", m, revision)
	}
	// The last one of a segment: the proof is in the next.
	revision = f.sealed[1].Last
	res, err = f.plan(t, restore.Choice{At: f.times[revision].Add(500 * time.Millisecond)})
	if err != nil || res.Replayed.Revision != revision || res.Replayed.Moment.Upper < revision {
		t.Errorf("%+v, %v", res.Replayed, err)
	}
	// Behind the end of the journal, nothing is proven.
	revision = f.sealed[len(f.sealed)-1].Last
	res, err = f.plan(t, restore.Choice{At: f.clock.Add(time.Hour)})
	if err != nil || res.Replayed.Revision != revision || res.Replayed.Moment.Upper != 0 || res.Replayed.Moment.Complete.IsZero() {
		t.Errorf("%+v, %v", res.Replayed, err)
	}
	// A snapshot that is newer than the journal is taken as it is.
	f.Change(t, 5)
	f.clock = f.clock.Add(time.Hour)
	name, _ := f.save(t, f.backends[0], f.backends[1])
	res, err = f.plan(t, restore.Choice{At: f.clock.Add(time.Hour)})
	if err != nil || res.Replayed != nil || res.Snapshot.Name != name {
		t.Errorf("%+v, %v", res, err)
	}
	// Before the journal, the snapshots are all that there is.
	if res, err := f.plan(t, restore.Choice{At: now.Add(-48 * time.Hour)}); snapshot.ReasonOf(err) != snapshot.ReasonSnapshotNotFound {
		t.Errorf("before all: %+v, %v", res, err)
	}
}

// A snapshot of another history under the same id of the cluster is not taken for a base, though its revision and its
// time would fit: its records are not those of the journal.
func TestSnapshotOfAnotherHistoryIsNoBase(t *testing.T) {
	t.Parallel()
	f, other := newFaulted(t, 14), newFaulted(t, 15)
	target := other.bases[1] + 3
	if other.bases[1] < f.sealed[0].First || target > f.sealed[7].Last {
		t.Fatalf("the histories have nothing in common: %s from %d, %s with %d", f.timeline, f.sealed[0].First, other.timeline, other.bases[1])
	}
	for i, b := range f.backends {
		for _, key := range b.Keys() {
			if strings.Contains(key, f.names[1]) {
				b.Remove(key)
			}
		}
		for _, key := range other.backends[i].Keys() {
			if strings.Contains(key, other.names[1]) {
				b.Set(key, other.backends[i].Content(key))
			}
		}
	}
	res, err := f.plan(t, restore.Choice{Revision: target})
	if err != nil || res.Snapshot.Name != f.names[0] || res.Replayed == nil {
		t.Fatalf("%+v, %v", res, err)
	}
	if text := fmt.Sprint(res.Skipped); !strings.Contains(text, other.names[1]) || !strings.Contains(text, "another history") {
		t.Errorf("left out: %s", text)
	}
	// Alone, it is an error that says so.
	_, err = f.plan(t, restore.Choice{Name: other.names[1], Revision: target})
	if err == nil || !strings.Contains(err.Error(), "no snapshot of that history") {
		t.Errorf("by its name: %v", err)
	}
}

// When etcd was restored, its revisions are there twice. A number alone is refused; a time, and a name, say which one.
func TestRevisionOfTwoTimelinesIsRefused(t *testing.T) {
	t.Parallel()
	f := newFaulted(t, 16)
	later := newHistory(t, 17, f.clock.Add(time.Hour), f.backends)
	target := later.sealed[1].First + 1
	if later.timeline == f.timeline || target < f.sealed[0].First || target > f.sealed[7].Last || target >= f.bases[1] {
		t.Fatalf("the histories have nothing in common: %d", target)
	}
	_, err := f.plan(t, restore.Choice{Revision: target})
	if snapshot.ReasonOf(err) != snapshot.ReasonInvalidArgument || !strings.Contains(err.Error(), string(f.timeline)) ||
		!strings.Contains(err.Error(), string(later.timeline)) {
		t.Errorf("a revision of two histories: %v", err)
	}
	f.run(t, restore.Choice{Name: f.names[0], Revision: target}, target)
	later.run(t, restore.Choice{Name: later.names[0], Revision: target}, target)
	f.run(t, restore.Choice{At: f.times[target]}, target)
	later.run(t, restore.Choice{At: later.times[target]}, target)
}

// The name of a snapshot can have a later second than the snapshot, because it must be a new one. etcd was restored in
// that second, and to this snapshot: both histories go on from it. It is a base of the one in which it was taken.
func TestASnapshotIsOfTheHistoryInWhichItWasTaken(t *testing.T) {
	t.Parallel()
	f := &faulted{backends: twoBackends()}
	h := embedded.NewHistory(t, 18)
	h.Change(t, 30)
	begin := dayBefore.Truncate(time.Second)
	f.recorder = record(t, h, h.Revision()+1, begin, f.backends[0], f.backends[1])
	f.clock = begin.Add(900 * time.Millisecond)
	s := save(t, f.Etcd)
	var name string
	for _, b := range f.backends {
		name = s.put(t, b, form{cluster: fmt.Sprintf("%016x", f.timeline.EtcdCluster()), late: true}, now.Sub(f.clock))
	}
	for range 12 {
		f.Change(t, 1)
		f.sync(t)
		f.sample(t)
	}
	f.seal(t)
	after, err := segment.NewBuilder(segment.Header{
		Timeline: segment.NewTimeline(etcdCluster, begin.Add(time.Second)), Level: segment.Level10s, Reason: segment.CauseRestored.Reason("a test"),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entriesOf(t, f.places[0], f.sealed[0]) {
		if err := after.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	restored, err := after.Seal()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range f.places {
		if err := p.Put(t.Context(), restored); err != nil {
			t.Fatal(err)
		}
	}
	target := f.sealed[0].Last - 1
	if res := f.run(t, restore.Choice{Name: name, Revision: target}, target); res.Replayed == nil || res.Replayed.Timeline != f.timeline {
		t.Errorf("it leads to %+v, want the history of %s", res.Replayed, f.timeline)
	}
}

// A replica was stopped before it asked etcd for leases. The one that begins the next timeline asks for all that are
// there: restored from the first timeline, they have the time to live that they were granted.
func TestATimeToLiveIsTakenFromTheNextTimeline(t *testing.T) {
	t.Parallel()
	f := &faulted{backends: twoBackends()}
	h := embedded.NewHistory(t, 41)
	h.Change(t, 30)
	f.recorder = record(t, h, h.Revision()+1, dayBefore, f.backends[0], f.backends[1])
	f.save(t, f.backends[0], f.backends[1])
	client := h.Client(t)
	granted := map[int64]int64{} // with keys, without keys, and one that ends before anybody asks
	for i, key := range []string{"/held", "", "/ended"} {
		lease, err := client.Grant(t.Context(), 4321+int64(i))
		if err == nil && key != "" {
			_, err = client.Put(t.Context(), key, "", clientv3.WithLease(lease.ID))
		}
		if err != nil {
			t.Fatal(err)
		}
		granted[int64(lease.ID)], f.known[int64(lease.ID)] = 4321+int64(i), true
	}
	f.Change(t, 1)
	f.sync(t)
	f.sample(t)
	f.seal(t)
	target := f.revision
	check := func(what string, estimated int64, from ...segment.Timeline) restore.Result {
		t.Helper()
		e, res := started(t, options(t, restore.Choice{Revision: target}, f.backends[0], f.backends[1]))
		defer e.Close(t)
		f.compare(t, e, target, false)
		ttls, _ := e.Leases(t)
		guessed := int64(0)
		for id, ttl := range granted {
			switch ttls[id] {
			case ttl:
			case 3600:
				guessed++
			default:
				t.Errorf("%s: the lease %x has %d s, and was granted %d", what, id, ttls[id], ttl)
			}
		}
		if l := res.Replayed.Leases; l.Estimated != estimated || guessed != estimated || !slices.Equal(l.From, from) {
			t.Errorf("%s: the leases are %+v, and %d have the estimate", what, l, guessed)
		}
		return res
	}
	check("alone", 3)
	for id, ttl := range granted {
		if ttl == 4323 {
			if _, err := client.Revoke(t.Context(), clientv3.LeaseID(id)); err != nil {
				t.Fatal(err)
			}
		}
	}
	next := record(t, h, h.Revision(), f.clock.Add(time.Minute), f.backends[0], f.backends[1])
	next.sync(t)
	next.seal(t)
	if res := check("with the next timeline", 1, next.timeline); len(res.Skipped) > 0 {
		t.Errorf("left out: %v", res.Skipped)
	}
	// What cannot be read leaves the estimate, and is named.
	for _, b := range f.backends {
		next.spoil(t, b, next.revision, func(_ string, content []byte) []byte { return content[:len(content)/2] })
	}
	if res := check("with a damaged one", 3); len(res.Skipped) != 2 || !strings.Contains(fmt.Sprint(res.Skipped), next.sealed[0].Name()) {
		t.Errorf("left out: %v", res.Skipped)
	}
}

// Snapshots on both sides of a restore of etcd hold the same number. The later one is already beyond the earlier one, so
// that their revisions alone do not show it: the journal does, also when the beginning of the later timeline is gone.
func TestARevisionOnBothSidesOfARestoreIsRefused(t *testing.T) {
	t.Parallel()
	for reason, tc := range map[string]struct{ pruned, refused, compared, one bool }{
		segment.CauseRestored.Reason("an earlier state"):             {refused: true},
		segment.CauseRestored.Reason("an earlier state, long"):       {refused: true, pruned: true},
		segment.CauseBehind.Reason("too much was missed"):            {one: true},
		segment.CauseBehind.Reason("a restore was missed, which is"): {refused: true, compared: true},
	} {
		f := &faulted{backends: twoBackends()}
		var names []string
		var first *recorder
		var h *embedded.History
		for i, changes := range []int{60, 120} {
			if i == 0 || !tc.one {
				h = embedded.NewHistory(t, uint64(51+i))
			}
			h.Change(t, changes)
			begin := dayBefore
			if i > 0 {
				begin = first.clock.Add(time.Minute)
			}
			f.recorder = record(t, h, h.Revision(), begin, f.backends[0])
			if i > 0 {
				f.begin(t, segment.Header{Timeline: f.timeline, Level: segment.Level10s, Reason: reason})
			} else {
				first = f.recorder
			}
			for range 2 {
				f.sync(t)
				f.seal(t)
				f.Change(t, 5)
			}
			f.sync(t)
			f.seal(t)
			name, _ := f.save(t, f.backends[0])
			names = append(names, name)
		}
		if tc.pruned {
			f.spoil(t, f.backends[0], f.sealed[0].First, func(string, []byte) []byte { return nil })
		}
		target := first.revision - 20
		res, err := f.plan(t, restore.Choice{Revision: target})
		if !tc.refused && (err != nil || res.Past == nil || res.Past.Revision != target) {
			t.Errorf("%s: %+v, %v", reason, res, err)
		}
		// Of what both snapshots hold and no journal does, the older one is taken: nothing shows that it is another one.
		if tc.refused && !tc.compared && (snapshot.ReasonOf(err) != snapshot.ReasonInvalidArgument ||
			!strings.Contains(err.Error(), names[0]) || !strings.Contains(err.Error(), names[1]) ||
			!strings.Contains(err.Error(), string(f.timeline))) {
			t.Errorf("%s: %+v, %v", reason, res, err)
		}
		for _, name := range names {
			if res, err := f.plan(t, restore.Choice{Name: name, Revision: target}); err != nil || res.Snapshot.Name != name || res.Past.Revision != target {
				t.Errorf("%s, by the name %s: %+v, %v", reason, name, res, err)
			}
		}
		// The earlier journal has it, and the later snapshot alone holds it.
		for _, key := range f.backends[0].Keys() {
			if strings.Contains(key, names[0]) {
				f.backends[0].Remove(key)
			}
		}
		res, err = f.plan(t, restore.Choice{Revision: first.revision - 3})
		if !tc.refused && (err != nil || res.Snapshot.Name != names[1] || res.Past.Revision != first.revision-3) ||
			tc.refused && (snapshot.ReasonOf(err) != snapshot.ReasonInvalidArgument || !strings.Contains(err.Error(), string(first.timeline))) {
			t.Errorf("%s, of the earlier journal: %+v, %v", reason, res, err)
		}
		if tc.one {
			made, _ := started(t, options(t, restore.Choice{Revision: first.revision - 3}, f.backends[0], f.backends[1]))
			if got, want := made.At(t, first.revision-3), h.At(t, first.revision-3); got.Hash != want.Hash {
				t.Errorf("%s: it has the hash %+v, want %+v", reason, got.Hash, want.Hash)
			}
			made.Close(t)
		}
		if !tc.compared {
			continue
		}
		// The earlier journal cannot be read.
		for _, key := range f.backends[0].Keys() {
			if strings.Contains(key, string(first.timeline)) && strings.HasSuffix(key, ".seg") {
				f.backends[0].Set(key, []byte("rubbish"))
			}
		}
		_, err = f.plan(t, restore.Choice{Revision: first.revision - 3})
		if snapshot.ReasonOf(err) != snapshot.ReasonInvalidArgument || !strings.Contains(err.Error(), "cannot be compared") {
			t.Errorf("%s, with an earlier journal that is damaged: %v", reason, err)
		}
		if _, err := f.plan(t, restore.Choice{Revision: first.revision - 3, AcceptOlder: true}); err != nil {
			t.Errorf("%s, with an earlier journal that is damaged, and --accept-older: %v", reason, err)
		}
	}
}

// Each replica that leads journals the counter of users and roles again. Only one that is beyond that of the snapshot
// is a change, or that authentication was turned on: etcd does not count that.
func TestUsersAreBehindOnlyWhenTheyHaveChanged(t *testing.T) {
	t.Parallel()
	f := &faulted{backends: twoBackends()}
	h := embedded.NewHistory(t, 19)
	h.Change(t, 30)
	f.recorder = record(t, h, h.Revision()+1, dayBefore, f.backends[0], f.backends[1])
	f.save(t, f.backends[0], f.backends[1])
	note := func(enabled bool) (revision int64) {
		f.Change(t, 5)
		f.sync(t)
		resp, err := f.Client(t).AuthStatus(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		f.add(t, segment.Auth{AuthRevision: resp.AuthRevision, Revision: f.Revision(), Enabled: enabled})
		f.Change(t, 5)
		f.sync(t)
		f.seal(t)
		return f.Revision()
	}
	same, on := note(false), note(true)
	if _, err := f.Client(t).UserAdd(t.Context(), "alice", "secret"); err != nil {
		t.Fatal(err)
	}
	changed := note(false)
	for revision, want := range map[int64]bool{same: false, on: true, changed: true} {
		res, err := f.plan(t, restore.Choice{Revision: revision})
		if err != nil || res.Replayed == nil || res.Replayed.AuthBehind != want {
			t.Errorf("at revision %d, it is %+v, %v; want %t", revision, res.Replayed, err, want)
		}
	}
}

// Without a snapshot that leads there, a time is answered by the snapshots alone, and the plan says so.
func TestJournalWithoutABaseIsLeftOut(t *testing.T) {
	t.Parallel()
	f := newFaulted(t, 18)
	old := f.names[0]
	for _, b := range f.backends {
		for _, key := range b.Keys() {
			if strings.Contains(key, f.names[1]) || strings.Contains(key, f.sealed[0].Name()) {
				b.Remove(key)
			}
		}
	}
	// The journal now begins behind the first snapshot: nothing connects the two.
	res, err := f.plan(t, restore.Choice{At: f.times[f.sealed[2].Last]})
	if err != nil || res.Snapshot.Name != old || res.Replayed != nil || !strings.Contains(fmt.Sprint(res.Skipped), "could be added") {
		t.Errorf("%+v, %v", res, err)
	}
	if _, err := f.plan(t, restore.Choice{Revision: f.sealed[2].Last}); snapshot.ReasonOf(err) != snapshot.ReasonRevisionNotFound {
		t.Errorf("by its revision: %v", err)
	}
}

// merging is a backend on which the segments are merged between the listing and the reading.
type merging struct {
	*memory.Backend
	merge func()
}

func (m *merging) Get(ctx context.Context, key string, r repository.Range) (io.ReadCloser, error) {
	if strings.Contains(key, "/journal/") && m.merge != nil {
		merge := m.merge
		m.merge = nil
		merge()
	}
	return m.Backend.Get(ctx, key, r)
}

// The service may merge segments while a restore reads them.
func TestSegmentsThatAreMergedMeanwhileAreFoundAgain(t *testing.T) {
	t.Parallel()
	f := newFaulted(t, 19)
	merge := func(f *faulted) func() {
		return func() {
			if done, err := upkeep.Merge(t.Context(), f.places[0], f.timeline, f.clock.Add(2*time.Hour)); err != nil || done.Removed < 4 {
				t.Errorf("%+v, %v", done, err)
			}
		}
	}
	b := &merging{Backend: f.backends[0], merge: merge(f)}
	target := f.sealed[2].First + 2
	o := options(t, restore.Choice{Revision: target}, b)
	res, err := restore.Plan(t.Context(), o)
	if err != nil || res.Replayed == nil || res.Replayed.Revision != target || b.merge != nil {
		t.Fatalf("%+v, %v", res, err)
	}

	f = newFaulted(t, 26)
	b.Backend, b.merge = f.backends[0], merge(f)
	last := f.sealed[len(f.sealed)-1].Last
	res, err = restore.Plan(t.Context(), options(t, restore.Choice{At: f.clock.Add(time.Hour)}, b))
	if err != nil || res.Replayed == nil || res.Replayed.Revision != last || b.merge != nil {
		t.Errorf("by a time: %+v, %v", res.Replayed, err)
	}
}
