package restore_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/snapshotd/snapshotd/internal/etcd/member"
	"github.com/snapshotd/snapshotd/internal/restore"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	journalplan "github.com/snapshotd/snapshotd/journal/plan"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/snapshot"
)

// gapped is a history with one snapshot at its beginning and ten segments, some of which are lost.
type gapped struct {
	*faulted
	rnd  *rand.Rand
	gaps []journalplan.Gap
}

// newGapped stores a history, and loses some of its segments: they are missing, or damaged.
func newGapped(t *testing.T, seed uint64, lost ...int) *gapped {
	t.Helper()
	g := &gapped{faulted: &faulted{backends: twoBackends()}, rnd: rand.New(rand.NewPCG(seed, 4))}
	h := embedded.NewHistory(t, seed)
	h.Change(t, 60)
	g.recorder = record(t, h, h.Revision()+1, dayBefore, g.backends[0], g.backends[1])
	g.sample(t)
	g.names[0], g.bases[0] = g.save(t, g.backends[0], g.backends[1])
	for range 10 {
		for range 12 {
			g.Change(t, 1)
			g.sync(t)
			g.sample(t)
		}
		g.seal(t)
	}
	for _, i := range lost {
		g.lose(t, i)
	}
	return g
}

// lose makes a segment unreadable on both backends.
func (g *gapped) lose(t *testing.T, i int) {
	t.Helper()
	missing := g.rnd.IntN(2) == 0
	h := g.sealed[i]
	for _, b := range g.backends {
		g.spoil(t, b, h.First, func(_ string, content []byte) []byte {
			if missing {
				return nil
			}
			return content[:len(content)/2]
		})
	}
	if n := len(g.gaps) - 1; n >= 0 && g.gaps[n].Last == h.First-1 {
		g.gaps[n].Last = h.Last
		return
	}
	g.gaps = append(g.gaps, journalplan.Gap{First: h.First, Last: h.Last})
}

func (g *gapped) isLost(revision int64) bool {
	return slices.ContainsFunc(g.gaps, func(gap journalplan.Gap) bool { return gap.First <= revision && revision <= gap.Last })
}

// lastKnown returns the revision of the last change of a key, up to another one, that is not in a gap; that of the
// snapshot when there is none. lost reports that a change in a gap followed.
func (g *gapped) lastKnown(key string, revision int64) (last int64, lost bool) {
	last = g.bases[0]
	newest := int64(0)
	for at, keys := range g.written {
		if at > revision || !slices.Contains(keys, key) {
			continue
		}
		if newest = max(newest, at); !g.isLost(at) {
			last = max(last, at)
		}
	}
	return last, newest > last
}

// byKey returns the keys that the etcd had at a revision.
func (g *gapped) byKey(at int64) map[string]*mvccpb.KeyValue { return byKey(g.moments[at].Keys) }

func byKey(all []*mvccpb.KeyValue) map[string]*mvccpb.KeyValue {
	m := map[string]*mvccpb.KeyValue{}
	for _, kv := range all {
		m[string(kv.Key)] = kv
	}
	return m
}

// compareCrossed compares an etcd that was restored over gaps: keys that were not changed in a gap, or since, are those
// of the cluster, and others have the value of before.
func (g *gapped) compareCrossed(t *testing.T, e *embedded.Etcd, revision int64) {
	t.Helper()
	moment := e.At(t, revision)
	got, truth := byKey(moment.Keys), g.byKey(revision)
	all := maps.Clone(got)
	maps.Copy(all, truth)
	stale := 0
	for key := range all {
		want := truth[key]
		if last, lost := g.lastKnown(key, revision); lost {
			want = g.byKey(last)[key]
			stale++
		}
		if !proto.Equal(got[key], want) {
			t.Errorf("revision %d: %q is %v, want %v", revision, key, got[key], want)
		}
	}
	if stale == 0 || stale == len(all) {
		t.Errorf("revision %d: %d of %d keys were changed in a gap last: nothing is shown", revision, stale, len(all))
	}
	if last := g.gaps[len(g.gaps)-1].Last; e.Revision() != revision || moment.Hash.CompactRevision != last+1 {
		t.Errorf("it begins with revision %d, compacted up to %d, want %d and %d", e.Revision(), moment.Hash.CompactRevision, revision, last+1)
	}
}

