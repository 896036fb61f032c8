package journal_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/journal/local"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/snapshot"
)

const left = segment.Timeline("cdf818194e3a8c32-1784203200")

// leave writes parts of ten revisions each, as an earlier process left them.
func leave(t *testing.T, dir string, parts int64) {
	t.Helper()
	log := local.New(dir, 1<<30)
	must(t, log.Open())
	must(t, log.Begin(segment.Header{Timeline: left}))
	for r := int64(1); r <= 10*parts; r++ {
		must(t, log.Append(segment.Revision{
			Main: r, Time: time.UnixMilli(1_784_203_200_000 + r).UTC(), Records: []segment.Record{{Value: []byte("value")}},
		}))
		if r%10 == 0 {
			must(t, log.Seal())
		}
	}
	must(t, log.Close())
}

// uploader makes the journal of a replica that does not lead: it uploads what an earlier process has left.
func uploader(t *testing.T, dir string, places []*place, edit ...func(*journal.Config)) *journal.Journal {
	t.Helper()
	cfg := journal.Config{Dir: dir}
	for _, p := range places {
		cfg.Stores = append(cfg.Stores, p.segments())
	}
	for _, e := range edit {
		e(&cfg)
	}
	return journal.New(cfg)
}

// runs uploads until it is stopped, by the test's end at the latest.
func runs(t *testing.T, j *journal.Journal) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { j.Run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		work.Wait()
		must(t, j.Close(context.WithoutCancel(ctx)))
	})
	t.Cleanup(stop)
	return stop
}

// ends returns the last revisions of the segments that a backend holds.
func ends(t *testing.T, p *place) (all []int64) {
	t.Helper()
	listing := p.segments()
	for item, err := range listing.List(t.Context(), left, segment.Level10s) {
		must(t, err)
		if _, err := listing.Manifest(t.Context(), item.Ref); err == nil {
			all = append(all, item.Last)
		}
	}
	return all
}

func (p *place) spoil(first, last int64) (key string) {
	key = "prod/journal/" + string(left) + "/10s/" + segment.Name(first, last)
	b := p.Backend.(*memory.Backend)
	b.Set(key+".seg", []byte("other"))
	b.Set(key+".json", []byte("{}"))
	return key
}

// An object that cannot be used stands where the second part belongs. All others are stored, and that one when the
// object is gone.
func TestADamagedObjectDoesNotKeepOthersFromTheBackend(t *testing.T) {
	t.Parallel()
	dir, good, bad := t.TempDir(), newPlace("good"), newPlace("bad")
	leave(t, dir, 4)
	j := uploader(t, dir, []*place{good, bad})
	j.RetryBadAfter(10 * time.Millisecond)
	key := bad.spoil(11, 20)
	runs(t, j)
	eventually(t, "all other parts are stored, and one waits", func() bool {
		s := j.Status()
		return slices.Equal(ends(t, bad), []int64{10, 30, 40}) && slices.Equal(ends(t, good), []int64{10, 20, 30, 40}) &&
			s.Waiting == 1 && s.Stores[0].Err == nil && snapshot.ReasonOf(s.Stores[1].Err) == snapshot.ReasonChecksumMismatch
	})
	must(t, bad.Delete(t.Context(), key+".json"))
	must(t, bad.Delete(t.Context(), key+".seg"))
	eventually(t, "all parts are stored", func() bool {
		s := j.Status()
		return slices.Equal(ends(t, bad), []int64{10, 20, 30, 40}) && s.Waiting == 0 && s.Stores[1].Err == nil
	})
}

func TestAPartThatCannotBeReadDoesNotKeepOthersOnTheDisk(t *testing.T) {
	t.Parallel()
	dir, p := t.TempDir(), newPlace("one")
	leave(t, dir, 4)
	j := uploader(t, dir, []*place{p})
	p.away.Store(true)
	runs(t, j)
	eventually(t, "the backend is seen to be away", func() bool { return j.Status().Stores[0].Err != nil })
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(files) != 4 {
		t.Fatalf("%q, %v", files, err)
	}
	whole, err := os.ReadFile(files[1])
	must(t, err)
	must(t, os.WriteFile(files[1], append(whole[:60:60], whole[61:]...), 0o600))
	p.away.Store(false)
	eventually(t, "all other parts are stored", func() bool { return slices.Equal(ends(t, p), []int64{10, 30, 40}) })
	eventually(t, "that part waits", func() bool { return j.Status().Waiting == 1 })
	if s := j.Status(); s.Stores[0].Err == nil {
		t.Errorf("it is %+v", s)
	}
	if _, err := os.Stat(files[1]); err != nil {
		t.Error(err)
	}
}

