package journal_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/etcd/member"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/journal/segment"
)

// rig is an etcd whose changes are followed to one backend.
type rig struct {
	*embedded.History
	cluster *cluster
	place   *place
	dir     string
}

func newRig(t *testing.T, seed uint64) *rig {
	t.Helper()
	r := &rig{History: embedded.NewHistory(t, seed), cluster: &cluster{}, place: newPlace("s3"), dir: t.TempDir()}
	r.cluster.become(t, r.Endpoints()...)
	return r
}

func (r *rig) lead(t *testing.T, edit ...func(*journal.Config)) *replica {
	t.Helper()
	return lead(t, r.cluster, r.dir, []*place{r.place}, edit...)
}

// equal checks that the journal on the backend has every record of etcd's database from its first revision on.
func (r *rig) equal(t *testing.T) []segment.Entry {
	t.Helper()
	held := whole(t, r.place)
	all := entries(t, r.place, held.Name)
	same(t, records(all), database(t, r.Etcd, held.Ranges[0].First))
	return all
}

func TestTheJournalHasEveryRecordOfEtcdByteForByte(t *testing.T) {
	t.Parallel()
	r := newRig(t, 7)
	r.Change(t, 50)
	j := r.lead(t)
	r.Change(t, 1500)
	// A transaction of many keys, a large value, and a removal of many keys: each is one revision.
	client := r.Client(t)
	for range 3 {
		var ops []clientv3.Op
		for i := range 100 {
			ops = append(ops, clientv3.OpPut("/many/"+strings.Repeat("x", i), strings.Repeat("y", i*i)))
		}
		_, err := client.Txn(t.Context()).Then(ops...).Commit()
		must(t, err)
		_, err = client.Put(t.Context(), "/large", strings.Repeat("z", 1_400_000))
		must(t, err)
		_, err = client.Delete(t.Context(), "/many/", clientv3.WithPrefix())
		must(t, err)
	}
	// Names so long that the revision of their removal is larger than any request to etcd may be.
	for i := range 12 {
		_, err := client.Put(t.Context(), fmt.Sprintf("/long/%02d/%s", i, strings.Repeat("n", 1_200_000)), "")
		must(t, err)
	}
	_, err := client.Delete(t.Context(), "/long/", clientv3.WithPrefix())
	must(t, err)
	j.caughtUp(t, r.Revision())
	j.stop()
	r.equal(t)
}

func TestLeasesAndCompactionsAreInTheJournal(t *testing.T) {
	t.Parallel()
	r := newRig(t, 8)
	j := r.lead(t)
	r.Change(t, 300)
	_, err := r.Client(t).Grant(t.Context(), 4711) // of no key
	must(t, err)
	j.caughtUp(t, r.Revision())
	compaction := r.Revision() - 20
	seen := r.Revision()
	r.Compact(t, compaction)
	ttls, _ := r.Leases(t)
	facts := func() (list map[int64]bool, granted map[int64]int64, compacted []segment.Compaction) {
		list, granted = map[int64]bool{}, map[int64]int64{}
		for _, t1 := range look(t, r.place).Timelines {
			for _, e := range entries(t, r.place, t1.Name) {
				switch e := e.(type) {
				case segment.Leases:
					clear(list)
					for _, id := range e.IDs {
						list[id] = true
					}
				case segment.Lease:
					if !e.Gone {
						granted[e.ID] = e.GrantedTTL
					}
				case segment.Compaction:
					compacted = append(compacted, e)
				}
			}
		}
		return list, granted, compacted
	}
	eventually(t, "all leases and the compaction are in the journal", func() bool {
		put(t, r.Client(t), "/next", 1) // facts are uploaded with the next revision
		list, granted, compacted := facts()
		if len(list) != len(ttls) || len(compacted) == 0 {
			return false
		}
		for id, ttl := range ttls {
			if granted[id] != ttl {
				return false
			}
		}
		return true
	})
	_, _, compacted := facts()
	if c := compacted[0]; len(compacted) != 1 || c.Revision != compaction || c.After > seen || c.Before < seen {
		t.Errorf("the compactions are %+v, and one was up to %d, at revision %d", compacted, compaction, seen)
	}
}

