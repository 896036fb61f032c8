package restore_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	"github.com/snapshotd/snapshotd/journal/local"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/repository/segments"
)

// recorder journals an etcd step by step, with a clock of its own: each revision takes a second.
type recorder struct {
	*embedded.History
	places   []*segments.Segments
	timeline segment.Timeline
	clock    time.Time

	watch     clientv3.WatchChan
	builder   *segment.Builder
	known     map[int64]bool // leases whose time to live is journaled
	polled    []int64
	revision  int64 // that was journaled last
	compacted int64 // up to which it was compacted
	sealed    []segment.Header
	stamped   time.Time // the newest arrival
	marked    time.Time // the newest watermark of the leader

	states  map[int64]map[int64]int64 // at each revision that was synced: the leases with their time to live
	moments map[int64]embedded.Moment // that were sampled
	times   map[int64]time.Time       // of the arrivals, as they are journaled
	read    map[int64]time.Time       // of the arrivals, as the leader knows them: by its clock, and behind its watermarks
	written map[int64][]string        // the keys that were put or deleted at a revision
}

// etcdCluster is the id that all histories have, as those of an etcd that was restored do.
const etcdCluster = 0xcdf818194e3a8c32

// record journals an etcd from a revision on, and from a time on.
func record(t *testing.T, h *embedded.History, from int64, begin time.Time, backends ...repository.Backend) *recorder {
	t.Helper()
	r := &recorder{
		History: h, clock: begin, known: map[int64]bool{}, revision: from - 1,
		states: map[int64]map[int64]int64{}, moments: map[int64]embedded.Moment{}, times: map[int64]time.Time{},
		written: map[int64][]string{}, read: map[int64]time.Time{},
	}
	r.timeline = segment.NewTimeline(etcdCluster, r.clock)
	for _, b := range backends {
		repo := repository.New(repository.Config{Backend: b, Cluster: "default", Prefix: "default/"})
		r.places = append(r.places, segments.New(segments.Config{Repository: repo}))
	}
	r.watch = h.Client(t).Watch(t.Context(), "\x00", clientv3.WithFromKey(), clientv3.WithRev(from))
	r.begin(t, segment.Header{Timeline: r.timeline, Level: segment.Level10s})
	return r
}

func (r *recorder) begin(t *testing.T, h segment.Header) {
	t.Helper()
	var err error
	if r.builder, err = segment.NewBuilder(h); err != nil {
		t.Fatal(err)
	}
}

func (r *recorder) add(t *testing.T, e segment.Entry) {
	t.Helper()
	if err := r.builder.Add(e); err != nil {
		t.Fatal(err)
	}
}

// sync journals all that has happened.
func (r *recorder) sync(t *testing.T) {
	t.Helper()
	var named []int64
	for current := r.Revision(); r.revision < current; {
		resp, ok := <-r.watch
		if err := resp.Err(); err != nil || !ok {
			t.Fatalf("the watch has ended: %v", err)
		}
		named = append(named, r.journal(t, resp.Events)...)
	}
	ttls, _ := r.Leases(t)
	for id := range ttls {
		named = append(named, id)
	}
	for _, id := range named {
		r.lease(t, id, ttls)
	}
	all := make([]int64, 0, len(ttls))
	for id := range ttls {
		all = append(all, id)
	}
	slices.SortFunc(all, segment.CompareLeases)
	if !slices.Equal(all, r.polled) {
		r.add(t, segment.Leases{IDs: all, Revision: r.revision})
		r.polled = all
	}
	h := r.builder.Header()
	if at := r.clock.Add(time.Millisecond); max(h.Last, h.Previous) > 0 && at.After(r.marked) { // otherwise it says nothing of the journal
		r.add(t, segment.Watermark{Revision: r.revision, Time: at})
		r.marked = at
	}
	r.states[r.revision] = ttls
}

// lease journals what is known of a lease, once.
func (r *recorder) lease(t *testing.T, id int64, ttls map[int64]int64) {
	t.Helper()
	if r.known[id] {
		return
	}
	r.known[id] = true
	ttl, alive := ttls[id]
	r.add(t, segment.Lease{ID: id, GrantedTTL: ttl, Revision: r.revision, Gone: !alive})
}