// TestCrossedGapsCostTheirOwnChangesAlone is the oracle of --cross-gaps: random revisions behind gaps are restored and
// compared with the etcd that had them. SNAPSHOTD_JOURNAL_SEEDS is how many histories are tried, of four targets each.
func TestCrossedGapsCostTheirOwnChangesAlone(t *testing.T) {
	t.Parallel()
	seeds := 2
	if n, err := strconv.Atoi(os.Getenv("SNAPSHOTD_JOURNAL_SEEDS")); err == nil {
		seeds = max(n, seeds)
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			lost := [][]int{{1}, {1, 4}, {2, 3, 6}, {1, 2, 4, 5}}[seed%4]
			g := newGapped(t, 100+seed, lost...)
			for i := range 4 {
				behind := g.sealed[lost[len(lost)-1]+1+i%3]
				revision := behind.First + g.rnd.Int64N(behind.Last-behind.First+1)
				c := restore.Choice{Revision: revision, CrossGaps: true}
				if i%2 == 1 {
					c = restore.Choice{At: g.times[revision], CrossGaps: true}
				}
				g.check(t, c, revision)
			}
		})
	}
}

// check restores over the gaps.
func (g *gapped) check(t *testing.T, c restore.Choice, revision int64) {
	t.Helper()
	o := options(t, c, g.backends[0], g.backends[1])
	e, res := started(t, o)
	defer e.Close(t)
	g.compareCrossed(t, e, revision)
	crossed := res.Replayed.Crossed
	if crossed == nil || len(crossed.Gaps) != len(g.gaps) {
		t.Fatalf("it says that it has crossed %+v, and not %v", crossed, g.gaps)
	}
	for i, gap := range crossed.Gaps {
		if gap.Gap != g.gaps[i] || !gap.Since.Equal(g.times[gap.First-1]) || !gap.Until.Equal(g.times[gap.Last+1]) {
			t.Errorf("it says that it has crossed %+v, and not %+v", gap, g.gaps[i])
		}
	}
	written := map[string]bool{}
	for at, keys := range g.written {
		for _, key := range keys {
			if at > g.gaps[0].Last && at <= revision && !g.isLost(at) {
				written[key] = true
			}
		}
	}
	if crossed.Written != int64(len(written)) || crossed.Changed > crossed.Written || len(res.Replayed.Others()) > 0 {
		t.Errorf("%d keys were written behind the gaps: %+v, other gaps: %v", len(written), crossed, res.Replayed.Others())
	}
}

// The members of a cluster must count the same versions, whether one was restarted since or not: etcd counts on from the
// first record of a key that it has.
func TestMembersRestoredOverAGapStayTheSame(t *testing.T) {
	t.Parallel()
	g := newGapped(t, 131, 2, 5)
	revision := g.sealed[8].Last
	var hashes []any
	for _, restarted := range []bool{false, true} {
		o := options(t, restore.Choice{Revision: revision, CrossGaps: true}, g.backends[0], g.backends[1])
		e, _ := started(t, o)
		e.Compact(t, revision)
		if restarted {
			e.Close(t)
			e = embedded.StartEtcd(t, func(cfg *member.Config) { cfg.Dir = o.DataDir })
		}
		before := byKey(e.At(t, revision).Keys)
		for _, key := range slices.Sorted(maps.Keys(before)) {
			if _, err := e.Server().Put(t.Context(), &pb.PutRequest{Key: []byte(key), Value: []byte("again")}); err != nil {
				t.Fatal(err)
			}
		}
		m := e.At(t, e.Revision())
		hashes = append(hashes, m.Hash)
		for _, kv := range m.Keys {
			if want := before[string(kv.Key)]; kv.Version != want.Version+1 || kv.CreateRevision != want.CreateRevision {
				t.Errorf("restarted %t: %q is at version %d of %d, and was at %d of %d",
					restarted, kv.Key, kv.Version, kv.CreateRevision, want.Version, want.CreateRevision)
			}
		}
		e.Close(t)
	}
	if hashes[0] != hashes[1] {
		t.Errorf("the hashes of two members are %+v and %+v", hashes[0], hashes[1])
	}
}

