package upkeep_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/journal/upkeep"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/repository/signing"
	"github.com/snapshotd/snapshotd/snapshot"
)

const later = 2 * time.Hour // after the beginning: all that is written here is old

// copiesOf keeps the copies of some places.
func copiesOf(places ...*place) *upkeep.Copies {
	p := &upkeep.Pruner{}
	for _, at := range places {
		p.Places = append(p.Places, at.Place)
	}
	return &upkeep.Copies{Pruner: p}
}

// repair repairs once, and returns what was done for each place.
func repair(t *testing.T, c *upkeep.Copies) []upkeep.Copied {
	t.Helper()
	return c.Repair(t.Context(), timeline, begin.Add(later))
}

// scrub reads all segments back, and returns the damaged ones as BACKEND FIRST-LAST.
func scrub(t *testing.T, c *upkeep.Copies) (damaged []string) {
	t.Helper()
	done, errs := c.Scrub(t.Context(), 100, begin.Add(later))
	for _, err := range errs {
		t.Error(err)
	}
	for _, d := range done.Damaged {
		if !strings.Contains(d.Err.Error(), fmt.Sprintf("revisions %d to %d", d.Segment.First, d.Segment.Last)) {
			t.Errorf("%v does not name the revisions", d.Err)
		}
		damaged = append(damaged, fmt.Sprintf("%s %d-%d", d.Backend, d.Segment.First, d.Segment.Last))
	}
	slices.Sort(damaged)
	return damaged
}

// keysOf returns the keys of a segment's objects.
func (p *place) keysOf(first, last int64) (keys []string) {
	for _, key := range p.backend.Keys() {
		if strings.Contains(key, "/"+segment.Name(first, last)+".") {
			keys = append(keys, key)
		}
	}
	return keys
}

// lose removes a segment behind the back of the program.
func (p *place) lose(first, last int64) {
	for _, key := range p.keysOf(first, last) {
		p.backend.Remove(key)
	}
}

// rot changes a bit of a segment's data.
func (p *place) rot(first, last int64) {
	for _, key := range p.keysOf(first, last) {
		if strings.Contains(key, ".seg") {
			data := p.backend.Content(key)
			data[len(data)/2] ^= 1
			p.backend.Set(key, data)
		}
	}
}

// whole checks that a place has all revisions up to one, each readable.
func (p *place) whole(t *testing.T, to int64) {
	t.Helper()
	_, entries := p.held(t, timeline)
	got := map[int64]bool{}
	for _, e := range entries {
		if r, ok := e.(segment.Revision); ok {
			got[r.Main] = true
		}
	}
	for main := int64(1); main <= to; main++ {
		if !got[main] {
			t.Errorf("%s lacks the revision %d", p.Repository.Name(), main)
			return
		}
	}
}

func two(t *testing.T, to int64, cfg segments.Config) (one, other *place) {
	t.Helper()
	one, other = newPlace("one", cfg), newPlace("two", cfg)
	one.put(t, timeline, to)
	other.put(t, timeline, to)
	return one, other
}

func TestASegmentThatOneBackendLacksIsCopied(t *testing.T) {
	recipients, identities := ageKeys(t)
	for name, cfg := range map[string]segments.Config{
		"plain": {}, "encrypted": {Recipients: recipients, Identities: identities}, "without identity": {Recipients: recipients},
	} {
		t.Run(name, func(t *testing.T) {
			one, other := two(t, 100, cfg)
			other.lose(41, 50)
			for _, key := range other.keysOf(61, 70) { // only its data
				if strings.Contains(key, ".seg") {
					other.backend.Remove(key)
				}
			}
			other.lose(91, 100)
			before := one.backend.Keys()
			c := copiesOf(one, other)
			done := repair(t, c)
			if got := done[1]; got.Segments != 3 || got.Lacking != 0 || got.Err != nil || got.Bytes == 0 || done[0].Segments != 0 {
				t.Errorf("%+v", done)
			}
			for _, k := range one.keysOf(41, 50) {
				if string(one.backend.Content(k)) != string(other.backend.Content(k)) {
					t.Errorf("%s is not the same on both", k)
				}
			}
			if !slices.Equal(one.backend.Keys(), before) || !slices.Equal(other.backend.Keys(), before) {
				t.Error("the keys are others")
			}
			if damaged := scrub(t, c); len(damaged) > 0 {
				t.Errorf("then %q are damaged", damaged)
			}
			if s := c.State("two"); s != (upkeep.State{Known: true, Copied: 3}) {
				t.Errorf("its state is %+v", s)
			}
			if again := repair(t, c); again[1].Segments > 0 {
				t.Errorf("it copies them again: %+v", again)
			}
		})
	}
}

// A caller compares the copies, sees what a repair would do, repairs one backend, and then the rest, all of it at once.
func TestReconcileDoesWhatItIsAskedFor(t *testing.T) {
	one, other := two(t, 100, segments.Config{})
	one.lose(11, 20)
	for _, first := range []int64{41, 61, 71, 81} {
		other.lose(first, first+9)
	}
	other.rot(91, 100)
	c := copiesOf(one, other)
	c.Budget = 1 // a repair by the leader copies one segment, and leaves the rest
	scrub(t, c)
	ones, others := one.backend.Keys(), other.backend.Keys()
	type report struct{ segments, lacking int64 }
	for _, tc := range []struct {
		what string
		task upkeep.Task
		want map[string]report
	}{
		{"compare", upkeep.Task{}, map[string]report{"one": {0, 10}, "two": {0, 50}}},
		{"compare one", upkeep.Task{Into: []string{"one"}}, map[string]report{"one": {0, 10}}},
		{"validate", upkeep.Task{Repair: true, ValidateOnly: true}, map[string]report{"one": {1, 10}, "two": {5, 50}}},
		{"repair one", upkeep.Task{Repair: true, Into: []string{"one"}}, map[string]report{"one": {1, 0}}},
		{"repair", upkeep.Task{Repair: true}, map[string]report{"one": {0, 0}, "two": {5, 0}}},
		{"compare again", upkeep.Task{}, map[string]report{"one": {0, 0}, "two": {0, 0}}},
	} {
		tc.task.Live = timeline
		got := map[string]report{}
		for more := true; more; {
			more = false
			for _, done := range c.Reconcile(t.Context(), tc.task, begin.Add(later)) {
				more = more || done.More
				if got[done.Backend] = (report{got[done.Backend].segments + int64(done.Segments), done.Lacking}); done.Err != nil {
					t.Errorf("%s: %v", tc.what, done.Err)
				}
			}
		}
		if !maps.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", tc.what, got, tc.want)
		}
		if tc.task.Repair && !tc.task.ValidateOnly {
			one.whole(t, 100)
			continue
		}
		if tc.what != "compare again" && (!slices.Equal(one.backend.Keys(), ones) || !slices.Equal(other.backend.Keys(), others)) {
			t.Errorf("%s: it changed something", tc.what)
		}
	}
	other.whole(t, 100)
	if s := c.State("two"); s.Damaged != 0 || s.Lacking != 0 || s.Copied != 5 {
		t.Errorf("two is %+v", s)
	}
}