// A backend is away until the disk is full, and what the other one has is removed. It is not said to be whole before
// it takes the journal again and there is a snapshot of that time.
func TestABackendThatLostRevisionsIsNotWhole(t *testing.T) {
	t.Parallel()
	var a asked
	var grown atomic.Pointer[snapshot.JournalBreak]
	var newest atomic.Int64
	newest.Store(5)
	s := growing(&newest, 10_000)
	good, bad := newPlace("good"), newPlace("bad")
	bad.away.Store(true)
	j := lead(t, s, t.TempDir(), []*place{good, bad}, func(c *journal.Config) {
		c.MaxBytes, c.Base, c.Broken = 15_000, a.base, a.broken
		c.Grown = func(b snapshot.JournalBreak) { grown.Store(&b) }
	})
	eventually(t, "one backend has the first part", func() bool {
		s := j.Status().Stores
		return s[0].Segments == 1 && s[1].Err != nil
	})
	newest.Store(6)
	eventually(t, "the part that one backend has is removed", func() bool {
		_, causes := a.all()
		return slices.Equal(causes, []segment.Cause{segment.CauseFull}) && j.Status().Waiting == 1
	})
	newest.Store(7)
	eventually(t, "it tells that more is missing, and counts it once", func() bool {
		told, more := a.told(), grown.Load()
		return len(told) == 1 && more != nil && more.Backend == "bad" && more.After == told[0].After && more.Before == told[0].Before+1
	})
	lost := time.Now()
	eventually(t, "the journal goes on, on the backend that takes it", func() bool {
		s := j.Status()
		return s.Complete.After(lost) && s.Stores[0].Complete.After(lost)
	})
	if s := j.Status(); !s.Stores[1].Complete.Before(lost) {
		t.Errorf("one backend lacks a part, and it is %+v", s)
	}
	bad.away.Store(false)
	eventually(t, "both backends are whole", func() bool {
		s := j.Status()
		return s.Stores[0].Complete.After(lost) && s.Stores[1].Complete.After(lost)
	})
	bases, _ := a.all()
	if told := a.told(); len(told) != 1 || told[0].Backend != "bad" || told[0].Lost() == 0 {
		t.Errorf("it tells of %+v", told)
	}
	if last := bases[len(bases)-1]; last.Revision != 7 || !strings.Contains(last.Reason, "backend bad") {
		t.Errorf("the snapshots are %+v", bases)
	}
}

// A backend is away until the disk is full, and what the other one has is removed. The process starts again, and the
// backend comes back: it is not said to be whole before there is a snapshot. An upload that has begun before the replica
// asked where the backend's journal ends, and succeeds after it, changes nothing.
func TestABackendThatLostRevisionsBeforeARestartIsNotWhole(t *testing.T) {
	t.Parallel()
	for name, underWay := range map[string]bool{"away": false, "away, with an upload under way": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lostBeforeARestart(t, underWay)
		})
	}
}

// holdUpload lets the first upload to the backend begin, and then it is away, and the source is dialled.
func (p *place) holdUpload(s *fakeSource) {
	arrived := make(chan struct{})
	p.away.Store(false)
	p.held = &held{sync.OnceFunc(func() {
		p.away.Store(true)
		close(arrived)
	}), make(chan struct{})}
	members := s.members
	s.members = func(avoid string) *fakeMember {
		<-arrived
		return members(avoid)
	}
}