// etcd's own tool reads what was restored over a gap.
func TestEtcdutlReadsADatabaseRestoredOverAGap(t *testing.T) {
	t.Parallel()
	g := newGapped(t, 132, 3)
	revision := g.sealed[6].Last
	o := options(t, restore.Choice{Revision: revision, CrossGaps: true}, g.backends[0], g.backends[1])
	if _, err := restore.Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	db := filepath.Join(o.DataDir, "member", "snap", "db")
	for _, args := range [][]string{{"snapshot", "status", db, "-w", "json"}, {"hashkv", db, "-w", "json"}} {
		out, err := exec.CommandContext(t.Context(), testenv.Tool(t, "servers", "go.etcd.io/etcd/etcdutl/v3"), args...).Output()
		if err != nil || !strings.Contains(string(out), fmt.Sprintf(`evision":%d`, revision)) {
			t.Errorf("etcdutl %v: %s, %v", args, out, err)
		}
	}
}

// A snapshot in the gap has what was changed in it before the snapshot, if its history shows that it is of the journal.
func TestASnapshotInTheGapIsABase(t *testing.T) {
	t.Parallel()
	for name, compacted := range map[string]bool{"with its history": false, "compacted": true} {
		g := newGapped(t, 133)
		inside := g.revision // before the snapshot, ten changes of the segment
		for i := range 3 {
			for range 10 {
				g.Change(t, 1)
				g.sync(t)
				g.sample(t)
			}
			if i == 0 {
				if compacted {
					g.Compact(t, g.revision)
				}
				g.names[1], g.bases[1] = g.save(t, g.backends[0], g.backends[1])
				for range 10 {
					g.Change(t, 1)
					g.sync(t)
					g.sample(t)
				}
			}
			g.seal(t)
		}
		g.lose(t, 10)
		if g.bases[1] <= inside || g.bases[1] >= g.gaps[0].Last {
			t.Fatalf("the snapshot of revision %d is not in the gap %v", g.bases[1], g.gaps)
		}
		base := g.names[0]
		if !compacted {
			// What the snapshot has is not lost.
			base, g.gaps[0].First = g.names[1], g.bases[1]+1
		}
		revision := g.sealed[12].Last
		e, res := started(t, options(t, restore.Choice{Revision: revision, CrossGaps: true}, g.backends[0], g.backends[1]))
		if res.Snapshot.Name != base || res.Replayed.Crossed == nil || res.Replayed.Crossed.Gaps[0].Gap != g.gaps[0] {
			t.Errorf("%s: from %s, not %s, over %+v, not %v; left out: %v", name, res.Snapshot.Name, base, res.Replayed.Crossed, g.gaps, res.Skipped)
		}
		g.compareCrossed(t, e, revision)
		e.Close(t)
	}
}

// Between a gap and a time is no snapshot, and behind both is one that holds the revision of the time, with all changes of
// the gap: it is taken back, with and without the flag.
func TestATimeBehindAGapIsTakenFromASnapshotThatHoldsIt(t *testing.T) {
	t.Parallel()
	g := newGapped(t, 136, 2)
	name, newest := g.save(t, g.backends[0], g.backends[1])
	target := g.sealed[5].First + 2
	at := restore.Choice{At: g.times[target]}
	for _, cross := range []bool{false, true} {
		at.CrossGaps = cross
		e, res := started(t, options(t, at, g.backends[0], g.backends[1]))
		if res.Snapshot.Name != name || res.Past == nil || res.Past.Revision != target || res.Replayed != nil || res.Moment == nil {
			t.Errorf("with the flag %v, it is %+v of %+v, want revision %d of %s at %d", cross, res.Past, res.Snapshot, target, name, newest)
		}
		if got := e.At(t, target); got.Hash != g.moments[target].Hash {
			t.Errorf("with the flag %v, the hash is %+v, want %+v", cross, got.Hash, g.moments[target].Hash)
		}
		e.Close(t)
	}
	// When that snapshot is damaged, the next one that holds it is taken.
	later, _ := g.save(t, g.backends[0], g.backends[1])
	g.rot(name)
	if res, err := g.plan(t, at); err != nil || res.Snapshot.Name != later || res.Replayed != nil {
		t.Errorf("without the nearest snapshot: %+v, %v", res, err)
	}
	// When all are damaged, the gap is crossed or refused, as without them.
	g.rot(later)
	if res, err := g.plan(t, at); err != nil || res.Replayed == nil || res.Replayed.Crossed == nil {
		t.Errorf("without the snapshot: %+v, %v", res, err)
	}
	at.CrossGaps = false
	if res, err := g.plan(t, at); err == nil || !strings.Contains(err.Error(), "--cross-gaps leads over it") {
		t.Errorf("without the snapshot and the flag: %+v, %v", res, err)
	}
}

