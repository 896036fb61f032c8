//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// TestJournalOfOlderReleases follows each release of etcd that clusters still run, and restores revisions that no
// snapshot holds, for an etcd of the same release: before and behind a compaction, keys, leases and HashKV are the same.
func TestJournalOfOlderReleases(t *testing.T) {
	for _, release := range testenv.OlderReleases {
		for _, members := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s, members %d", release, members), func(t *testing.T) {
				followRelease(t, members, testenv.Release(release))
			})
		}
	}
}

func followRelease(t *testing.T, members int, release testenv.ClusterOption) {
	w := &world{etcd: testenv.StartCluster(t, members, release), s3: testenv.StartS3(t), dir: t.TempDir(), bucket: "snapshots"}
	w.s3.MakeBucket(w.bucket)
	client := w.etcd.Client(t)
	if _, err := client.Put(t.Context(), "first", ""); err != nil {
		t.Fatal(err)
	}
	file := journaled(t, t.TempDir(), w.etcd.Endpoints(), map[string]string{"s3": w.s3URL("")}, "journal: {enabled: true, upload_interval: 1s}")
	s := start(t, w.options(), "--config", file)
	s.follows(2)
	lease, err := client.Grant(t.Context(), 4321)
	if err != nil {
		t.Fatal(err)
	}
	targets := map[int64]map[int64]uint32{} // HashKV by revision, and by the compact revision for which it holds
	ask := func(revision int64) {
		t.Helper()
		if targets[revision] == nil {
			targets[revision] = map[int64]uint32{}
		}
		compact, hash := hashAt(t, client, w.etcd.Endpoints()[0], revision)
		targets[revision][compact] = hash
	}
	change := func() (last int64) {
		t.Helper()
		for i := range 60 {
			ops := []clientv3.Op{
				clientv3.OpPut(fmt.Sprintf("/a/%02d", i%20), fmt.Sprint(i)),
				clientv3.OpPut(fmt.Sprintf("/leased/%d", i%5), fmt.Sprint(i), clientv3.WithLease(lease.ID)),
			}
			if i%7 == 6 {
				ops = append(ops, clientv3.OpDelete("/a/1", clientv3.WithPrefix()))
				ops = ops[1:] // a key is put or deleted
			}
			resp, err := client.Txn(t.Context()).Then(ops...).Commit()
			if err != nil {
				t.Fatal(err)
			}
			last = resp.Header.Revision
		}
		ask(last - 20)
		ask(last)
		return last
	}
	before := change()
	if _, err := client.Compact(t.Context(), before-10, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	ask(before)
	s.looked() // a compaction is seen by looking
	change()
	end, err := client.Put(t.Context(), "last", "")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the changes are in the bucket", func() bool { return s.window().timeline("").last() >= end.Header.Revision })
	if found := s.window().Window; len(found.Timelines) != 1 || len(found.Gaps)+len(found.Unread) > 0 {
		t.Errorf("the window is %+v", found)
	}
	s.kill()
	for revision, want := range targets {
		t.Run(fmt.Sprint("revision ", revision), func(t *testing.T) {
			data := filepath.Join(t.TempDir(), "etcd")
			out := w.must(t, program(t, ""), "restore", "--revision", fmt.Sprint(revision), "--from", w.s3URL(""), "--data-dir", data)
			restored := testenv.StartRestored(t, data, release)
			compact, got := hashAt(t, restored.Client(t), restored.Endpoints()[0], revision)
			if hash, known := want[compact]; !known || got != hash {
				t.Errorf("HashKV of revision %d is %d, compacted up to %d, and was %v\n%s", revision, got, compact, want, out)
			}
			ttl, err := restored.Client(t).TimeToLive(t.Context(), lease.ID, clientv3.WithAttachedKeys())
			if err != nil || ttl.GrantedTTL != 4321 || len(ttl.Keys) != 5 {
				t.Errorf("the lease is %+v, %v; want 4321 s and 5 keys", ttl, err)
			}
		})
	}
}

// hashAt returns HashKV at a revision, and the compact revision for which it holds.
func hashAt(t *testing.T, client *clientv3.Client, endpoint string, revision int64) (compact int64, hash uint32) {
	t.Helper()
	ctx, cancel := contextFor(t, waitTimeout)
	defer cancel()
	resp, err := client.HashKV(ctx, endpoint, revision)
	if err != nil {
		t.Fatal(err)
	}
	return resp.CompactRevision, resp.Hash
}
