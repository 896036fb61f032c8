package upkeep_test

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	filippo "filippo.io/age"

	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/internal/testenv/check"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/journal/upkeep"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/snapshot"
)

var must = check.OK

var begin = time.Unix(1_784_203_200, 0).UTC() // a whole hour

const timeline = segment.Timeline("cdf818194e3a8c32-1784203200")

// written is what was written at a revision: one each second.
func written(main int64, value string) segment.Revision {
	return segment.Revision{
		Main: main, Time: begin.Add(time.Duration(main) * time.Second),
		Records: []segment.Record{{Value: fmt.Appendf(nil, "%s %d", cmp.Or(value, "value"), main)}},
	}
}

// place is a backend in memory, and what was written there last.
type place struct {
	upkeep.Place
	backend *memory.Backend
	last    int64
	chain   segment.Chain
	value   string // that is written; empty for "value"
}

func newPlace(name string, cfg segments.Config) *place {
	p := &place{backend: memory.New(name, snapshot.BackendS3)}
	p.Repository = repository.New(repository.Config{Backend: p.backend, Cluster: "default", Prefix: "default/"})
	cfg.Repository = p.Repository
	p.Segments = segments.New(cfg)
	return p
}

// put stores segments of ten revisions each, up to one.
func (p *place) put(t *testing.T, t1 segment.Timeline, to int64) {
	t.Helper()
	for p.last < to {
		b, err := segment.NewBuilder(segment.Header{
			Timeline: t1, Level: segment.Level10s, Member: 1, Term: 1, Previous: p.last, PreviousChain: p.chain,
		})
		must(t, err)
		for main := p.last + 1; main <= min(p.last+10, to); main++ {
			must(t, b.Add(written(main, p.value)))
			must(t, b.Add(segment.Lease{ID: main, GrantedTTL: 60, Revision: main}))
		}
		s, err := b.Seal()
		must(t, err)
		must(t, p.Segments.Put(t.Context(), s))
		p.last, p.chain = s.Header.Last, s.Header.Chain
	}
}

// held returns the segments as LEVEL FIRST-LAST, and all their entries in order.
func (p *place) held(t *testing.T, line segment.Timeline) (names []string, entries []segment.Entry) {
	t.Helper()
	for _, l := range []segment.Level{segment.Level1h, segment.Level5m, segment.Level10s} {
		for item, err := range p.Segments.List(t.Context(), line, l) {
			must(t, err)
			names = append(names, fmt.Sprintf("%s %d-%d", l, item.First, item.Last))
			m, err := p.Segments.Manifest(t.Context(), item.Ref)
			must(t, err)
			r, err := p.Segments.Open(t.Context(), m)
			must(t, err)
			must(t, r.Each(func(e segment.Entry) error {
				entries = append(entries, e)
				return nil
			}))
			must(t, r.Close())
		}
	}
	return names, entries
}

func TestMergeKeepsEveryEntry(t *testing.T) {
	recipients, identities := ageKeys(t)
	for name, cfg := range map[string]segments.Config{"plain": {}, "encrypted": {Recipients: recipients, Identities: identities}} {
		t.Run(name, func(t *testing.T) {
			p := newPlace("one", cfg)
			p.put(t, timeline, 4000) // an hour and 400 s
			_, before := p.held(t, timeline)
			merge := func(after time.Duration) upkeep.Merged {
				done, err := upkeep.Merge(t.Context(), p.Segments, timeline, begin.Add(after))
				must(t, err)
				return done
			}
			if got := merge(5 * time.Minute); !reflect.DeepEqual(got, upkeep.Merged{}) {
				t.Errorf("a stretch that may not be over was merged: %+v", got)
			}
			if got := merge(6 * time.Minute); !reflect.DeepEqual(got, upkeep.Merged{Written: 1, Removed: 30}) {
				t.Errorf("after the first stretch: %+v", got)
			}
			merge(70 * time.Minute)
			names, after := p.held(t, timeline)
			if want := []string{"1h 1-3600", "5m 3601-3900"}; !slices.Equal(names[:2], want) || len(names) != 12 || names[2] != "10s 3901-3910" {
				t.Errorf("it holds %q, want %q and ten others", names, want)
			}
			if !reflect.DeepEqual(after, before) {
				t.Errorf("%d entries became %d", len(before), len(after))
			}
			newest, err := p.Segments.Newest(t.Context(), timeline)
			if err != nil || newest.Last != 4000 || newest.Chain != p.chain {
				t.Errorf("the newest is %+v, %v", newest, err)
			}
		})
	}
}

