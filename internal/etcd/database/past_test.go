package database_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/server/v3/lease/leasepb"
	"google.golang.org/protobuf/proto"

	"github.com/snapshotd/snapshotd/internal/etcd/database"
)

// entry is one of a bucket of a forged database.
type entry struct {
	bucket string
	key    []byte
	value  []byte
}

func revision(main, sub int64) []byte {
	b := append(binary.BigEndian.AppendUint64(nil, uint64(main)), '_')
	return binary.BigEndian.AppendUint64(b, uint64(sub))
}

// put is the record of a put; a lease of 0 is none.
func put(tb testing.TB, main, sub int64, key string, lease int64) entry {
	v, err := proto.Marshal(&mvccpb.KeyValue{Key: []byte(key), ModRevision: main, Lease: lease})
	must(tb, err)
	return entry{"key", revision(main, sub), v}
}

func tombstone(tb testing.TB, main, sub int64, key string) entry {
	v, err := proto.Marshal(&mvccpb.KeyValue{Key: []byte(key)})
	must(tb, err)
	return entry{"key", append(revision(main, sub), 't'), v}
}

func leaseOf(tb testing.TB, id, ttl int64) entry {
	v, err := proto.Marshal(&leasepb.Lease{ID: id, TTL: ttl})
	must(tb, err)
	return entry{"lease", binary.BigEndian.AppendUint64(nil, uint64(id)), v}
}

func compacted(main int64, what string) entry { return entry{"meta", []byte(what), revision(main, 0)} }

func forge(tb testing.TB, entries ...entry) (path string) {
	tb.Helper()
	path = filepath.Join(tb.TempDir(), "forged.db")
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoSync: true})
	must(tb, err)
	must(tb, db.Update(func(tx *bolt.Tx) error {
		for _, name := range []string{"key", "lease", "meta"} {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		for _, e := range entries {
			if err := tx.Bucket([]byte(e.bucket)).Put(e.key, e.value); err != nil {
				return err
			}
		}
		return nil
	}))
	must(tb, db.Close())
	return path
}

