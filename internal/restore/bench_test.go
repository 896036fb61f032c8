package restore_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/snapshotd/snapshotd/internal/restore"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/snapshot"
)

// TestBenchReplay measures restores with a journal beside those of the snapshot alone, in turns. It is
// `make bench-replay`; SNAPSHOTD_REPLAY_REVISIONS says how many revisions the journal has, and without it nothing is
// measured. The revisions are updates of 5,000 keys with values of 600 bytes, of which a third repeats.
func TestBenchReplay(t *testing.T) {
	revisions, err := strconv.ParseInt(os.Getenv("SNAPSHOTD_REPLAY_REVISIONS"), 10, 64)
	if err != nil {
		t.Skip("SNAPSHOTD_REPLAY_REVISIONS is not set")
	}
	b := memory.New("backend", snapshot.BackendLocal)
	h := embedded.NewHistory(t, 1)
	h.Change(t, 30)
	r := record(t, h, h.Revision()+1, dayBefore, b)
	name, base := r.save(t, b)
	bytes := r.updates(t, b, base, revisions)

	var plain, replayed []time.Duration
	for range 5 {
		for _, m := range []struct {
			took   *[]time.Duration
			choice restore.Choice
		}{
			{&plain, restore.Choice{Name: name}},
			{&replayed, restore.Choice{Revision: base + revisions}},
		} {
			o := options(t, m.choice, b)
			start := time.Now()
			if _, err := restore.Run(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			*m.took = append(*m.took, time.Since(start))
		}
	}
	slices.Sort(plain)
	slices.Sort(replayed)
	t.Logf("%d revisions in %d segments of %d bytes in all: snapshot alone %s, with the journal %s (medians of %d), %s more",
		revisions, len(r.sealed), bytes, plain[2], replayed[2], len(plain), replayed[2]-plain[2])
}

// updates journals so many updates that no etcd has made, and returns the size of their segments.
func (r *recorder) updates(t *testing.T, b *memory.Backend, base, n int64) (bytes int) {
	t.Helper()
	const keys = 5_000
	rnd := rand.New(rand.NewPCG(1, 2))
	first := make([]int64, keys)
	versions := make([]int64, keys)
	value := make([]byte, 600)
	for i := range n {
		k, main := i%keys, base+1+i
		if first[k] == 0 {
			first[k] = main
		}
		versions[k]++
		for j := range 400 {
			value[j] = byte(rnd.Uint32())
		}
		kv, err := proto.Marshal(&mvccpb.KeyValue{
			Key: fmt.Appendf(nil, "/registry/pods/default/pod-%05d", k), CreateRevision: first[k], ModRevision: main,
			Version: versions[k], Value: value,
		})
		if err != nil {
			t.Fatal(err)
		}
		r.clock = r.clock.Add(10 * time.Millisecond)
		r.add(t, segment.Revision{Main: main, Time: r.clock, Records: []segment.Record{{Value: kv}}})
		if r.revision = main; r.builder.Header().Records == 4_000 {
			r.seal(t)
		}
	}
	r.seal(t)
	for _, key := range b.Keys() {
		if strings.HasSuffix(key, ".seg") {
			bytes += len(b.Content(key))
		}
	}
	return bytes
}