// A merge that was interrupted at any request loses nothing, and the next one goes on.
func TestInterruptedMergeGoesOn(t *testing.T) {
	for n := 1; ; n++ {
		p := newPlace("one", segments.Config{})
		p.put(t, timeline, 310)
		want := map[int64]bool{}
		for main := int64(1); main <= 310; main++ {
			want[main] = true
		}
		failing := &failing{Backend: p.backend, after: n}
		repo := repository.New(repository.Config{Backend: failing, Cluster: "default", Prefix: "default/"})
		_, err := upkeep.Merge(t.Context(), segments.New(segments.Config{Repository: repo}), timeline, begin.Add(time.Hour))
		_, entries := p.held(t, timeline)
		got := map[int64]bool{}
		for _, e := range entries {
			if r, ok := e.(segment.Revision); ok {
				got[r.Main] = true
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("after %d changes, %d revisions are there", n, len(got))
		}
		_, again := upkeep.Merge(t.Context(), p.Segments, timeline, begin.Add(time.Hour))
		must(t, again)
		if names, _ := p.held(t, timeline); !slices.Equal(names, []string{"5m 1-300", "5m 301-310"}) {
			t.Fatalf("after %d changes, the next merge leads to %q", n, names)
		}
		if err == nil {
			if n < 70 {
				t.Errorf("a merge has only %d changes", n)
			}
			return
		}
	}
}

// failing is a backend that fails after a number of changes.
type failing struct {
	*memory.Backend
	after int
}

func (f *failing) Put(ctx context.Context, key string, r io.Reader, opts repository.PutOptions) error {
	if f.after--; f.after < 0 {
		return snapshot.ReasonBackendUnavailable.New("put %s", key).On(f.Info().Name)
	}
	return f.Backend.Put(ctx, key, r, opts)
}

func (f *failing) Delete(ctx context.Context, key string) error {
	if f.after--; f.after < 0 {
		return snapshot.ReasonBackendUnavailable.New("delete %s", key).On(f.Info().Name)
	}
	return f.Backend.Delete(ctx, key)
}

func TestMergeStopsAtHolesAndBadSegments(t *testing.T) {
	p := newPlace("one", segments.Config{})
	p.put(t, timeline, 100)
	for _, key := range p.backend.Keys() {
		if strings.Contains(key, segment.Name(41, 50)) {
			p.backend.Remove(key)
		}
	}
	done, err := upkeep.Merge(t.Context(), p.Segments, timeline, begin.Add(time.Hour))
	if names, _ := p.held(t, timeline); err != nil || done.Written != 2 || !slices.Equal(names, []string{"5m 1-40", "5m 51-100"}) {
		t.Errorf("%+v, %v: %q", done, err, names)
	}
	p = newPlace("one", segments.Config{})
	p.put(t, timeline, 100)
	for _, key := range p.backend.Keys() {
		if strings.Contains(key, segment.Name(41, 50)+".seg") {
			p.backend.Set(key, p.backend.Content(key)[:30])
		}
	}
	before := p.backend.Keys()
	if _, err := upkeep.Merge(t.Context(), p.Segments, timeline, begin.Add(time.Hour)); !snapshot.IsDamage(err) {
		t.Errorf("a torn segment: %v", err)
	}
	if !slices.Equal(p.backend.Keys(), before) {
		t.Error("something was changed")
	}
}

// counted counts what is read.
type counted struct {
	repository.Backend
	reads int
}

func (c *counted) Get(ctx context.Context, key string, r repository.Range) (io.ReadCloser, error) {
	c.reads++
	return c.Backend.Get(ctx, key, r)
}

// A service that cannot read its own segments reads one manifest to know that, and not those of days.
func TestWithoutAnIdentityNothingIsMergedOrRead(t *testing.T) {
	recipients, _ := ageKeys(t)
	p := newPlace("one", segments.Config{Recipients: recipients})
	p.put(t, timeline, 1000)
	c := &counted{Backend: p.backend}
	all := segments.New(segments.Config{
		Repository: repository.New(repository.Config{Backend: c, Cluster: "default", Prefix: "default/"}), Recipients: recipients,
	})
	before := p.backend.Keys()
	_, err := upkeep.Merge(t.Context(), all, timeline, begin.Add(time.Hour))
	if snapshot.ReasonOf(err) != snapshot.ReasonSnapshotSealed || c.reads != 1 {
		t.Errorf("%d objects were read: %v", c.reads, err)
	}
	if !slices.Equal(p.backend.Keys(), before) {
		t.Error("something was changed")
	}
	// What is found before that is not forgotten.
	for _, key := range before {
		if strings.Contains(key, segment.Name(1, 10)+".json") {
			p.backend.Set(key, []byte("{}"))
		}
	}
	_, err = upkeep.Merge(t.Context(), all, timeline, begin.Add(time.Hour))
	if !snapshot.IsDamage(err) || !strings.Contains(err.Error(), segment.Name(1, 10)) || !strings.Contains(err.Error(), "no identity") {
		t.Errorf("with a bad manifest, too, it is %v", err)
	}
}

// save stores a snapshot of a revision that was taken with it.
func (p *place) save(t *testing.T, revision int64) (name string) {
	t.Helper()
	return p.saveAt(t, revision, time.Duration(revision)*time.Second)
}

func (p *place) saveAt(t *testing.T, revision int64, after time.Duration) (name string) {
	t.Helper()
	db := []byte(strings.Repeat("x", 512))
	sum := sha256.Sum256(db)
	data := slices.Concat(db, sum[:])
	stored := sha256.Sum256(data)
	created := begin.Add(after)
	s := snapshot.Snapshot{
		Name: fmt.Sprintf("on-demand-node-1-%d", created.Unix()), Cluster: "default", Trigger: snapshot.TriggerManual, CreateTime: created,
		Node: "node-1", EtcdClusterID: "cdf818194e3a8c32", Revision: revision, DBSize: 512, SHA256: hex.EncodeToString(sum[:]),
		Compression: snapshot.CompressionNone, StoredSize: int64(len(data)), StoredSHA256: hex.EncodeToString(stored[:]),
	}
	rec := snapshot.NewSave(s, "", "", nil)
	doc, err := repository.EncodeManifest(rec, nil)
	must(t, err)
	p.backend.Set("default/"+rec.DataKey(), data)
	p.backend.Set("default/"+snapshot.ManifestKey(s.Name), doc)
	return s.Name
}

// Of two stretches of time, the first has a segment that is not good.
func TestABadSegmentDoesNotKeepOthersFromBeingMerged(t *testing.T) {
	for name, tc := range map[string]struct {
		suffix string
		want   []string // besides the segments of the first run
	}{
		"its data":     {suffix: ".seg", want: []string{"5m 301-590"}},
		"its manifest": {suffix: ".json", want: []string{"5m 1-40", "5m 51-300", "5m 301-590"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace("one", segments.Config{})
			p.put(t, timeline, 590)
			for _, key := range p.backend.Keys() {
				if strings.Contains(key, segment.Name(41, 50)+tc.suffix) {
					p.backend.Set(key, []byte("{}"))
				}
			}
			_, err := upkeep.Merge(t.Context(), p.Segments, timeline, begin.Add(20*time.Minute))
			if !snapshot.IsDamage(err) || !strings.Contains(err.Error(), segment.Name(41, 50)) {
				t.Errorf("it is %v", err)
			}
			var got []string
			for item, err := range p.Segments.List(t.Context(), timeline, segment.Level5m) {
				must(t, err)
				got = append(got, fmt.Sprintf("5m %d-%d", item.First, item.Last))
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("there are %q, want %q", got, tc.want)
			}
		})
	}
}

// A clock was a day ahead for ten seconds. What came after is merged, and what came then in a day.
func TestASegmentOfTheFutureDoesNotKeepOthersFromBeingMerged(t *testing.T) {
	p := newPlace("one", segments.Config{})
	p.put(t, timeline, 310)
	b, err := segment.NewBuilder(segment.Header{
		Timeline: timeline, Level: segment.Level10s, Member: 1, Term: 1, Previous: p.last, PreviousChain: p.chain,
	})
	must(t, err)
	for main := int64(311); main <= 320; main++ {
		r := written(main, "")
		r.Time = r.Time.Add(24 * time.Hour)
		must(t, b.Add(r))
	}
	s, err := b.Seal()
	must(t, err)
	must(t, p.Segments.Put(t.Context(), s))
	p.last, p.chain = s.Header.Last, s.Header.Chain
	p.put(t, timeline, 590)
	_, err = upkeep.Merge(t.Context(), p.Segments, timeline, begin.Add(time.Hour))
	must(t, err)
	names, _ := p.held(t, timeline)
	if want := []string{"5m 1-300", "5m 301-310", "5m 321-590", "10s 311-320"}; !slices.Equal(names, want) {
		t.Errorf("it holds %q, want %q", names, want)
	}
}

func TestPruneRemovesWhatNoSnapshotNeeds(t *testing.T) {
	one, two := newPlace("one", segments.Config{}), newPlace("two", segments.Config{})
	places := []upkeep.Place{one.Place, two.Place}
	pruner := &upkeep.Pruner{Places: places}
	prune := func() int {
		n, err := pruner.Prune(t.Context(), "", begin.Add(time.Hour))
		must(t, err)
		return n
	}
	for _, p := range []*place{one, two} {
		p.put(t, timeline, 100)
	}
	if n := prune(); n != 0 {
		t.Errorf("%d segments were removed of a journal whose first snapshot is to come", n)
	}
	older := one.save(t, 45)
	two.save(t, 75)
	if n := prune(); n != 8 {
		t.Errorf("%d segments were removed, and 4 on each backend are before all snapshots", n)
	}
	if names, _ := one.held(t, timeline); names[0] != "10s 41-50" {
		t.Errorf("it holds %q", names)
	}
	for _, key := range one.backend.Keys() {
		if strings.Contains(key, older) {
			one.backend.Remove(key) // retention has removed it
		}
	}
	if n := prune(); n != 6 {
		t.Errorf("%d segments were removed with the older snapshot", n)
	}
	// A timeline that has ended goes with its last snapshot, as soon as the next one has some.
	next := segment.NewTimeline(timeline.EtcdCluster(), begin.Add(200*time.Second))
	one.last, one.chain = 0, segment.Chain{}
	one.put(t, next, 30)
	for _, key := range two.backend.Keys() {
		if !strings.Contains(key, "journal/") {
			two.backend.Remove(key)
		}
	}
	if n := prune(); n != 0 {
		t.Errorf("%d segments were removed while no snapshot is there", n)
	}
	one.save(t, 250)
	prune()
	if names, _ := one.held(t, timeline); len(names) > 0 {
		t.Errorf("of the timeline that ended, %q are left", names)
	}
}

// A replica that has led before uploads a timeline that it began then. All snapshots are of its time, and the leader
// adds to the timeline before it.
func TestPruneLeavesTheTimelineToWhichTheLeaderAdds(t *testing.T) {
	one := newPlace("one", segments.Config{})
	one.put(t, timeline, 100)
	live := one.backend.Keys()
	late := segment.NewTimeline(timeline.EtcdCluster(), begin.Add(50*time.Second))
	one.last, one.chain = 0, segment.Chain{}
	one.put(t, late, 30)
	one.save(t, 75)
	pruner := &upkeep.Pruner{Places: []upkeep.Place{one.Place}}
	_, err := pruner.Prune(t.Context(), timeline, begin.Add(time.Hour))
	must(t, err)
	for _, key := range live {
		if !slices.Contains(one.backend.Keys(), key) {
			t.Errorf("%s of the live timeline was removed", key)
		}
	}
}

func TestPruneRemovesNothingWhenABackendIsNotReadable(t *testing.T) {
	one, two := newPlace("one", segments.Config{}), newPlace("two", segments.Config{})
	one.put(t, timeline, 100)
	one.save(t, 75)
	two.save(t, 45)
	two.backend.Vanish()
	before := one.backend.Keys()
	pruner := &upkeep.Pruner{Places: []upkeep.Place{one.Place, two.Place}}
	if n, err := pruner.Prune(t.Context(), "", begin.Add(time.Hour)); n != 0 || snapshot.BackendOf(err) != "two" {
		t.Errorf("%d were removed, %v", n, err)
	}
	if !slices.Equal(one.backend.Keys(), before) {
		t.Error("something was removed")
	}
}

// A window keeps the journal behind the newest snapshot from before it, and no timeline that ended before it. The
// snapshots stay.
func TestAWindowBoundsTheJournalAndNotTheSnapshots(t *testing.T) {
	const before = segment.Timeline("cdf818194e3a8c32-1784199600") // an hour earlier
	for name, tc := range map[string]struct {
		window time.Duration
		now    time.Duration // after the beginning
		want   []string      // the first segments that are left
	}{
		"no window":                              {0, 200 * time.Second, []string{"10s 1-10", "10s 11-20"}},
		"longer than all":                        {3 * time.Hour, 200 * time.Second, []string{"10s 1-10", "10s 11-20"}},
		"the older timeline is outside":          {200 * time.Second, 200 * time.Second, []string{"10s 11-20"}},
		"between two snapshots":                  {100 * time.Second, 170 * time.Second, []string{"10s 31-40"}},
		"just at a snapshot":                     {120 * time.Second, 160 * time.Second, []string{"10s 31-40"}},
		"behind the last snapshot":               {10 * time.Second, 170 * time.Second, []string{"10s 71-80"}},
		"no snapshot is older than the window":   {145 * time.Second, 160 * time.Second, []string{"10s 11-20"}},
		"a clock that is behind removes no more": {time.Hour, -time.Hour, []string{"10s 1-10", "10s 11-20"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace("one", segments.Config{})
			p.put(t, before, 10)
			p.last, p.chain = 0, segment.Chain{}
			p.put(t, timeline, 100)
			p.saveAt(t, 5, -1000*time.Second) // of the timeline before
			for _, revision := range []int64{20, 40, 80} {
				p.save(t, revision)
			}
			pruner := &upkeep.Pruner{Places: []upkeep.Place{p.Place}, Window: tc.window}
			plan, err := pruner.Plan(t.Context(), timeline, begin.Add(tc.now))
			must(t, err)
			planned, bytes := 0, int64(0)
			for _, r := range plan {
				if planned, bytes = planned+len(r.Segments), bytes+r.Bytes; r.Why == "" || r.First == 0 || r.Last < r.First {
					t.Errorf("planned: %+v", r)
				}
			}
			if names, _ := p.held(t, timeline); len(names) != 10 || planned > 0 && bytes == 0 {
				t.Errorf("after the plan of %d bytes, there are %q", bytes, names)
			}
			n, err := pruner.Prune(t.Context(), timeline, begin.Add(tc.now))
			must(t, err)
			old, _ := p.held(t, before)
			names, _ := p.held(t, timeline)
			if got := slices.Concat(old, names); n != planned || !slices.Equal(got[:len(tc.want)], tc.want) {
				t.Errorf("%d of %d are removed, and there are %q, want %q", n, planned, got, tc.want)
			}
			if entries, err := p.Repository.Entries(t.Context()); err != nil || len(entries) != 4 {
				t.Errorf("%d snapshots are left, %v", len(entries), err)
			}
		})
	}
}

// One backend has snapshots that another one lacks. What leads on from those of the other stays there.
func TestAWindowIsThatOfEachBackend(t *testing.T) {
	one, two, bare := newPlace("one", segments.Config{}), newPlace("two", segments.Config{}), newPlace("bare", segments.Config{})
	places := []upkeep.Place{one.Place, two.Place, bare.Place}
	for _, p := range []*place{one, two, bare} {
		p.put(t, timeline, 100)
	}
	one.save(t, 20)
	two.save(t, 20)
	one.save(t, 60)
	pruner := &upkeep.Pruner{Places: places, Window: 30 * time.Second}
	_, err := pruner.Prune(t.Context(), timeline, begin.Add(100*time.Second))
	must(t, err)
	for p, want := range map[*place]string{one: "10s 51-60", two: "10s 11-20", bare: "10s 11-20"} {
		if names, _ := p.held(t, timeline); names[0] != want {
			t.Errorf("%s holds %q, and it should begin with %s", p.Repository.Name(), names, want)
		}
	}
	// The next timeline has a snapshot on the first one alone: the others lead to the end of this one.
	next := segment.NewTimeline(timeline.EtcdCluster(), begin.Add(200*time.Second))
	one.save(t, 250)
	for _, p := range []*place{one, two, bare} {
		p.last, p.chain = 0, segment.Chain{}
		p.put(t, next, 30)
	}
	_, err = pruner.Prune(t.Context(), next, begin.Add(time.Hour))
	must(t, err)
	for p, want := range map[*place]int{one: 0, two: 9, bare: 9} {
		if names, _ := p.held(t, timeline); len(names) != want {
			t.Errorf("%s holds %q of the timeline that has ended", p.Repository.Name(), names)
		}
	}
}

// claimed says that each backend has a marker.
type claimed struct{ repository.Stores }

func (claimed) Store(context.Context, string) (snapshot.Store, error) {
	return snapshot.Store{ID: strings.Repeat("5", 32), Initialized: true, Version: 1}, nil
}

// A directory that is not mounted is empty, and has no marker. What others hold is not judged by that.
func TestPruneRemovesNothingWhenABackendIsAnotherOne(t *testing.T) {
	one, away := newPlace("one", segments.Config{}), newPlace("away", segments.Config{})
	one.put(t, timeline, 100)
	one.save(t, 75)
	away.Repository = repository.New(repository.Config{
		Backend: away.backend, Cluster: "default", Prefix: "default/", Stores: claimed{},
	})
	pruner := &upkeep.Pruner{Places: []upkeep.Place{one.Place, away.Place}}
	if n, err := pruner.Prune(t.Context(), "", begin.Add(time.Hour)); n != 0 || snapshot.BackendOf(err) != "away" {
		t.Errorf("%d were removed, %v", n, err)
	}
}

// The manifests of snapshots are read once, and not each hour again.
func TestPruneReadsNewManifestsAlone(t *testing.T) {
	p := newPlace("one", segments.Config{})
	p.put(t, timeline, 100)
	for _, revision := range []int64{20, 40, 60} {
		p.save(t, revision)
	}
	c := &counted{Backend: p.backend}
	repo := repository.New(repository.Config{Backend: c, Cluster: "default", Prefix: "default/"})
	pruner := &upkeep.Pruner{Places: []upkeep.Place{{Repository: repo, Segments: segments.New(segments.Config{Repository: repo})}}}
	for i, want := range []int{3, 0, 1} {
		if i == 2 {
			p.save(t, 80)
		}
		c.reads = 0
		if _, err := pruner.Plan(t.Context(), timeline, begin.Add(time.Hour)); err != nil || c.reads != want {
			t.Errorf("time %d: %d objects were read, want %d: %v", i+1, c.reads, want, err)
		}
	}
}

func ageKeys(t *testing.T) (age.Recipients, age.Identities) {
	t.Helper()
	id, err := filippo.GenerateX25519Identity()
	must(t, err)
	file := filepath.Join(t.TempDir(), "identity")
	must(t, os.WriteFile(file, []byte(id.String()), 0o600))
	ids, err := age.ReadIdentities(file)
	must(t, err)
	to, err := age.NewRecipients([]string{id.Recipient().String()})
	must(t, err)
	return to, ids
}