// No fact comes before the revisions that it is about, and no watermark promises what the journal does not have.
func TestFactsComeAfterTheRevisionsTheyAreAbout(t *testing.T) {
	t.Parallel()
	r := newRig(t, 9)
	j := r.lead(t)
	for range 10 {
		r.Change(t, 60)
		j.caughtUp(t, r.Revision())
	}
	j.stop()
	var last int64
	var mark segment.Watermark
	marks := 0
	for _, e := range r.equal(t) {
		switch e := e.(type) {
		case segment.Revision:
			last = e.Main
			if !mark.Time.IsZero() && mark.Revision < last && e.Time.Before(mark.Time) {
				t.Errorf("revision %d came at %s, and at %s the journal was complete up to %d", e.Main, e.Time, mark.Time, mark.Revision)
			}
		case segment.Leases:
			if e.Revision > last {
				t.Errorf("leases of revision %d come after revision %d", e.Revision, last)
			}
		case segment.Lease:
			if e.Revision > last {
				t.Errorf("a lease of revision %d comes after revision %d", e.Revision, last)
			}
		case segment.Watermark:
			if marks++; e.Revision > last || e.Time.Before(mark.Time) {
				t.Errorf("watermark %+v comes after revision %d and %+v", e, last, mark)
			}
			mark = e
		}
	}
	if marks == 0 {
		t.Error("there is no watermark")
	}
}

func TestAnIdleClusterMakesNoSegments(t *testing.T) {
	t.Parallel()
	r := newRig(t, 10)
	r.Change(t, 10)
	j := r.lead(t)
	j.caughtUp(t, r.Revision())
	j.stored(t, r.place)
	before := j.Status()
	eventually(t, "ten intervals have passed", func() bool { return j.Status().Complete.Sub(before.Complete) > time.Second })
	if s := j.Status(); s.Stores[0].Segments != before.Stores[0].Segments || s.Revision != before.Revision {
		t.Errorf("%+v became %+v", before, s)
	}
	r.Change(t, 10)
	j.caughtUp(t, r.Revision())
	j.stored(t, r.place)
	j.stop()
	r.equal(t)
}

func TestAFollowerThatIsKilledGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	r := newRig(t, 11)
	j := r.lead(t)
	r.Change(t, 200)
	j.caughtUp(t, r.Revision())
	killed := t.TempDir() // the disk as it is when the process dies
	must(t, os.CopyFS(killed, os.DirFS(r.dir)))
	r.place.away.Store(true)
	j.stop()
	r.place.away.Store(false)
	r.Change(t, 200)
	r.dir = killed
	var a asked
	again := r.lead(t, func(c *journal.Config) { c.Base, c.Broken = a.base, a.broken })
	r.Change(t, 200)
	again.caughtUp(t, r.Revision())
	again.stop()
	r.equal(t)
	if bases, causes := a.all(); len(causes) > 0 || len(bases) > 1 {
		t.Errorf("timelines have ended because of %v, and snapshots were asked for: %+v", causes, bases)
	}
}

func TestAnotherLeaderGoesOnFromTheBackend(t *testing.T) {
	t.Parallel()
	r := newRig(t, 12)
	for range 3 {
		r.dir = t.TempDir() // of another machine
		j := r.lead(t)
		r.Change(t, 150)
		j.caughtUp(t, r.Revision())
		j.stop()
		r.Change(t, 150) // while no replica leads
	}
	j := r.lead(t)
	j.caughtUp(t, r.Revision())
	j.stop()
	r.equal(t)
}