// held is a backend that holds up each write until it is released.
type held struct {
	repository.Backend
	reached, release chan struct{}
}

func (h *held) Put(ctx context.Context, key string, r io.Reader, opts repository.PutOptions) error {
	select {
	case h.reached <- struct{}{}:
	default:
	}
	<-h.release
	return h.Backend.Put(ctx, key, r, opts)
}

// While the leader repairs, however long that takes, others can compare, and one that wants to repair, too, waits no
// longer than it wants to.
func TestARepairHoldsUpNoOther(t *testing.T) {
	one, other := two(t, 100, segments.Config{})
	other.lose(41, 50)
	slow := &held{other.backend, make(chan struct{}, 1), make(chan struct{})}
	repo := repository.New(repository.Config{Backend: slow, Cluster: "default", Prefix: "default/"})
	c := copiesOf(one, &place{Place: upkeep.Place{Repository: repo, Segments: segments.New(segments.Config{Repository: repo})}})
	var repairing sync.WaitGroup
	repairing.Go(func() { repair(t, c) })
	<-slow.reached
	if got := c.Reconcile(t.Context(), upkeep.Task{Live: timeline}, begin.Add(later)); got[1].Lacking != 10 || got[1].Err != nil {
		t.Errorf("compared: %+v", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, done := range c.Reconcile(ctx, upkeep.Task{Live: timeline, Repair: true}, begin.Add(later)) {
		if !errors.Is(done.Err, context.Canceled) {
			t.Errorf("a caller that has gone: %+v", done)
		}
	}
	close(slow.release)
	repairing.Wait()
	other.whole(t, 100)
}

// A directory of each node is chosen by the name that the configuration has for all of them.
func TestADirectoryOfANodeIsChosenByItsName(t *testing.T) {
	one, other := newPlace("one", segments.Config{}), newPlace("local@node-1", segments.Config{})
	one.put(t, timeline, 100)
	other.put(t, timeline, 100)
	other.lose(41, 50)
	task := upkeep.Task{Live: timeline, Repair: true, Into: []string{"local"}}
	if got := copiesOf(one, other).Reconcile(t.Context(), task, begin.Add(later)); len(got) != 1 || got[0].Segments != 1 {
		t.Errorf("%+v", got)
	}
}

// Segments that the leader is about to upload are not said to be lacking.
func TestReconcileLeavesWhatIsYoungToTheLeader(t *testing.T) {
	one, other := two(t, 100, segments.Config{})
	other.lose(91, 100)
	for _, repair := range []bool{false, true} {
		done := copiesOf(one, other).Reconcile(t.Context(), upkeep.Task{Live: timeline, Repair: repair}, begin.Add(2*time.Minute))
		if got := done[1]; got.Lacking != 0 || got.Segments != 0 || got.Err != nil {
			t.Errorf("repair %v: %+v", repair, got)
		}
	}
}

// A backend is new, or was away for hours. What is too much for one repair is left for the next one, and what the leader
// uploads itself to that.
func TestABackendThatLacksAllIsFilledByAndBy(t *testing.T) {
	one, other := newPlace("one", segments.Config{}), newPlace("two", segments.Config{})
	one.put(t, timeline, 8000)
	_, err := upkeep.Merge(t.Context(), one.Segments, timeline, begin.Add(8000*time.Second))
	must(t, err)
	c := copiesOf(one, other)
	c.Budget = 1
	now := begin.Add(8100 * time.Second)
	last := int64(1 << 62)
	for range 2 {
		done := c.Repair(t.Context(), timeline, now)
		if done[1].Segments != 1 || done[1].Lacking == 0 || done[1].Lacking >= last || done[1].Err != nil || !done[1].More {
			t.Fatalf("%+v", done[1])
		}
		last = done[1].Lacking
	}
	c.Budget = 0
	if done := c.Repair(t.Context(), timeline, now); done[1].Lacking != 0 || done[1].Err != nil || done[1].More {
		t.Errorf("%+v", done[1])
	}
	// What is younger than ten minutes is left to the leader.
	if names, _ := other.held(t, timeline); !slices.Equal(names, []string{"1h 1-3600", "1h 3601-7200", "5m 7201-7500"}) {
		t.Errorf("it holds %q", names)
	}
	c.Repair(t.Context(), timeline, now.Add(time.Hour))
	other.whole(t, 8000)
}

// A merged segment fills several holes. It is read and copied once.
func TestOneSegmentFillsManyHoles(t *testing.T) {
	one, other := two(t, 300, segments.Config{})
	_, err := upkeep.Merge(t.Context(), one.Segments, timeline, begin.Add(later))
	must(t, err)
	for first := int64(11); first < 300; first += 20 {
		other.lose(first, first+9)
	}
	c := copiesOf(one, other)
	if done := repair(t, c); done[1].Segments != 1 || done[1].Lacking != 0 || done[1].Err != nil || c.State("two").Copied != 1 {
		t.Errorf("%+v", done[1])
	}
	other.whole(t, 300)
}

// slow is a backend to which each object takes a second.
type slow struct {
	*memory.Backend
	listing time.Duration
}

func (s slow) List(ctx context.Context, prefix string) iter.Seq2[repository.Object, error] {
	time.Sleep(s.listing)
	return s.Backend.List(ctx, prefix)
}

func (s slow) Put(ctx context.Context, key string, r io.Reader, opts repository.PutOptions) error {
	time.Sleep(time.Second)
	return s.Backend.Put(ctx, key, r, opts)
}

// Thousands of small segments take long, and to list them can take as long. A repair ends in time for other work, and
// the next one goes on.
func TestARepairEndsInTime(t *testing.T) {
	for name, listing := range map[string]time.Duration{"long copies": 0, "long listings": 2 * upkeep.DefaultTime} {
		t.Run(name, func(t *testing.T) { endsInTime(t, listing) })
	}
}

func endsInTime(t *testing.T, listing time.Duration) {
	one, other := newPlace("one", segments.Config{}), newPlace("two", segments.Config{})
	one.put(t, timeline, 2000) // outside of the bubble: all tests share the encoders, which have channels
	one.whole(t, 2000)
	synctest.Test(t, func(t *testing.T) {
		repo := repository.New(repository.Config{Backend: slow{other.backend, listing}, Cluster: "default", Prefix: "default/"})
		other.Place = upkeep.Place{Repository: repo, Segments: segments.New(segments.Config{Repository: repo})}
		c := copiesOf(one, other)
		rounds := 0
		for left := int64(2000); left > 0; rounds++ {
			since := time.Now()
			done := repair(t, c)
			lists := 20 * listing // of stores, snapshots, timelines and three levels
			if took := time.Since(since); took > upkeep.DefaultTime+10*time.Second+lists || done[1].Err != nil || done[1].Segments == 0 {
				t.Fatalf("after %s: %+v", took, done[1])
			}
			if left = done[1].Lacking; done[1].More != (left > 0) {
				t.Errorf("%+v", done[1])
			}
		}
		if rounds < 3 {
			t.Errorf("it took %d repairs", rounds)
		}
		other.whole(t, 2000)
	})
}

// The time of a repair is that of its copies. A hole that cannot be filled in the live timeline does not let the listing
// of an earlier one take it.
func TestListingsCostARepairNoTime(t *testing.T) {
	one, other := newPlace("one", segments.Config{}), newPlace("two", segments.Config{})
	one.put(t, segment.NewTimeline(timeline.EtcdCluster(), begin.Add(-time.Hour)), 100)
	one.last, one.chain = 0, segment.Chain{}
	one.put(t, timeline, 10)
	rotten, _ := withSectors(one, string(timeline)+"/10s/"+segment.Name(1, 10)+".seg")
	synctest.Test(t, func(t *testing.T) {
		repo := repository.New(repository.Config{
			Backend: slow{other.backend, 2 * upkeep.DefaultTime}, Cluster: "default", Prefix: "default/",
		})
		other.Place = upkeep.Place{Repository: repo, Segments: segments.New(segments.Config{Repository: repo})}
		if done := repair(t, copiesOf(rotten, other)); done[1].Segments != 10 || done[1].Lacking != 10 {
			t.Errorf("%+v", done[1])
		}
	})
}

// Backends of which each lacks some, and merged at its own time, have all in the end.
func TestAnyHolesAreFilled(t *testing.T) {
	for seed := range uint64(8) {
		random := mathrand.New(mathrand.NewPCG(seed, 0))
		one, other := two(t, 900, segments.Config{})
		for first := int64(1); first < 900; first += 10 {
			if n := random.IntN(6); n < 2 {
				[]*place{one, other}[n].lose(first, first+9)
			}
		}
		for _, p := range []*place{one, other} {
			if random.IntN(3) > 0 {
				_, err := upkeep.Merge(t.Context(), p.Segments, timeline, begin.Add(time.Duration(random.IntN(20))*time.Minute))
				must(t, err)
			}
		}
		c := copiesOf(one, other)
		if done := repair(t, c); done[0].Err != nil || done[1].Err != nil || done[0].Lacking+done[1].Lacking > 0 {
			t.Errorf("seed %d: %+v", seed, done)
		}
		for _, p := range []*place{one, other} {
			p.whole(t, 900)
		}
		if done := repair(t, c); done[0].Segments+done[1].Segments > 0 {
			t.Errorf("seed %d: it copies them again: %+v", seed, done)
		}
	}
}

// The hole of one backend is within a merged segment of the other one. The merge of later makes one of both.
func TestSegmentsOfOtherCutsFillAHole(t *testing.T) {
	one, other := two(t, 590, segments.Config{})
	_, before := one.held(t, timeline)
	other.lose(41, 50)
	for _, p := range []*place{one, other} {
		_, err := upkeep.Merge(t.Context(), p.Segments, timeline, begin.Add(20*time.Minute))
		must(t, err)
	}
	if names, _ := other.held(t, timeline); len(names) != 3 {
		t.Fatalf("%q", names)
	}
	c := copiesOf(one, other)
	if done := repair(t, c); done[1].Segments != 1 || done[1].Err != nil || done[1].Lacking != 0 {
		t.Errorf("%+v", done[1])
	}
	other.whole(t, 590)
	for range 2 {
		_, err := upkeep.Merge(t.Context(), other.Segments, timeline, begin.Add(later))
		must(t, err)
	}
	names, after := other.held(t, timeline)
	if !slices.Equal(names, []string{"1h 1-590"}) || len(after) != len(before) {
		t.Errorf("it holds %q with %d entries, want %d", names, len(after), len(before))
	}
}

func TestADamagedSegmentIsReplaced(t *testing.T) {
	recipients, identities := ageKeys(t)
	for name, cfg := range map[string]segments.Config{
		"plain": {}, "encrypted": {Recipients: recipients, Identities: identities}, "without identity": {Recipients: recipients},
	} {
		t.Run(name, func(t *testing.T) {
			one, other := two(t, 100, cfg)
			other.rot(41, 50)
			for _, key := range other.keysOf(61, 70) {
				if strings.HasSuffix(key, ".json") {
					other.backend.Set(key, []byte("{}"))
				}
			}
			keys, c := other.backend.Keys(), copiesOf(one, other)
			if done := repair(t, c); done[1].Segments > 0 {
				t.Errorf("what was not read is replaced: %+v", done)
			}
			if got := scrub(t, c); !slices.Equal(got, []string{"two 41-50", "two 61-70"}) || c.State("two").Damaged != 2 {
				t.Errorf("damaged are %q", got)
			}
			done := repair(t, c)
			if len(done[1].Replaced) != 2 || done[1].Err != nil || done[1].Lacking != 0 || done[0].Segments > 0 {
				t.Errorf("%+v", done)
			}
			if got := scrub(t, c); len(got) > 0 || c.State("two").Damaged != 0 || !slices.Equal(other.backend.Keys(), keys) {
				t.Errorf("damaged are %q", got)
			}
		})
	}
}

// The merge reads segments, too, and tells of those that are not good. The other backend has merged its own: the damaged
// one goes when the copy holds its revisions.
func TestADamagedSegmentThatAMergeFindsIsReplaced(t *testing.T) {
	one, other := two(t, 300, segments.Config{})
	other.rot(41, 50)
	c := copiesOf(one, other)
	_, err := upkeep.Merge(t.Context(), one.Segments, timeline, begin.Add(later))
	must(t, err)
	merged, err := upkeep.Merge(t.Context(), other.Segments, timeline, begin.Add(later))
	if !snapshot.IsDamage(err) || len(merged.Damaged) != 1 {
		t.Fatalf("%+v, %v", merged, err)
	}
	for r, why := range merged.Damaged {
		if r.First != 41 || !c.Found("two", r, why) || c.Found("two", r, why) {
			t.Errorf("%+v: %v", r, why)
		}
	}
	if done := repair(t, c); len(done[1].Replaced) != 1 || done[1].Err != nil || len(other.keysOf(41, 50)) > 0 {
		t.Errorf("%+v", done[1])
	}
	_, err = upkeep.Merge(t.Context(), other.Segments, timeline, begin.Add(later))
	must(t, err)
	if names, _ := other.held(t, timeline); !slices.Equal(names, []string{"1h 1-300"}) {
		t.Errorf("it holds %q", names)
	}
}

// Each copy of a segment is damaged: they are named, and nothing goes, not even the one of a backend that is alone.
func TestTheLastCopyOfASegmentStays(t *testing.T) {
	one, other := two(t, 100, segments.Config{})
	one.rot(41, 50)
	other.rot(41, 50)
	one.lose(71, 80)
	other.rot(71, 80)
	before := [][]string{one.backend.Keys(), other.backend.Keys()}
	c := copiesOf(one, other)
	done := repair(t, c)
	if len(done[1].Damaged) != 1 || done[1].Damaged[0].Backend != "two" || done[1].Damaged[0].Segment.First != 71 || done[0].Segments > 0 {
		t.Errorf("the damaged one is taken for a copy: %+v", done[0])
	}
	if got := scrub(t, c); !slices.Equal(got, []string{"one 41-50", "two 41-50", "two 71-80"}) {
		t.Errorf("damaged are %q", got)
	}
	repair(t, c)
	if after := [][]string{one.backend.Keys(), other.backend.Keys()}; !slices.Equal(after[0], before[0]) || !slices.Equal(after[1], before[1]) {
		t.Error("something was removed, or copied")
	}
	if one, two := c.State("one"), c.State("two"); one.Damaged != 1 || two.Damaged != 2 || one.Lacking+two.Lacking > 0 {
		t.Errorf("%+v, %+v", one, two)
	}
	one.lose(41, 50) // a person has removed it: it is not counted any more
	scrub(t, c)
	if s := c.State("one"); s.Damaged != 0 {
		t.Errorf("%+v", s)
	}
}

// signed is a place whose manifests are signed.
func signed(backend *memory.Backend, by *signing.Signer, trust *signing.Trust) *place {
	p := &place{backend: backend}
	p.Repository = repository.New(repository.Config{
		Backend: p.backend, Cluster: "default", Prefix: "default/", Signer: by, Trust: trust,
	})
	p.Segments = segments.New(segments.Config{Repository: p.Repository})
	return p
}

// One snapshot is not trusted: nothing is pruned, but its backend is filled and gives as before. The snapshot may be the
// oldest one, so all that leads to it is copied.
func TestASnapshotThatIsNotTrustedKeepsNothingFromBeingCopied(t *testing.T) {
	ours, trust := newKeys(t)
	one, other := signed(memory.New("one", snapshot.BackendS3), ours, trust), signed(memory.New("two", snapshot.BackendS3), ours, trust)
	for _, p := range []*place{one, other} {
		p.put(t, timeline, 100)
	}
	other.save(t, 70) // by somebody without a key
	other.lose(11, 20)
	other.lose(81, 90)
	one.lose(51, 60)
	c := copiesOf(one, other)
	done := repair(t, c)
	if done[0].Segments != 1 || done[1].Segments != 2 || done[0].Err != nil || done[1].Err != nil {
		t.Errorf("%+v", done)
	}
	if s := c.State("two"); !s.Known {
		t.Errorf("%+v", s)
	}
	if n, err := c.Pruner.Prune(t.Context(), timeline, begin.Add(later)); n > 0 || snapshot.ReasonOf(err) != snapshot.ReasonManifestUntrusted {
		t.Errorf("%d were pruned: %v", n, err)
	}
}

// One manifest of a snapshot is not given: that is not the backend as a whole.
func TestASnapshotThatIsNotGivenKeepsNothingFromBeingCopied(t *testing.T) {
	one, other := two(t, 100, segments.Config{})
	name := other.save(t, 70)
	other.lose(11, 20)
	rotten, _ := withSectors(other, snapshot.ManifestKey(name))
	c := copiesOf(one, rotten)
	if done := repair(t, c); done[1].Segments != 1 || done[1].Err != nil {
		t.Errorf("%+v", done)
	}
	if n, err := c.Pruner.Prune(t.Context(), timeline, begin.Add(later)); n > 0 || err == nil {
		t.Errorf("%d were pruned: %v", n, err)
	}
}

func TestAForgedSegmentIsNotCopied(t *testing.T) {
	ours, trust := newKeys(t)
	theirs, _ := newKeys(t)
	one, other := signed(memory.New("one", snapshot.BackendS3), ours, trust), signed(memory.New("two", snapshot.BackendS3), ours, trust)
	one.put(t, timeline, 100)
	other.put(t, timeline, 100)
	one.lose(41, 50)
	other.lose(41, 50)
	forger := signed(other.backend, theirs, trust)
	forger.last, forger.chain = 40, segment.Chain{1}
	forger.put(t, timeline, 50)
	c := copiesOf(one, other)
	done := repair(t, c)
	if done[0].Segments > 0 || len(one.keysOf(41, 50)) > 0 || snapshot.ReasonOf(done[0].Err) != snapshot.ReasonManifestUntrusted {
		t.Errorf("%+v", done[0])
	}
	if s := c.State("two"); s.Damaged != 1 {
		t.Errorf("%+v", s)
	}
}

// Nothing is signed. A segment of another history has good checksums, and does not fit between those beside it.
func TestASegmentOfAnotherHistoryIsNotCopied(t *testing.T) {
	one, other := two(t, 100, segments.Config{})
	one.lose(41, 50)
	other.lose(41, 50)
	other.last, other.chain = 40, segment.Chain{1}
	other.put(t, timeline, 50)
	done := repair(t, copiesOf(one, other))
	if done[0].Segments > 0 || len(one.keysOf(41, 50)) > 0 || snapshot.ReasonOf(done[0].Err) != snapshot.ReasonConflict {
		t.Errorf("%+v", done[0])
	}
}

// A merged segment reaches over those beside the hole, so that no cuts meet. What is in it is compared.
func TestAMergedSegmentOfAnotherHistoryIsNotCopied(t *testing.T) {
	for name, forge := range map[string]func(*place){
		"from the beginning":   func(p *place) { p.chain = segment.Chain{} },
		"the same before that": func(p *place) { p.last, p.chain = 40, segment.Chain{1} },
	} {
		t.Run(name, func(t *testing.T) {
			one, other := newPlace("one", segments.Config{}), newPlace("two", segments.Config{})
			one.put(t, timeline, 300)
			forge(other)
			other.value = "forged"
			other.put(t, timeline, 300)
			_, err := upkeep.Merge(t.Context(), other.Segments, timeline, begin.Add(later))
			must(t, err)
			one.lose(101, 110)
			one.lose(291, 300)
			keys := one.backend.Keys()
			done := repair(t, copiesOf(one, other))
			if done[0].Segments > 0 || !errors.Is(done[0].Err, segments.ErrOtherHistory) || !slices.Equal(one.backend.Keys(), keys) {
				t.Errorf("%+v", done[0])
			}
		})
	}
}

// The data of a segment rots, and its manifest tells of which history it is.
func TestADamagedSegmentIsNotReplacedByOneOfAnotherHistory(t *testing.T) {
	one, other := newPlace("one", segments.Config{}), newPlace("two", segments.Config{})
	one.put(t, timeline, 10)
	other.value = "forged"
	other.put(t, timeline, 10)
	one.rot(1, 10)
	c := copiesOf(one, other)
	scrub(t, c)
	before := one.backend.Content(one.keysOf(1, 10)[0])
	if done := repair(t, c); done[0].Segments > 0 || !errors.Is(done[0].Err, segments.ErrOtherHistory) {
		t.Errorf("%+v", done[0])
	}
	if after := one.backend.Content(one.keysOf(1, 10)[0]); string(after) != string(before) {
		t.Error("it is written over")
	}
}

// What a prune has removed from one backend is not brought back from another one, which it has not reached.
func TestNothingIsCopiedThatPruneRemoves(t *testing.T) {
	one, other := two(t, 100, segments.Config{})
	one.save(t, 20)
	one.save(t, 60)
	other.save(t, 60)
	for first := int64(1); first < 60; first += 10 {
		other.lose(first, first+9)
	}
	c := copiesOf(one, other)
	c.Pruner.Window = 30 * time.Second
	now := begin.Add(100 * time.Second)
	if done := c.Repair(t.Context(), timeline, now); done[1].Lacking > 0 || len(other.keysOf(51, 60)) == 0 || done[1].Segments != 1 {
		t.Errorf("%+v", done[1])
	}
	plan, err := c.Pruner.Plan(t.Context(), timeline, now)
	must(t, err)
	for _, r := range plan {
		if r.Backend == "two" {
			t.Errorf("what was copied goes again: %+v", r)
		}
	}
}

func TestATimelineThatNothingNeedsIsNotCopied(t *testing.T) {
	one, empty := newPlace("one", segments.Config{}), newPlace("two", segments.Config{})
	one.put(t, timeline, 100)
	next := segment.NewTimeline(timeline.EtcdCluster(), begin.Add(200*time.Second))
	one.last, one.chain = 0, segment.Chain{}
	one.put(t, next, 30)
	one.saveAt(t, 20, 250*time.Second)
	done := copiesOf(one, empty).Repair(t.Context(), next, begin.Add(later))
	old, _ := empty.held(t, timeline)
	if names, _ := empty.held(t, next); len(old) > 0 || len(names) != 2 || done[1].Lacking > 0 {
		t.Errorf("it holds %q and %q: %+v", old, names, done[1])
	}
}

// A backend that is away, or is not the store that it was, neither gives nor gets anything, and is no reason to leave
// out the others.
func TestABackendThatIsAwayIsLeftOut(t *testing.T) {
	one, other := two(t, 100, segments.Config{})
	away, unmounted := newPlace("away", segments.Config{}), newPlace("unmounted", segments.Config{})
	away.backend.Vanish()
	unmounted.Repository = repository.New(repository.Config{
		Backend: unmounted.backend, Cluster: "default", Prefix: "default/", Stores: claimed{},
	})
	unmounted.Segments = segments.New(segments.Config{Repository: unmounted.Repository})
	other.lose(41, 50)
	one.save(t, 5)
	c := copiesOf(away, one, unmounted, other)
	done := repair(t, c)
	if done[0].Err == nil || done[2].Err == nil || done[3].Segments != 1 || done[3].Err != nil {
		t.Errorf("%+v", done)
	}
	if len(unmounted.backend.Keys()) > 0 || c.State("away").Known || !c.State("two").Known {
		t.Errorf("%q", unmounted.backend.Keys())
	}
	_, errs := c.Scrub(t.Context(), 100, begin)
	if len(errs) != 2 {
		t.Errorf("the scrub says %v", errs)
	}
}

// Another replica has replaced a segment, or a person has put back the good one. It is good, and nobody has to wait for a
// scrub: it is copied to one that lacks it, and is not replaced once more.
func TestASegmentThatWasPutRightIsGood(t *testing.T) {
	one, other := two(t, 100, segments.Config{})
	other.rot(41, 50)
	c := copiesOf(one, other)
	scrub(t, c)
	repair(t, copiesOf(one, other)) // of a replica that has not found it yet: nothing
	other.rot(41, 50)               // the bit is right again
	one.lose(41, 50)
	if s := c.State("two"); s.Damaged != 1 {
		t.Fatalf("%+v", s)
	}
	done := repair(t, c)
	if done[0].Segments != 1 || done[0].Err != nil || len(done[1].Replaced) > 0 || len(done[1].Damaged) > 0 {
		t.Errorf("%+v", done)
	}
	if s := c.State("two"); s.Damaged != 0 {
		t.Errorf("%+v", s)
	}
}

// Another replica may have led between two terms.
func TestATermBeginsWithoutWhatWasSeenBefore(t *testing.T) {
	one, empty := newPlace("one", segments.Config{}), newPlace("two", segments.Config{})
	one.put(t, timeline, 100)
	c := copiesOf(one, empty)
	c.Budget = 1
	repair(t, c)
	one.rot(41, 50)
	scrub(t, c)
	c.Forget()
	if s := c.State("two"); s != (upkeep.State{Copied: 1}) {
		t.Errorf("%+v", s)
	}
	if s := c.State("one"); s != (upkeep.State{Damaged: 1}) {
		t.Errorf("%+v", s)
	}
	// A timeline was empty before, and has had a segment meanwhile.
	past := segment.NewTimeline(timeline.EtcdCluster(), begin.Add(-time.Hour))
	one.last, one.chain = 0, segment.Chain{}
	one.put(t, past, 10)
	for _, key := range one.keysOf(1, 10) {
		if strings.Contains(key, string(past)) {
			one.backend.Remove(key)
		}
	}
	now := time.Now()
	for _, after := range []time.Duration{0, 25 * time.Hour} {
		c.Forget()
		if done, err := c.Sweep(t.Context(), timeline, now.Add(after)); err != nil || done != (upkeep.Swept{}) {
			t.Errorf("%+v, %v", done, err)
		}
	}
}

// The backend that has what another one lacks goes away: it lacks that still.
func TestWhatABackendLacksItLacksWhileAnotherOneIsAway(t *testing.T) {
	one, two, three := newPlace("one", segments.Config{}), newPlace("two", segments.Config{}), newPlace("three", segments.Config{})
	one.put(t, timeline, 100)
	three.put(t, timeline, 30)
	three.save(t, 5)
	c := copiesOf(one, two, three)
	c.Budget = 1
	repair(t, c) // copies one segment to each
	if two, three := c.State("two"), c.State("three"); two.Lacking != 90 || three.Lacking != 70 {
		t.Fatalf("%+v, %+v", two, three)
	}
	there := one.backend.Keys()
	contents := map[string][]byte{}
	for _, key := range there {
		contents[key] = one.backend.Content(key)
	}
	one.backend.Vanish()
	c.Budget = 0
	repair(t, c) // three has twenty more of these
	if two, three := c.State("two"), c.State("three"); two.Lacking != 70 || three.Lacking != 70 || !two.Known {
		t.Errorf("%+v, %+v", two, three)
	}
	back := newPlace("one", segments.Config{})
	for _, key := range there {
		back.backend.Set(key, contents[key])
	}
	c.Pruner.Places[0] = back.Place
	repair(t, c)
	if two, three := c.State("two"), c.State("three"); two.Lacking != 0 || three.Lacking != 0 || two.Damaged+three.Damaged > 0 {
		t.Errorf("%+v, %+v", two, three)
	}
	three.backend.Vanish()
	repair(t, c)
	if s := c.State("three"); !s.Known {
		t.Errorf("what is known of one that is away is forgotten: %+v", s)
	}
}

// sectors is a backend that does not give the data of some segments, and gives all others.
type sectors struct {
	*memory.Backend
	bad []string // parts of their keys
}

func (s *sectors) Get(ctx context.Context, key string, r repository.Range) (io.ReadCloser, error) {
	for _, part := range s.bad {
		if strings.Contains(key, part) {
			return nil, snapshot.ReasonBackendUnavailable.New("get %s", key).On(s.Info().Name).Because(errors.New("input/output error"))
		}
	}
	return s.Backend.Get(ctx, key, r)
}

// Put mends the sector: the object is elsewhere.
func (s *sectors) Put(ctx context.Context, key string, r io.Reader, opts repository.PutOptions) error {
	s.bad = slices.DeleteFunc(s.bad, func(part string) bool { return strings.Contains(key, part) })
	return s.Backend.Put(ctx, key, r, opts)
}

// withSectors is a place some of whose segments are not given.
func withSectors(p *place, bad ...string) (*place, *sectors) {
	s := &sectors{p.backend, bad}
	repo := repository.New(repository.Config{Backend: s, Cluster: "default", Prefix: "default/"})
	return &place{Place: upkeep.Place{Repository: repo, Segments: segments.New(segments.Config{Repository: repo})}, backend: p.backend}, s
}

// A disk rots by sectors. The others are read and copied, and what is not given twice is damaged: another backend has it.
func TestASegmentThatIsNotGivenIsReplaced(t *testing.T) {
	for name, suffix := range map[string]string{"its data": ".seg", "its manifest": ".json"} {
		t.Run(name, func(t *testing.T) {
			one, other := two(t, 100, segments.Config{})
			one.rot(71, 80)
			rotten, _ := withSectors(one, segment.Name(31, 40)+suffix)
			c := copiesOf(rotten, other)
			done, errs := c.Scrub(t.Context(), 100, begin.Add(later))
			if len(done.Damaged) != 1 || done.Segments != 19 || len(errs) != 1 || !strings.Contains(errs[0].Error(), "revisions 31 to 40") {
				t.Errorf("%+v, %v", done, errs)
			}
			if s := c.State("one"); s.Damaged != 1 {
				t.Errorf("one look is taken for damage: %+v", s)
			}
			found, replaced := 0, 0
			for range 2 { // when it was the last one of the scrub, others are read first
				again := repair(t, c)
				found, replaced = found+len(again[0].Damaged), replaced+len(again[0].Replaced)
				if again[0].Err != nil {
					t.Errorf("%+v", again[0])
				}
			}
			if found != 1 || replaced != 2 || c.State("one").Damaged != 0 {
				t.Errorf("%d were found, and %d replaced: %+v", found, replaced, c.State("one"))
			}
			rotten.whole(t, 100)
			if got := scrub(t, c); len(got) > 0 {
				t.Errorf("then %q are damaged", got)
			}
		})
	}
}

// One segment that is not given does not keep those behind it from being copied, and one that is given again is good.
func TestASegmentThatIsNotGivenIsOneAlone(t *testing.T) {
	one, empty := newPlace("one", segments.Config{}), newPlace("two", segments.Config{})
	one.put(t, timeline, 100)
	rotten, disk := withSectors(one, segment.Name(31, 40)+".seg")
	c := copiesOf(rotten, empty)
	done := repair(t, c)
	if done[1].Segments != 9 || done[1].Lacking != 10 || snapshot.ReasonOf(done[1].Err) != snapshot.ReasonBackendUnavailable {
		t.Errorf("%+v", done[1])
	}
	repair(t, c)
	if s := c.State("one"); s.Damaged != 1 {
		t.Errorf("%+v", s)
	}
	disk.bad = nil
	scrub(t, c)
	if done := repair(t, c); done[1].Segments != 1 || done[1].Lacking != 0 || c.State("one").Damaged != 0 {
		t.Errorf("%+v", done[1])
	}
}

// Neighbours of which neither data nor manifest is given are damaged, and the others of their backend are copied.
func TestNeighboursThatAreNotGivenAreAlone(t *testing.T) {
	one, empty := newPlace("one", segments.Config{}), newPlace("two", segments.Config{})
	one.put(t, timeline, 100)
	rotten, _ := withSectors(one, segment.Name(1, 10), segment.Name(11, 20), segment.Name(21, 30))
	c := copiesOf(rotten, empty)
	var done []upkeep.Copied
	for range 3 {
		done = repair(t, c)
	}
	if s := c.State("one"); s.Damaged != 3 {
		t.Errorf("%+v, want 3 that are damaged", s)
	}
	if names, _ := empty.held(t, timeline); done[1].Lacking != 0 || len(names) != 7 {
		t.Errorf("%+v, and %v are there", done[1], names)
	}
}

// The disk gets worse: the segment that was given is not given any more, and one alone still is.
func TestADiskThatGivesLessAndLessIsNoBackendThatIsAway(t *testing.T) {
	one, empty := newPlace("one", segments.Config{}), newPlace("two", segments.Config{})
	one.put(t, timeline, 100)
	rotten, disk := withSectors(one, segment.Name(1, 10), segment.Name(11, 20), segment.Name(21, 30))
	c := copiesOf(rotten, empty)
	_, _ = c.Scrub(t.Context(), 100, begin.Add(later))
	for first := int64(31); first < 91; first += 10 {
		disk.bad = append(disk.bad, segment.Name(first, first+9))
	}
	for range 12 { // each tries another one
		repair(t, c)
	}
	if names, _ := empty.held(t, timeline); len(names) != 1 || c.State("one").Damaged != 9 {
		t.Errorf("%v was copied, and %+v", names, c.State("one"))
	}
}

// A backend that gives nothing is away: none of its segments is damaged, and few are asked for.
func TestABackendThatGivesNothingHasNoDamage(t *testing.T) {
	one, empty := newPlace("one", segments.Config{}), newPlace("two", segments.Config{})
	one.put(t, timeline, 100)
	dead, _ := withSectors(one, "-")
	c := copiesOf(dead, empty)
	for range 3 {
		if done, errs := c.Scrub(t.Context(), 100, begin.Add(later)); len(errs) != 4 || done.Segments > 0 {
			t.Errorf("%+v, %v", done, errs)
		}
		if done := repair(t, c); done[1].Lacking != 100 || done[0].Err == nil {
			t.Errorf("%+v", done)
		}
	}
	if s := c.State("one"); s.Damaged > 0 {
		t.Errorf("%+v", s)
	}
}

// failingAt is a place whose backend fails after a number of changes, on the objects of another one.
func failingAt(p *place, after int) *place {
	f := &failing{Backend: p.backend, after: after}
	repo := repository.New(repository.Config{Backend: f, Cluster: "default", Prefix: "default/"})
	return &place{Place: upkeep.Place{Repository: repo, Segments: segments.New(segments.Config{Repository: repo})}, backend: p.backend}
}

// addOnly is a backend that removes nothing.
type addOnly struct {
	*memory.Backend
	refused int
	gets    int
}

func (a *addOnly) Delete(_ context.Context, key string) error {
	a.refused++
	return snapshot.ReasonBackendAccessDenied.New("delete %s", key).On(a.Info().Name)
}

func (a *addOnly) Get(ctx context.Context, key string, r repository.Range) (io.ReadCloser, error) {
	a.gets++
	return a.Backend.Get(ctx, key, r)
}

// The policy of a bucket may let nothing be removed. A damaged segment whose revisions others hold is no damage then, it is
// left alone, and one that can be written over is.
func TestABackendThatRemovesNothing(t *testing.T) {
	one, other := two(t, 300, segments.Config{})
	_, err := upkeep.Merge(t.Context(), one.Segments, timeline, begin.Add(later))
	must(t, err)
	other.rot(41, 50)
	bucket := &addOnly{Backend: other.backend}
	repo := repository.New(repository.Config{Backend: bucket, Cluster: "default", Prefix: "default/"})
	c := copiesOf(one, &place{Place: upkeep.Place{Repository: repo, Segments: segments.New(segments.Config{Repository: repo})}})
	scrub(t, c)
	if done := repair(t, c); done[1].Err != nil || done[1].Segments != 1 || len(done[1].Replaced) > 0 || bucket.refused != 1 {
		t.Errorf("%+v, %d times refused", done[1], bucket.refused)
	}
	bucket.gets = 0
	if done := repair(t, c); done[1].Err != nil || bucket.refused != 1 || bucket.gets > 0 || c.State("two").Damaged > 0 {
		t.Errorf("it is tried again, with %d reads: %+v, %+v", bucket.gets, done[1], c.State("two"))
	}
	if got := scrub(t, c); len(got) > 0 {
		t.Errorf("%q are damaged", got)
	}
	c.Repair(t.Context(), timeline, begin.Add(later+25*time.Hour))
	if bucket.refused != 2 {
		t.Errorf("after a day, it was tried %d times", bucket.refused)
	}
	// It lacks the merged one, behind the back of the program: now the damaged one is needed.
	other.lose(1, 300)
	one.lose(1, 300)
	scrub(t, c)
	repair(t, c)
	if s := c.State("two"); s.Damaged != 1 {
		t.Errorf("%+v", s)
	}
	orphan := "default/journal/" + string(timeline) + "/10s/" + segment.Name(401, 410) + ".seg"
	other.backend.Set(orphan, []byte("of a writer that died"))
	if done, err := c.Sweep(t.Context(), timeline, time.Now().Add(48*time.Hour)); err != nil || done != (upkeep.Swept{}) {
		t.Errorf("%+v, %v", done, err)
	}
	// One of the same name is written over.
	three := newPlace("three", segments.Config{})
	three.put(t, timeline, 300)
	c.Pruner.Places[0] = three.Place
	if done := repair(t, c); done[1].Err != nil || len(done[1].Replaced) != 1 || c.State("two").Damaged > 0 {
		t.Errorf("%+v, %+v", done[1], c.State("two"))
	}
}

// The process dies between any two of its changes, such as data and manifest of a copy. Nothing that was good is lost,
// and the next repair goes on.
func TestAnInterruptedRepairGoesOn(t *testing.T) {
	for n := 1; ; n++ {
		one, other := two(t, 60, segments.Config{})
		other.lose(11, 20)
		other.rot(31, 40)
		c := copiesOf(one, failingAt(other, n))
		scrub(t, c)
		done := repair(t, c)
		if n == 2 && len(done[1].Replaced)+done[1].Segments > 1 {
			t.Errorf("after %d changes: %+v", n, done[1])
		}
		names, _ := one.held(t, timeline)
		if len(names) != 6 {
			t.Fatalf("after %d changes, the other one has %q", n, names)
		}
		again := copiesOf(one, other)
		scrub(t, again)
		if end := repair(t, again); end[1].Err != nil || end[1].Lacking > 0 {
			t.Fatalf("after %d changes: %+v", n, end[1])
		}
		other.whole(t, 60)
		if got := scrub(t, again); len(got) > 0 {
			t.Fatalf("after %d changes, %q are damaged", n, got)
		}
		if done[1].Err == nil {
			if n < 4 {
				t.Errorf("a repair has only %d changes", n)
			}
			return
		}
	}
}

// A replica whose term has ended goes on for a moment.
func TestTwoReplicasRepairAtOnce(t *testing.T) {
	recipients, identities := ageKeys(t)
	one, other := two(t, 300, segments.Config{Recipients: recipients, Identities: identities})
	for first := int64(1); first < 200; first += 20 {
		other.lose(first, first+9)
		one.lose(first+10, first+19)
	}
	other.rot(211, 220)
	var replicas sync.WaitGroup
	for range 2 {
		c := copiesOf(one, other)
		scrub(t, c)
		replicas.Go(func() {
			for _, done := range repair(t, c) {
				if done.Err != nil {
					t.Error(done.Err)
				}
			}
		})
	}
	replicas.Wait()
	for _, p := range []*place{one, other} {
		p.whole(t, 300)
	}
	if got := scrub(t, copiesOf(one, other)); len(got) > 0 {
		t.Errorf("%q are damaged", got)
	}
}

// Each segment has its turn, and one that was read is not read again before the others.
func TestAScrubReadsAShare(t *testing.T) {
	p := newPlace("one", segments.Config{})
	p.put(t, timeline, 1000)
	c := copiesOf(p)
	total := 0
	for i, want := range []int{30, 30, 30, 30} {
		done, errs := c.Scrub(t.Context(), 30, begin.Add(time.Duration(i)*time.Minute))
		if done.Segments != want || len(errs) > 0 || done.Bytes == 0 {
			t.Errorf("%+v, %v", done, errs)
		}
		total += done.Segments
		if i == 0 {
			for _, key := range p.backend.Keys() {
				if strings.HasSuffix(key, ".seg") {
					p.backend.Set(key, append(p.backend.Content(key), 0))
				}
			}
		}
	}
	if got := c.State("one").Damaged; got != 90 {
		t.Errorf("%d segments were found, and 90 of %d readings were of others than the first 30", got, total)
	}
	if done, _ := c.Scrub(t.Context(), 1, begin); done.Segments != 1 {
		t.Errorf("a small share reads %d", done.Segments)
	}
}

func TestLeftoversAreSwept(t *testing.T) {
	p := newPlace("one", segments.Config{})
	p.put(t, timeline, 30)
	past := segment.NewTimeline(timeline.EtcdCluster(), begin.Add(-time.Hour))
	p.last, p.chain = 0, segment.Chain{}
	p.put(t, past, 10)
	c := copiesOf(p)
	now := time.Now()
	sweep := func(after time.Duration) upkeep.Swept {
		t.Helper()
		done, err := c.Sweep(t.Context(), timeline, now.Add(after))
		must(t, err)
		return done
	}
	orphans := []string{"default/journal/" + string(timeline) + "/10s/" + segment.Name(41, 50) + ".seg"}
	for _, key := range p.keysOf(1, 10) {
		if strings.Contains(key, string(past)) && strings.HasSuffix(key, ".json") {
			p.backend.Remove(key) // its remover has died
			orphans = append(orphans, strings.TrimSuffix(key, ".json")+".seg")
		}
	}
	p.backend.Set(orphans[0], []byte("of a writer that died"))
	foreign := "default/journal/" + string(timeline) + "/10s/notes.txt"
	p.backend.Set(foreign, []byte("of a person"))
	before := p.backend.Keys()
	if done := sweep(23 * time.Hour); done != (upkeep.Swept{}) || !slices.Equal(p.backend.Keys(), before) {
		t.Errorf("what is young goes: %+v", done)
	}
	if done := sweep(25 * time.Hour); done != (upkeep.Swept{Objects: 2}) {
		t.Errorf("%+v", done)
	}
	// The timeline has been without segments since then.
	document := "default/journal/" + string(past) + ".json"
	if done := sweep(40 * time.Hour); done != (upkeep.Swept{}) || !slices.Contains(p.backend.Keys(), document) {
		t.Errorf("%+v", done)
	}
	if done := sweep(50 * time.Hour); done != (upkeep.Swept{Timelines: 1}) || slices.Contains(p.backend.Keys(), document) {
		t.Errorf("%+v", done)
	}
	if names, _ := p.held(t, timeline); len(names) != 3 || !slices.Contains(p.backend.Keys(), foreign) {
		t.Errorf("it holds %q", names)
	}
	// A replica that has written it before brings an old part.
	p.last, p.chain = 0, segment.Chain{}
	other := &place{Place: upkeep.Place{Repository: p.Repository, Segments: segments.New(segments.Config{Repository: p.Repository})}, backend: p.backend}
	other.put(t, past, 10)
	if names, _ := p.held(t, past); len(names) != 1 || !slices.Contains(p.backend.Keys(), document) {
		t.Errorf("it holds %q", names)
	}
	sweep(100 * time.Hour)
	if names, _ := p.held(t, past); len(names) != 1 || !slices.Contains(p.backend.Keys(), document) {
		t.Errorf("after another sweep, it holds %q", names)
	}
}

// bringing is a backend on which a replica stores an old part while the document of its timeline is removed.
type bringing struct {
	*memory.Backend
	bring func()
}

func (b *bringing) Delete(ctx context.Context, key string) error {
	if err := b.Backend.Delete(ctx, key); err != nil || b.bring == nil {
		return err
	}
	bring := b.bring
	b.bring = nil
	bring()
	return nil
}

func TestATimelineThatGetsASegmentWhileItIsSweptStays(t *testing.T) {
	p := newPlace("one", segments.Config{})
	p.put(t, timeline, 10)
	key := p.keysOf(1, 10)
	slow := &bringing{Backend: p.backend}
	repo := repository.New(repository.Config{Backend: slow, Cluster: "default", Prefix: "default/"})
	c := &upkeep.Copies{Pruner: &upkeep.Pruner{Places: []upkeep.Place{{Repository: repo, Segments: segments.New(segments.Config{Repository: repo})}}}}
	contents := map[string][]byte{}
	for _, k := range key {
		contents[k] = p.backend.Content(k)
		p.backend.Remove(k)
	}
	now := time.Now()
	for _, after := range []time.Duration{time.Hour, 48 * time.Hour} {
		slow.bring = func() {
			for k, content := range contents {
				p.backend.Set(k, content)
			}
		}
		_, err := c.Sweep(t.Context(), "", now.Add(after))
		must(t, err)
	}
	if names, _ := p.held(t, timeline); len(names) != 1 || !slices.Contains(p.backend.Keys(), "default/journal/"+string(timeline)+".json") {
		t.Errorf("it holds %q", p.backend.Keys())
	}
}

func newKeys(t *testing.T) (*signing.Signer, *signing.Trust) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	signer, err := signing.NewSigner(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	must(t, err)
	trust := signing.NewTrust(false)
	trust.AddSigner(signer)
	return signer, trust
}
