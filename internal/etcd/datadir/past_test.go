package datadir_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"testing"

	bolt "go.etcd.io/bbolt"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/lease/leasepb"
	"google.golang.org/protobuf/proto"

	"github.com/snapshotd/snapshotd/internal/etcd/database"
	"github.com/snapshotd/snapshotd/internal/etcd/datadir"
	"github.com/snapshotd/snapshotd/internal/etcd/member"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
)

// endedTTL is the time to live of leases that had ended when the snapshot was taken.
const endedTTL = 7777

// TestMakeAtMakesTheEtcdOfThatRevision compares restored revisions with the etcd that had them: HashKV, all keys, all
// leases. SNAPSHOTD_REWIND_SEEDS is how many histories are tried, of 90 revisions each; without it, nine revisions of
// each of three are.
func TestMakeAtMakesTheEtcdOfThatRevision(t *testing.T) {
	t.Parallel()
	seeds, revisions := 3, 3
	if n, err := strconv.Atoi(os.Getenv("SNAPSHOTD_REWIND_SEEDS")); err == nil {
		seeds, revisions = n, 30
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 2))
			h := embedded.NewHistory(t, seed)
			for part := range 3 {
				h.Change(t, 100+rnd.IntN(100))
				if part > 0 {
					h.Compact(t, h.Revision()-1-rnd.Int64N(100))
				}
				file := filepath.Join(t.TempDir(), "saved.db")
				h.Save(t, file)
				whole := startWhole(t, file)
				for i := range revisions {
					checkPast(t, h, whole, file, rnd, i)
				}
				whole.Close(t)
			}
		})
	}
}

// startWhole starts an etcd on a copy of a snapshot, which has no hashes in a cache: for the revision of a compaction,
// the etcd that ran it answers with the hash of before.
func startWhole(t *testing.T, file string) *embedded.Etcd {
	t.Helper()
	cfg := config(t.TempDir())
	copyFile(t, file, cfg.SnapshotPath)
	must(t, datadir.Make(cfg))
	return embedded.StartEtcd(t, func(c *member.Config) { c.Dir = cfg.OutputDataDir })
}

// checkPast restores one revision of a snapshot that was just taken of an etcd: the first and the last one, and random
// ones.
func checkPast(t *testing.T, h *embedded.History, unchanged *embedded.Etcd, file string, rnd *rand.Rand, i int) {
	t.Helper()
	whole, err := database.File(t.Context(), file, database.Options{})
	must(t, err)
	if whole.Newest() != h.Revision() {
		t.Fatalf("the snapshot ends with revision %d, and etcd has %d", whole.Newest(), h.Revision())
	}
	revision := whole.OldestRevision + rnd.Int64N(whole.Newest()-whole.OldestRevision+1)
	switch i {
	case 0:
		revision = whole.OldestRevision
	case 1:
		revision = whole.Newest()
	}
	past := pastOf(t, file, revision)
	dir, err := os.MkdirTemp(t.TempDir(), "restored")
	must(t, err)
	defer func() { must(t, os.RemoveAll(dir)) }() // now, as the log of each etcd takes 128 MB
	restored := startAt(t, dir, file, datadir.Past{Revision: revision, Leases: past.Leases, Ended: endedOf(past)})
	defer restored.Close(t)
	if got := restored.Revision(); got != revision {
		t.Errorf("revision %d: it begins with %d", revision, got)
	}
	want := h.At(t, revision)
	if hash := unchanged.At(t, revision).Hash; want.Hash.CompactRevision != hash.CompactRevision {
		want.Hash = hash // see startWhole
	} else if want.Hash != hash {
		t.Fatalf("revision %d: the etcds that are compared with have the hashes %+v and %+v", revision, want.Hash, hash)
	}
	compareMoments(t, revision, restored.At(t, revision), want)
	if past.TotalKeys != int64(len(want.Keys)) {
		t.Errorf("revision %d: %d keys were counted, there are %d", revision, past.TotalKeys, len(want.Keys))
	}
	older := whole.OldestRevision + rnd.Int64N(revision-whole.OldestRevision+1)
	compareMoments(t, older, restored.At(t, older), unchanged.At(t, older))
	checkLeases(t, h, restored, want, past)
}

// pastOf inspects a snapshot with one of its revisions.
func pastOf(t *testing.T, file string, revision int64) *database.Past {
	t.Helper()
	found, err := database.File(t.Context(), file, database.Options{Revision: revision, TempDir: t.TempDir()})
	must(t, err)
	if found.Past == nil || found.Past.Revision != revision {
		t.Fatalf("it holds %d to %d; revision %d: %+v", found.OldestRevision, found.Newest(), revision, found.Past)
	}
	return found.Past
}