// The upload under way brings all that a backend lacks: nothing is lost.
func TestAnUploadUnderWayBringsWhatABackendLacks(t *testing.T) {
	t.Parallel()
	var a asked
	var newest atomic.Int64
	newest.Store(5)
	s := growing(&newest, 10_000)
	good, slow := newPlace("good"), newPlace("slow")
	dir := t.TempDir()
	start := func() *replica {
		return lead(t, s, dir, []*place{good, slow}, func(c *journal.Config) { c.Broken, c.Base = a.broken, a.base })
	}
	j := start()
	eventually(t, "both have the first part", func() bool {
		st := j.Status().Stores
		return j.Status().Waiting == 0 && st[0].Segments > 0 && st[1].Segments > 0
	})
	slow.away.Store(true)
	newest.Store(6)
	eventually(t, "one has the next one", func() bool { return look(t, good).Timelines[0].Ranges[0].Last == 6 })
	j.stop()
	began := time.Now()
	newest.Store(7)
	slow.holdUpload(s)
	j = start()
	j.caughtUp(t, 7)
	slow.away.Store(false)
	close(slow.held.free)
	eventually(t, "both have the newest, and are whole", func() bool {
		st := j.Status()
		return st.Waiting == 0 && st.Stores[0].Complete.After(began) && st.Stores[1].Complete.After(began)
	})
	j.stop()
	bases, _ := a.all()
	if slices.ContainsFunc(bases, func(b journal.Base) bool { return strings.Contains(b.Reason, "lacks") }) {
		t.Errorf("the snapshots are %+v", bases)
	}
}

func lostBeforeARestart(t *testing.T, underWay bool) {
	var a asked
	var newest atomic.Int64
	newest.Store(5)
	s := growing(&newest, 10_000)
	good, bad := newPlace("good"), newPlace("bad")
	bad.away.Store(true)
	based := make(chan struct{})
	size := int64(15_000)
	dir := t.TempDir()
	start := func() *replica {
		return lead(t, s, dir, []*place{good, bad}, func(c *journal.Config) {
			c.MaxBytes, c.Broken = size, a.broken
			c.Base = func(ctx context.Context, b journal.Base) error {
				if strings.Contains(b.Reason, "lacks") {
					<-based
				}
				return a.base(ctx, b)
			}
		})
	}
	j := start()
	eventually(t, "one backend has the first part", func() bool { return j.Status().Stores[0].Segments == 1 })
	newest.Store(6)
	eventually(t, "the part that one backend has is removed", func() bool { _, causes := a.all(); return len(causes) == 1 })
	eventually(t, "one backend has the next one", func() bool { return look(t, good).Timelines[0].Ranges[0].Last == 6 })
	j.stop()
	lost := time.Now()
	size = 1 << 20
	newest.Store(7)
	if underWay {
		bad.holdUpload(s)
	}
	j = start()
	j.caughtUp(t, 7)
	bad.away.Store(false)
	if underWay {
		close(bad.held.free)
	}
	eventually(t, "both have the newest", func() bool { return j.Status().Waiting == 0 && j.Status().Stores[0].Complete.After(lost) })
	if at := j.Status().Stores[1].Complete; at.After(lost) {
		t.Errorf("one backend lacks a part, and is complete up to %s, after %s", at, lost)
	}
	close(based)
	eventually(t, "both backends are whole", func() bool { return j.Status().Stores[1].Complete.After(lost) })
	j.stop()
	bases, _ := a.all()
	if last := bases[len(bases)-1]; !strings.Contains(last.Reason, "backend bad lacks") {
		t.Errorf("the snapshots are %+v", bases)
	}
}

// What came to the journal late was committed before that: the metric must not say that all before it came is safe.
func TestRecoveryPointOfABackendIsTheLastWatermarkBeforeWhatItLacks(t *testing.T) {
	t.Parallel()
	e := embedded.StartEtcd(t)
	client := e.Client(t)
	c := &cluster{}
	c.become(t, e.Endpoints()...)
	p := newPlace("backend")
	dir := t.TempDir()
	put := func() time.Time {
		t.Helper()
		_, err := client.Put(t.Context(), "key", "value")
		must(t, err)
		return time.Now()
	}
	put()
	hourly := func(cfg *journal.Config) { cfg.UploadInterval = time.Hour }
	r := lead(t, c, dir, []*place{p}, hourly)
	r.caughtUp(t, 2)
	r.stop() // what is sealed now is uploaded
	acked := put()
	r = lead(t, c, dir, []*place{p}, hourly)
	r.caughtUp(t, 3)
	for range 20 {
		s := r.Status()
		if s.Stores[0].Complete.After(acked) {
			t.Fatalf("the backend lacks what was acknowledged at %s, and all before %s is said to be there", acked, s.Stores[0].Complete)
		}
		put()
		r.caughtUp(t, s.Revision+1)
	}
}
