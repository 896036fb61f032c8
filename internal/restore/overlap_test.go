package restore_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/restore"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/journal/upkeep"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/snapshot"
)

// The faults of restores from a snapshot and changes behind it that are known of another program, etcd-backup-restore.

// overlap stores a segment from the first revision of one to a later one, as another leader does that has followed a
// little longer.
func (f *faulted) overlap(t *testing.T, from, to segment.Header) {
	t.Helper()
	b, err := segment.NewBuilder(segment.Header{
		Timeline: from.Timeline, Level: segment.Level10s, Member: from.Member, Term: 2, Previous: from.Previous, PreviousChain: from.PreviousChain,
	})
	if err != nil {
		t.Fatal(err)
	}
	last := to.First + 4
	for _, h := range []segment.Header{from, to} {
		for _, e := range entriesOf(t, f.places[0], h) {
			if r, ok := e.(segment.Revision); ok && r.Main > last {
				break
			}
			if err := b.Add(e); err != nil {
				t.Fatal(err)
			}
		}
	}
	s, err := b.Seal()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range f.places {
		if err := p.Put(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
}

// Two leaders have stored segments that begin with the same revision (its issue 1043).
func TestSegmentsOfTwoLeadersThatOverlapAreNoObstacle(t *testing.T) {
	f := newFaulted(t, 31)
	f.overlap(t, f.sealed[0], f.sealed[1])
	f.overlap(t, f.sealed[1], f.sealed[2])
	for _, revision := range []int64{f.sealed[0].Last, f.sealed[1].First + 4, f.sealed[1].Last, f.sealed[3].Last - 1} {
		f.run(t, restore.Choice{Revision: revision}, revision)
	}
}

// The snapshot is newer than the first segments behind the one before it (its issues 844 and 1044): a save reads etcd
// later than it has asked for the revision, and the journal overlaps it.
func TestSegmentsThatEndBeforeTheSnapshotAreLeftOut(t *testing.T) {
	f := newFaulted(t, 32)
	name, base := f.names[1], f.bases[1]
	if base < f.sealed[3].Last {
		t.Fatalf("the snapshot of revision %d is not behind %d", base, f.sealed[3].Last)
	}
	revision := f.sealed[5].First + 3
	if res := f.run(t, restore.Choice{Name: name, Revision: revision}, revision); res.Replayed.Base != base {
		t.Errorf("it began with %d, and not with %d", res.Replayed.Base, base)
	}
}

// A key of the snapshot has a lease that is over long since. A restore that starts an etcd before the changes are added
// lets it revoke that lease: a revision of its own, in the place of the first change (its issues 1045 and 1046).
func TestALeaseOfTheSnapshotTakesNoRevisionOfTheJournal(t *testing.T) {
	f := &faulted{}
	for i := range f.backends {
		f.backends[i] = memory.New([]string{"backend-0", "backend-1"}[i], snapshot.BackendS3)
	}
	h := embedded.NewHistory(t, 33)
	client := h.Client(t)
	lease, err := client.Grant(t.Context(), 5)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Put(t.Context(), "/masterlease", "held", clientv3.WithLease(lease.ID)); err != nil {
		t.Fatal(err)
	}
	f.recorder = record(t, h, h.Revision()+1, dayBefore, f.backends[0], f.backends[1])
	name, base := f.save(t, f.backends[0], f.backends[1])
	for i := range 4 {
		if _, err := client.Put(t.Context(), "/behind", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	f.sync(t)
	// The lease ends in the etcd that was saved, too, and that is one more revision behind them.
	if _, err := client.Revoke(t.Context(), lease.ID); err != nil {
		t.Fatal(err)
	}
	f.sync(t)
	f.seal(t)
	for i := range 5 {
		revision := base + 1 + int64(i)
		e, res := started(t, options(t, restore.Choice{Name: name, Revision: revision}, f.backends[0]))
		if res.Replayed == nil || res.Replayed.Revision != revision {
			t.Fatalf("revision %d: %+v", revision, res)
		}
		held, err := e.Client(t).Get(t.Context(), "/masterlease", clientv3.WithRev(revision))
		if err != nil || len(held.Kvs) != map[bool]int{true: 1}[i < 4] {
			t.Errorf("revision %d: the key with a lease is %v, %v", revision, held, err)
		}
		behind, err := e.Client(t).Get(t.Context(), "/behind", clientv3.WithRev(revision))
		if err != nil || len(behind.Kvs) != 1 || string(behind.Kvs[0].Value) != fmt.Sprint(min(i, 3)) || behind.Kvs[0].ModRevision != base+1+int64(min(i, 3)) {
			t.Errorf("revision %d: the key behind the snapshot is %v, %v", revision, behind, err)
		}
		e.Close(t)
	}
}

// One request deletes so many long names that its revision is larger than any request to etcd may be. A restore that
// sends the changes of a revision as one request, also to merge them, fails for ever (its issue 963: 51 MB of 2 MiB).
func TestARevisionLargerThanAnyRequestIsRestored(t *testing.T) {
	t.Parallel()
	f := &faulted{}
	for i := range f.backends {
		f.backends[i] = memory.New([]string{"backend-0", "backend-1"}[i], snapshot.BackendS3)
	}
	h := embedded.NewHistory(t, 34)
	client := h.Client(t)
	const names, length = 12, 1_280_000
	for i := range names {
		if _, err := client.Put(t.Context(), fmt.Sprintf("/long/%02d/%s", i, strings.Repeat("n", length)), ""); err != nil {
			t.Fatal(err)
		}
	}
	f.recorder = record(t, h, h.Revision()+1, dayBefore, f.backends[0], f.backends[1])
	_, base := f.save(t, f.backends[0], f.backends[1])
	f.Change(t, 5)
	f.sync(t)
	f.sample(t)
	f.seal(t)
	before := f.revision
	if _, err := client.Delete(t.Context(), "/long/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	f.sync(t)
	f.sample(t)
	deleted := f.revision
	f.Change(t, 5)
	f.sync(t)
	f.sample(t)
	f.seal(t)
	if deleted <= before || f.moments[before].Keys == nil || len(f.moments[before].Keys)-len(f.moments[deleted].Keys) != names {
		t.Fatalf("from revision %d to %d, %d keys become %d", before, deleted, len(f.moments[before].Keys), len(f.moments[deleted].Keys))
	}
	restores := func() {
		t.Helper()
		for _, revision := range []int64{before, deleted, f.revision} {
			if res := f.run(t, restore.Choice{Revision: revision}, revision); res.Replayed == nil || res.Replayed.Base != base {
				t.Errorf("revision %d: %+v", revision, res.Replayed)
			}
		}
	}
	restores()
	for _, p := range f.places {
		if done, err := upkeep.Merge(t.Context(), p, f.timeline, f.clock.Add(2*time.Hour)); err != nil || done.Written == 0 {
			t.Fatalf("%+v, %v", done, err)
		}
	}
	restores()
}