// journal journals the events of a watch, and returns the leases that they name.
func (r *recorder) journal(t *testing.T, events []*clientv3.Event) (named []int64) {
	t.Helper()
	for len(events) > 0 {
		main := events[0].Kv.ModRevision
		r.clock = r.clock.Add(time.Second)
		rev := segment.Revision{Main: main, Time: local.Arrival(local.Arrival(r.clock, r.stamped), r.marked)}
		for len(events) > 0 && events[0].Kv.ModRevision == main {
			kv, deleted := events[0].Kv, events[0].Type == clientv3.EventTypeDelete
			r.written[main] = append(r.written[main], string(kv.Key))
			if deleted {
				kv = &mvccpb.KeyValue{Key: kv.Key}
			} else if kv.Lease != 0 {
				named = append(named, kv.Lease)
			}
			value, err := proto.Marshal(kv)
			if err != nil {
				t.Fatal(err)
			}
			rev.Records = append(rev.Records, segment.Record{Sub: int64(len(rev.Records)), Tombstone: deleted, Value: value})
			events = events[1:]
		}
		r.add(t, rev)
		r.revision, r.times[main], r.read[main], r.stamped = main, rev.Time, latest(r.clock, r.marked), rev.Time
	}
	return named
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// compact compacts, and journals that.
func (r *recorder) compact(t *testing.T, revision int64) {
	t.Helper()
	if revision <= r.compacted {
		return
	}
	after := r.revision
	r.Compact(t, revision)
	r.compacted = revision
	if _, sampled := r.moments[r.revision]; sampled {
		r.sample(t) // it is compacted at this revision from now on
	}
	r.add(t, segment.Compaction{Revision: revision, After: after, Before: r.Revision()})
}

// sample keeps the etcd at its current revision, to be compared with.
func (r *recorder) sample(t *testing.T) { r.moments[r.revision] = r.At(t, r.revision) }

// seal stores what was journaled since the last time.
func (r *recorder) seal(t *testing.T) {
	t.Helper()
	if r.builder.Header().First == 0 {
		return
	}
	s, err := r.builder.Seal()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.places {
		if err := p.Put(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	r.sealed = append(r.sealed, s.Header)
	r.begin(t, segment.Header{
		Timeline: r.timeline, Level: segment.Level10s, Previous: s.Header.Last, PreviousChain: s.Header.Chain,
	})
}

// save stores a snapshot, and returns its name and its revision.
func (r *recorder) save(t *testing.T, backends ...*memory.Backend) (name string, revision int64) {
	t.Helper()
	r.clock = r.clock.Add(time.Second)
	s := save(t, r.Etcd)
	for _, b := range backends {
		name = s.put(t, b, form{cluster: fmt.Sprintf("%016x", r.timeline.EtcdCluster())}, now.Sub(r.clock))
	}
	return name, s.facts.Newest()
}

// compare compares an etcd that was restored with the one of that revision. Without exact, leases without keys are not
// compared, and others may have the time to live that is given when nothing is known.
func (r *recorder) compare(t *testing.T, restored *embedded.Etcd, revision int64, exact bool) {
	t.Helper()
	want := r.moments[revision]
	got := restored.At(t, revision)
	if restored.Revision() != revision || got.Hash != want.Hash {
		t.Errorf("revision %d: it begins with %d and has the hash %+v, want %+v", revision, restored.Revision(), got.Hash, want.Hash)
	}
	if len(got.Keys) != len(want.Keys) {
		t.Fatalf("revision %d: %d keys, want %d", revision, len(got.Keys), len(want.Keys))
	}
	for i, kv := range want.Keys {
		if !proto.Equal(got.Keys[i], kv) {
			t.Errorf("revision %d: %q is %v, want %v", revision, kv.Key, got.Keys[i], kv)
		}
	}
	ttls, keys := restored.Leases(t)
	if !reflect.DeepEqual(keys, want.Leases) {
		t.Errorf("revision %d: the keys of the leases are %v, want %v", revision, keys, want.Leases)
	}
	state := r.states[revision]
	if exact && !reflect.DeepEqual(ttls, state) {
		t.Errorf("revision %d: the leases are %v, want %v", revision, ttls, state)
	}
	for id := range want.Leases {
		if ttls[id] != state[id] && (exact || ttls[id] != 3600) {
			t.Errorf("revision %d: the lease %016x has %d s, want %d", revision, uint64(id), ttls[id], state[id])
		}
	}
}

// spoil changes all objects of the segment that holds a revision.
func (r *recorder) spoil(t *testing.T, b *memory.Backend, revision int64, edit func(key string, content []byte) []byte) segment.Header {
	t.Helper()
	for _, h := range r.sealed {
		if h.First > revision || revision > h.Last {
			continue
		}
		for _, key := range b.Keys() {
			if !strings.Contains(key, h.Name()) {
				continue
			}
			if content := edit(key, b.Content(key)); content != nil {
				b.Set(key, content)
			} else {
				b.Remove(key)
			}
		}
		return h
	}
	t.Fatalf("no segment holds revision %d", revision)
	return segment.Header{}
}