func TestPastOfForgedDatabases(t *testing.T) {
	const finished, scheduled = "finishedCompactRev", "scheduledCompactRev"
	for name, tc := range map[string]struct {
		entries        []entry
		oldest, newest int64
		at             map[int64]*database.Past
	}{
		"nothing": {nil, 1, 1, map[int64]*database.Past{1: {Revision: 1}, 2: nil}},
		"sub-revisions, deletes": {
			[]entry{put(t, 2, 0, "a", 0), put(t, 3, 0, "b", 0), tombstone(t, 3, 1, "a"), put(t, 3, 2, "c", 0), tombstone(t, 4, 0, "b")}, 1, 4,
			map[int64]*database.Past{
				1: {Revision: 1, Next: 2, Newer: 5}, 2: {Revision: 2, Next: 3, TotalKeys: 1, Newer: 4},
				3: {Revision: 3, Next: 4, TotalKeys: 2, Newer: 1}, 4: {Revision: 4, TotalKeys: 1}, 5: nil,
			},
		},
		"a hole": {
			[]entry{put(t, 2, 0, "a", 0), put(t, 9, 0, "b", 0)}, 1, 9,
			map[int64]*database.Past{5: {Revision: 2, Next: 9, TotalKeys: 1, Newer: 1}},
		},
		"compacted": {
			[]entry{put(t, 2, 0, "a", 0), put(t, 7, 0, "b", 0), compacted(5, finished), compacted(5, scheduled)}, 5, 7,
			map[int64]*database.Past{4: nil, 5: {Revision: 5, Next: 7, TotalKeys: 1, Newer: 1}, 6: {Revision: 5, Next: 7, TotalKeys: 1, Newer: 1}, 7: {Revision: 7, TotalKeys: 2}},
		},
		"a compaction that etcd goes on with": {
			[]entry{put(t, 2, 0, "a", 0), put(t, 7, 0, "b", 0), compacted(3, finished), compacted(6, scheduled)}, 6, 7,
			map[int64]*database.Past{5: nil, 6: {Revision: 6, Next: 7, TotalKeys: 1, Newer: 1}},
		},
		"all was compacted": { // as by etcd up to 3.5.15, which drops a tombstone at the revision of the compaction
			[]entry{compacted(8, finished)}, 8, 8, map[int64]*database.Past{7: nil, 8: {Revision: 8}, 9: nil},
		},
		"records above all targets": {
			[]entry{put(t, 50, 0, "a", 9), leaseOf(t, 9, 60)}, 1, 50,
			map[int64]*database.Past{1: {Revision: 1, Next: 50, Newer: 1, Dropped: 1}, 7: {Revision: 1, Next: 50, Newer: 1, Dropped: 1}},
		},
		"leases": {
			[]entry{
				put(t, 2, 0, "a", 5), put(t, 2, 1, "b", 5), put(t, 3, 0, "c", -4), put(t, 4, 0, "d", 6), put(t, 5, 0, "e", 7), put(t, 6, 0, "e", 0),
				put(t, 7, 0, "d", 8), put(t, 8, 0, "f", 9), put(t, 9, 0, "d", 10), put(t, 10, 0, "b", 8),
				leaseOf(t, 8, 15), leaseOf(t, -4, 600), leaseOf(t, 10, 30),
			}, 1, 10,
			map[int64]*database.Past{
				2: {Revision: 2, Next: 3, TotalKeys: 2, Newer: 8, Leases: []uint64{5}, Ended: []database.Ended{{ID: 5, Keys: 2, TTL: 15}}, Dropped: 3},
				6: {
					Revision: 6, Next: 7, TotalKeys: 5, Newer: 4, Leases: []uint64{5, 6, 1<<64 - 4},
					Ended: []database.Ended{{ID: 5, Keys: 2, TTL: 15}, {ID: 6, Keys: 1, TTL: 30}}, Dropped: 2,
				},
				8: {
					Revision: 8, Next: 9, TotalKeys: 6, Newer: 2, Leases: []uint64{5, 8, 9, 1<<64 - 4},
					Ended: []database.Ended{{ID: 5, Keys: 2, TTL: 15}, {ID: 9, Keys: 1}}, Dropped: 1,
				},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := forge(t, tc.entries...)
			for at, want := range tc.at {
				got, err := database.File(t.Context(), path, database.Options{Revision: at})
				must(t, err)
				if got.OldestRevision != tc.oldest || got.Newest() != tc.newest || !reflect.DeepEqual(got.Past, want) {
					t.Errorf("at %d: %d to %d, %+v; want %d to %d, %+v", at, got.OldestRevision, got.Newest(), got.Past, tc.oldest, tc.newest, want)
				}
			}
		})
	}
}

// etcd panics on each of these.
func TestMalformedLeasesAndCompactionsAreUnreadable(t *testing.T) {
	good := put(t, 2, 0, "a", 0)
	lease := leaseOf(t, 7, 60)
	for name, bad := range map[string]entry{
		"a lease that is no message":       {"lease", lease.key, []byte{0xff}},
		"a lease of another id":            {"lease", revision(7, 0)[:8], leaseOf(t, 8, 60).value},
		"a lease with a short id":          {"lease", lease.key[1:], lease.value},
		"a compaction without a revision":  {"meta", []byte("finishedCompactRev"), []byte{1}},
		"a compaction of a negative one":   compacted(-1, "scheduledCompactRev"),
		"a record that is no message":      {"key", revision(3, 0), []byte{0xff}},
		"a record of a negative revision":  {"key", revision(-3, 0), good.value},
		"a record with a malformed mark":   {"key", append(revision(3, 0), 't', 't'), good.value},
		"a record with a cut-off revision": {"key", revision(3, 0)[:9], good.value},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := database.File(t.Context(), forge(t, good, bad), database.Options{Revision: 2})
			if !errors.Is(err, database.ErrUnreadable) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestPastOfManyKeysLeavesNothingBehind(t *testing.T) {
	var entries []entry
	for i := range int64(60_000) {
		entries = append(entries, put(t, i+2, 0, fmt.Sprint("/registry/", i), 1+i%10))
	}
	path := forge(t, entries...)
	dir := t.TempDir()
	found, err := database.File(t.Context(), path, database.Options{Revision: 50_000, TempDir: dir})
	must(t, err)
	if p := found.Past; p == nil || p.TotalKeys != 49_999 || len(p.Ended) != 10 {
		t.Errorf("got %+v", found.Past)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("the directory holds %v (%v), want nothing", left, err)
	}
}