// A leader that was paused, and does not know that another one leads, writes the same history. Nothing comes of it.
func TestTwoWritersOfOneHistoryAgree(t *testing.T) {
	t.Parallel()
	r := newRig(t, 13)
	j := r.lead(t)
	r.Change(t, 100)
	j.caughtUp(t, r.Revision())
	j.stored(t, r.place)
	var a asked
	other := lead(t, r.cluster, t.TempDir(), []*place{r.place}, func(c *journal.Config) { c.Broken = a.broken })
	r.Change(t, 300)
	j.caughtUp(t, r.Revision())
	other.caughtUp(t, r.Revision())
	j.stop()
	other.stop()
	held := whole(t, r.place)
	if held.Ranges[0].Last != r.Revision() {
		t.Errorf("the journal ends at %d, and etcd at %d", held.Ranges[0].Last, r.Revision())
	}
	if _, causes := a.all(); len(causes) > 0 {
		t.Errorf("a timeline has ended because of %v", causes)
	}
}

// restored makes the etcd of the rig an earlier copy of itself: the same cluster id, and another history from there on.
func (r *rig) restored(t *testing.T, copied string) *embedded.Etcd {
	t.Helper()
	r.Close(t)
	dir := filepath.Join(t.TempDir(), "restored")
	must(t, os.CopyFS(dir, os.DirFS(copied)))
	e := embedded.StartEtcd(t, func(c *member.Config) { c.Dir = dir })
	r.cluster.become(t, e.Endpoints()...)
	return e
}

func TestAnEtcdThatWasRestoredBeginsAnotherTimeline(t *testing.T) {
	t.Parallel()
	for name, changes := range map[string]struct {
		after int
		cause segment.Cause
	}{
		"and is behind the journal":        {5, segment.CauseRestored},
		"and has overtaken the journal":    {100, segment.CauseDifferent},
		"and is just where the journal is": {20, segment.CauseDifferent},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "data")
			first := embedded.StartEtcd(t, func(c *member.Config) { c.Dir = dir })
			put(t, first.Client(t), "/common", 30)
			first.Close(t)
			copied := filepath.Join(t.TempDir(), "copied")
			must(t, os.CopyFS(copied, os.DirFS(dir)))
			r := &rig{
				History: &embedded.History{Etcd: embedded.StartEtcd(t, func(c *member.Config) { c.Dir = dir })},
				cluster: &cluster{}, place: newPlace("s3"), dir: t.TempDir(),
			}
			r.cluster.become(t, r.Endpoints()...)
			var a asked
			j := r.lead(t, func(c *journal.Config) { c.Base, c.Broken = a.base, a.broken })
			old := put(t, r.Client(t), "/first", 20)
			j.caughtUp(t, old)
			j.stop()

			e := r.restored(t, copied)
			now := put(t, e.Client(t), "/second", changes.after)
			j = r.lead(t, func(c *journal.Config) { c.Base, c.Broken = a.base, a.broken })
			eventually(t, "another timeline begins", func() bool {
				_, causes := a.all()
				return len(causes) > 0
			})
			now = max(now, put(t, e.Client(t), "/third", 10))
			j.caughtUp(t, now)
			j.stop()
			w := look(t, r.place)
			if len(w.Timelines) != 2 {
				t.Fatalf("there are the timelines %+v", w.Timelines)
			}
			next := w.Timelines[1]
			if segment.CauseOf(next.Reason) != changes.cause || next.Ranges[0].Last != now {
				t.Errorf("the next timeline is %+v, and etcd is at %d", next, now)
			}
			same(t, records(entries(t, r.place, next.Name)), database(t, e, next.Ranges[0].First))
			eventually(t, "a snapshot of the new timeline is asked for", func() bool {
				bases, _ := a.all()
				return slices.ContainsFunc(bases, func(b journal.Base) bool { return b.Since.Equal(next.Name.Start()) })
			})
		})
	}
}