// startAt starts an etcd in a directory on a copy of a snapshot at one of its revisions.
func startAt(t *testing.T, dir, file string, past datadir.Past) *embedded.Etcd {
	t.Helper()
	cfg := config(dir)
	copyFile(t, file, cfg.SnapshotPath)
	must(t, datadir.MakeAt(cfg, past))
	return embedded.StartEtcd(t, func(c *member.Config) { c.Dir = cfg.OutputDataDir })
}

// endedOf returns the leases to be made anew.
func endedOf(past *database.Past) []datadir.Lease {
	var all []datadir.Lease
	for _, l := range past.Ended {
		all = append(all, datadir.Lease{ID: l.ID, TTL: endedTTL})
	}
	return all
}

func config(dir string) snapshot.RestoreConfig {
	return snapshot.RestoreConfig{
		SnapshotPath: filepath.Join(dir, "snapshot.db"), OutputDataDir: filepath.Join(dir, "data"), Name: "default",
		PeerURLs: []string{"http://localhost:2380"}, InitialCluster: "default=http://localhost:2380", InitialClusterToken: "token",
	}
}

func compareMoments(t *testing.T, revision int64, got, want embedded.Moment) {
	t.Helper()
	if got.Hash != want.Hash {
		t.Errorf("revision %d: the hash is %+v, want %+v", revision, got.Hash, want.Hash)
	}
	if len(got.Keys) != len(want.Keys) {
		t.Fatalf("revision %d: %d keys, want %d", revision, len(got.Keys), len(want.Keys))
	}
	for i, kv := range want.Keys {
		if !proto.Equal(got.Keys[i], kv) {
			t.Errorf("revision %d: %q is %v, want %v", revision, kv.Key, got.Keys[i], kv)
		}
	}
}

// checkLeases compares the leases of a restored etcd with those that keys named at its revision.
func checkLeases(t *testing.T, h *embedded.History, restored *embedded.Etcd, want embedded.Moment, past *database.Past) {
	t.Helper()
	ttls, keys := restored.Leases(t)
	if !reflect.DeepEqual(keys, want.Leases) {
		t.Errorf("the keys of the leases are %v, want %v", keys, want.Leases)
	}
	if len(ttls) != len(want.Leases) {
		t.Errorf("there are %d leases, and keys name %d", len(ttls), len(want.Leases))
	}
	alive, _ := h.Leases(t)
	ended := map[uint64]int64{} // the number of keys
	for id, ttl := range ttls {
		granted := h.TTLs[id]
		if _, ok := alive[id]; !ok {
			granted = endedTTL
			ended[uint64(id)] = int64(len(keys[id]))
		}
		if ttl != granted {
			t.Errorf("lease %016x has %d s, want %d", id, ttl, granted)
		}
	}
	dropped := int64(0)
	for id := range alive {
		if want.Leases[id] == nil {
			dropped++
		}
	}
	if past.Dropped != dropped || len(past.Leases) != len(want.Leases) || len(past.Ended) != len(ended) {
		t.Errorf("counted %d dropped leases, %d, and %d that ended; there are %d, %d and %d",
			past.Dropped, len(past.Leases), len(past.Ended), dropped, len(want.Leases), len(ended))
	}
	for _, l := range past.Ended {
		if ended[l.ID] != l.Keys {
			t.Errorf("the ended lease %016x has %d keys, want %d", l.ID, l.Keys, ended[l.ID])
		}
	}
}

// The rest of a time to live that etcd has noted is that of the snapshot, and not of the revision.
func TestMakeAtGivesLeasesTheirWholeTimeToLive(t *testing.T) {
	t.Parallel()
	h := embedded.NewHistory(t, 1)
	c := h.Client(t)
	lease, err := c.Grant(t.Context(), 5000)
	must(t, err)
	_, err = c.Put(t.Context(), "held", "", clientv3.WithLease(lease.ID))
	must(t, err)
	revision := h.Revision()
	h.Change(t, 20)
	file := filepath.Join(t.TempDir(), "saved.db")
	h.Save(t, file)
	db, err := bolt.Open(file, 0o600, nil)
	must(t, err)
	must(t, db.Update(func(tx *bolt.Tx) error {
		v, err := proto.Marshal(&leasepb.Lease{ID: int64(lease.ID), TTL: 5000, RemainingTTL: 10})
		if err != nil {
			return err
		}
		return tx.Bucket([]byte("lease")).Put(binary.BigEndian.AppendUint64(nil, uint64(lease.ID)), v)
	}))
	must(t, db.Close())
	past := pastOf(t, file, revision)
	restored := startAt(t, t.TempDir(), file, datadir.Past{Revision: revision, Leases: past.Leases, Ended: endedOf(past)})
	left, err := restored.Client(t).TimeToLive(t.Context(), lease.ID)
	must(t, err)
	if left.GrantedTTL != 5000 || left.TTL < 4000 {
		t.Errorf("it has %d of %d seconds left", left.TTL, left.GrantedTTL)
	}
}