// rot changes a byte of a snapshot on both backends.
func (g *gapped) rot(name string) {
	for _, b := range g.backends {
		for _, key := range b.Keys() {
			if strings.Contains(key, name+".db") {
				content := slices.Clone(b.Content(key))
				content[len(content)/2] ^= 1
				b.Set(key, content)
			}
		}
	}
}

// Without being told to, or where it would be a guess, no gap is crossed. The error says which way there is.
func TestAGapIsNotCrossed(t *testing.T) {
	t.Parallel()
	g := newGapped(t, 134, 2)
	gap := g.gaps[0]
	behind := g.sealed[4].Last
	refused := func(what string, c restore.Choice, err error, parts ...string) {
		t.Helper()
		for _, part := range append(parts, fmt.Sprintf("%d is the newest revision before the gap", gap.First-1)) {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %+v: %v does not say %q", what, c, err, part)
			}
		}
	}
	c := restore.Choice{Revision: behind}
	_, err := g.plan(t, c)
	refused("not told to", c, err, gap.String(), "--cross-gaps leads over it, to a state that the cluster never had")

	c.CrossGaps, c.Revision = true, gap.First+2
	_, err = g.plan(t, c)
	refused("a revision that is lost", c, err, string(journalplan.RefusedInside))

	// What cannot be read now may be there later.
	c.Revision = behind
	away := &faulty{Backend: g.backends[0], get: failOn(g.sealed[3].Name()+".seg", snapshot.ReasonBackendUnavailable.New("get it").On("backend-0"))}
	_, err = restore.Plan(t.Context(), options(t, c, away))
	refused("a segment is away", c, err, string(journalplan.RefusedUnread))

	// The key that signed it may be one that was not given.
	unknown := &faulty{Backend: g.backends[0], get: failOn(g.sealed[3].Name()+".json", snapshot.ReasonManifestUntrusted.New("read it").On("backend-0"))}
	_, err = restore.Plan(t.Context(), options(t, c, unknown))
	refused("a segment is signed with another key", c, err, string(journalplan.RefusedUntrusted))

	// Behind the gap is the journal of another etcd.
	other := newGapped(t, 135)
	from := slices.IndexFunc(other.sealed, func(h segment.Header) bool { return h.First > gap.First })
	for i, b := range g.backends {
		for _, key := range b.Keys() {
			if strings.Contains(key, "/journal/") && isBehind(g, key, gap.First) {
				b.Remove(key)
			}
		}
		copyJournal(b, other.backends[i], other.sealed[from:])
	}
	c.Revision = other.sealed[9].Last
	_, err = g.plan(t, c)
	refused("of another history", c, err, string(journalplan.RefusedUnlinked))
}

// isBehind reports whether a key is that of a segment behind a revision.
func isBehind(g *gapped, key string, revision int64) bool {
	return slices.ContainsFunc(g.sealed, func(h segment.Header) bool { return h.First >= revision && strings.Contains(key, h.Name()) })
}

// copyJournal copies segments from one backend to another.
func copyJournal(to, from *memory.Backend, all []segment.Header) {
	for _, key := range from.Keys() {
		for _, h := range all {
			if strings.Contains(key, "/journal/") && strings.Contains(key, h.Name()) {
				to.Set(key, from.Content(key))
			}
		}
	}
}