func TestWhatWasCompactedWhileNobodyFollowedIsAGap(t *testing.T) {
	t.Parallel()
	r := newRig(t, 14)
	var a asked
	j := r.lead(t, func(c *journal.Config) { c.Broken = a.broken })
	r.Change(t, 100)
	last := r.Revision()
	j.caughtUp(t, last)
	j.stop()
	r.Change(t, 100)
	r.Compact(t, r.Revision())
	next := put(t, r.Client(t), "/next", 1)
	j = r.lead(t, func(c *journal.Config) { c.Broken = a.broken })
	j.caughtUp(t, next)
	j.stop()
	w := look(t, r.place)
	if len(w.Timelines) != 2 || w.Timelines[0].Ranges[0].Last != last || w.Timelines[1].Ranges[0].First != next {
		t.Errorf("the journal ended at %d and goes on at %d; it has %+v", last, next, w.Timelines)
	}
	if _, causes := a.all(); len(causes) != 1 || causes[0] != segment.CauseCompacted {
		t.Errorf("the timeline has ended because of %v", causes)
	}
	all, shown := a.told(), w.Breaks("no backend")
	if len(shown) != 1 || len(all) != 1 {
		t.Fatalf("the journal tells of %+v, and the backend shows %+v", all, shown)
	}
	if told, b := all[0], shown[0]; told.After != last || told.Before != next || told.AfterTime.IsZero() || told.Lost() != next-last-1 ||
		told.OtherHistory || told.Timeline != b.Timeline || told.Reason != b.Reason || b.After != last || b.Before != next || !b.Begins {
		t.Errorf("the journal tells of %+v, and the backend shows %+v, want a gap from %d to %d", told, b, last, next)
	}
}

func TestNothingIsLostWhileABackendIsAway(t *testing.T) {
	t.Parallel()
	r := newRig(t, 15)
	j := r.lead(t)
	r.Change(t, 100)
	j.caughtUp(t, r.Revision())
	j.stored(t, r.place)
	r.place.away.Store(true)
	for range 4 {
		r.Change(t, 100)
		j.caughtUp(t, r.Revision())
		r.Compact(t, r.Revision())
	}
	eventually(t, "the backend is seen to be behind", func() bool {
		r.Change(t, 1) // a quick machine has made all before the first part was sealed
		s := j.Status()
		return s.Stores[0].Err != nil && s.Stores[0].Complete.Before(s.Complete) && s.Waiting > 1
	})
	r.place.away.Store(false)
	j.stored(t, r.place)
	j.stop()
	held := whole(t, r.place)
	if held.Ranges[0].Last != r.Revision() {
		t.Errorf("the journal ends at %d, and etcd at %d", held.Ranges[0].Last, r.Revision())
	}
}

func TestAJournalThatIsFullKeepsWhatItHas(t *testing.T) {
	t.Parallel()
	for name, compact := range map[string]bool{"etcd has the rest": false, "etcd has compacted the rest": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 16)
			var a asked
			small := func(c *journal.Config) { c.MaxBytes, c.Broken = 20_000, a.broken }
			j := r.lead(t, small)
			first := put(t, r.Client(t), "/first", 10)
			j.caughtUp(t, first)
			r.place.away.Store(true)
			eventually(t, "the journal is full", func() bool {
				put(t, r.Client(t), "/more", 20)
				s := j.Status()
				return s.Bytes > 20_000 && s.Endpoint == ""
			})
			full := j.Status().Revision
			put(t, r.Client(t), "/lost", 20)
			if compact {
				r.Compact(t, r.Revision())
			}
			if s := j.Status(); s.Revision != full || s.Bytes > 60_000 {
				t.Errorf("it was full at revision %d, and is %+v", full, s)
			}
			r.place.away.Store(false)
			last := put(t, r.Client(t), "/last", 3)
			j.caughtUp(t, last)
			j.stop()
			_, causes := a.all()
			if !compact {
				if len(causes) != 0 {
					t.Errorf("the timeline has ended because of %v", causes)
				}
				r.equal(t)
				return
			}
			w := look(t, r.place)
			if len(w.Timelines) != 2 || w.Timelines[0].Ranges[0].Last != full || len(causes) != 1 || causes[0] != segment.CauseFull {
				t.Errorf("it was full at %d; there are %+v, because of %v", full, w.Timelines, causes)
			}
		})
	}
}
