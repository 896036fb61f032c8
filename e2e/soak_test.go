//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// soak is a long run of saves, each under a fault, and their known outcomes.
type soak struct {
	t      *testing.T
	etcd   *testenv.Cluster
	client *clientv3.Client
	s3     *testenv.S3
	proxy  *testenv.HTTPProxy
	chance *testenv.Chance
	serve  *service
	w      *world
	config soakConfig
	disks  map[string]string // that can be filled: spool, directory

	ledger
	ready   map[string]promise
	deleted map[string]snap // or pruned
	words   lastWords

	faults, results, prunedUnder                           map[string]int
	checked, prunes, pruned, cut, overtaken, pins, removed int
}

// promise is a snapshot that was reported READY.
type promise struct {
	snap
	hashKV uint32
}

// TestSoak takes snapshots under seeded faults until its time is over, and compares every promise with the backends.
// Without SNAPSHOTD_SOAK_SECONDS and _ROUNDS it makes a few rounds.
func TestSoak(t *testing.T) {
	seed := envInt(t, "SNAPSHOTD_SOAK_SEED", time.Now().Unix())
	seconds := envInt(t, "SNAPSHOTD_SOAK_SECONDS", 0)
	rounds := envInt(t, "SNAPSHOTD_SOAK_ROUNDS", 20)
	if seconds > 0 && os.Getenv("SNAPSHOTD_SOAK_ROUNDS") == "" {
		rounds = 1 << 30
	}
	t.Logf("SNAPSHOTD_SOAK_SEED=%d", seed)
	k := &soak{t: t}
	k.words.seed = seed
	t.Cleanup(k.lastWords) // the first is the last to run
	k.prepare(uint64(seed))
	stop := writeKeys(t, k.client)
	end := time.Now().Add(time.Duration(seconds) * time.Second)
	n := 0
	for ; n < int(rounds) && (seconds == 0 || time.Now().Before(end)) && !t.Failed(); n++ {
		k.words.round = n
		k.round(n)
		k.calm()
		if n%20 == 19 {
			k.audit()
			k.turn()
		}
	}
	stop()
	k.audit()
	for _, name := range slices.Sorted(maps.Keys(k.ready))[max(0, len(k.ready)-5):] {
		k.restore(k.ready[name])
	}
	k.summary(n)
}

// prepare starts all that a soak needs.
func (k *soak) prepare(seed uint64) {
	t := k.t
	defer k.during("preparing")()
	k.etcd, k.s3, k.chance, k.ledger = testenv.StartCluster(t, 3), testenv.StartS3(t), testenv.NewChance(seed), newLedger()
	k.disks, k.ready, k.deleted = map[string]string{}, map[string]promise{}, map[string]snap{}
	k.faults, k.results, k.prunedUnder = map[string]int{}, map[string]int{}, map[string]int{}
	k.client = k.etcd.Client(t)
	k.s3.MakeBucket("snapshots")
	k.proxy = testenv.StartHTTPProxy(t, k.s3.Addr(), nil)
	data, dir := k.disk("spool"), k.disk("directory")
	k.w = &world{etcd: k.etcd, s3: k.s3, dir: dir, bucket: "snapshots"}
	k.config = newSoakConfig(t, k, data)
	k.serve = k.start()
}

func (k *soak) summary(rounds int) {
	if k.overtaken > 2 && k.pruned == 0 {
		k.errorf("in %d dry runs something has gone, and in no prune", k.overtaken)
	}
	k.t.Logf("seed %d: %d rounds;\n  faults %v;\n  outcomes %v;\n  %d prunes removed %d copies, under %v, of which %d "+
		"were cut short half-way;\n"+
		"  pinned or unpinned %d, deleted %d;\n  READY in the end %d, gone for ever %d;\n  restored and compared %d",
		k.words.seed, rounds, k.faults, k.results, k.prunes, k.pruned, k.prunedUnder, k.cut, k.pins, k.removed, len(k.ready),
		len(k.deleted), k.checked)
}

// disk returns a directory, on a small file system of its own where that can be made.
func (k *soak) disk(name string) string {
	dir := k.t.TempDir()
	if err := exec.Command("mount", "-t", "tmpfs", "-o", "size=256m", "none", dir).Run(); err != nil {
		k.t.Logf("no file system of its own for the %s: it is never full (%v)", name, err)
		return dir
	}
	k.t.Cleanup(func() { _ = exec.Command("umount", "-l", dir).Run() })
	k.disks[name] = dir
	return dir
}

// writeKeys changes keys until the returned function is called.
func writeKeys(t *testing.T, client *clientv3.Client) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			pctx, done := context.WithTimeout(ctx, time.Second)
			_, _ = client.Put(pctx, fmt.Sprintf("/registry/pods/%03d", i%200), strings.Repeat(strconv.Itoa(i), 50))
			done()
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

// round is one save under a fault.
func (k *soak) round(n int) {
	f := k.pick()
	k.faults[f.name]++
	prefix := fmt.Sprintf("soak-%05d", n)
	what := prefix + " under " + f.name
	defer k.during(what)()
	var before, after map[string]float64
	if !f.killed {
		before = k.serve.scrape()
	}
	end := f.begin(k)
	r := k.run("save", "--name-prefix", prefix, "-o", "json")
	if !f.killed {
		after = k.serve.scrape()
	}
	end()
	rec := k.find(prefix)
	k.results[k.verdict(what, f, r, rec)]++
	if !f.killed {
		k.judgeMetrics(what, r, before, after)
	}
}

// verdict compares the answer of a save with its record, and returns its outcome.
func (k *soak) verdict(what string, f fault, r result, rec *snap) (outcome string) {
	outcome = "aborted"
	switch {
	case r.code == 0:
		outcome = "READY"
		var res struct{ Snapshot snap }
		decode(k.t, r.stdout, &res)
		if res.Snapshot.State != ready {
			k.errorf("%s: exit code 0 and %s", what, res.Snapshot.State)
		}
		k.promise(res.Snapshot)
	case rec != nil:
		outcome = strings.TrimPrefix(rec.State, "STATE_")
		if rec.State == ready && !f.etcd {
			k.errorf("%s: exit code %d, and the record is READY", what, r.code)
		}
	}
	if r.code == 0 && rec != nil && rec.State != ready {
		k.errorf("%s: exit code 0, and the record is %s", what, rec.State)
	}
	if f.harmless && r.code != 0 && r.code != exitBusy {
		k.errorf("%s: exit code %d and %s: %s", what, r.code, outcome, r.stderr)
	}
	if f.denied && r.code != exitBusy &&
		(outcome != "PARTIAL" || r.code != exitPartial || !strings.Contains(r.stderr, "the secret key is wrong")) {
		k.errorf("%s: exit code %d and %s: %s", what, r.code, outcome, r.stderr)
	}
	return outcome
}

func (k *soak) judgeMetrics(what string, r result, before, after map[string]float64) {
	rose := func(name string) float64 { return after[name] - before[name] }
	good := rose(`etcd_snapshot_save_duration_seconds_count{status="success"}`)
	bad := rose(`etcd_snapshot_save_duration_seconds_count{status="error"}`)
	rejected := rose(`snapshotd_saves_rejected_total{cluster="default"}`)
	if good+bad+rejected != 1 || (good == 1) != (r.code == 0) {
		k.errorf("%s: exit code %d; the metric counted %v successes, %v errors, %v rejected",
			what, r.code, good, bad, rejected)
	}
}

// find returns the record of a round's save, or nil.
func (k *soak) find(prefix string) *snap {
	for _, s := range k.list() {
		if strings.HasPrefix(s.Name, prefix) {
			return &s
		}
	}
	return nil
}

// promise remembers etcd's content at the revision of a snapshot that was reported READY.
func (k *soak) promise(s snap) {
	var hash uint32
	k.etcd.Eventually(k.t, "a member gives its HashKV", func(ctx context.Context) error {
		errs := []error{}
		for _, e := range k.etcd.Endpoints() {
			resp, err := k.client.HashKV(ctx, e, s.Revision)
			if err == nil {
				hash = resp.Hash
				return nil
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
	k.taken[s.Name] = s.CreateTime
	k.ready[s.Name] = promise{s, hash}
}

// settle waits until nothing is half done, and all is repaired.
func (k *soak) settle() {
	k.eventually("reconcile and repair succeed once nothing is broken", func() bool {
		return k.run("reconcile", "--repair").code == 0 &&
			!slices.ContainsFunc(k.list(), func(s snap) bool { return half(s) || s.State == "STATE_PARTIAL" })
	})
	k.absorb(k.list(), true)
}

// audit repairs and prunes all that can be, holds the promises against catalog and backends, and restores one of them.
func (k *soak) audit() {
	defer k.during("audit")()
	k.prune()
	there := byName(k.list())
	for name, p := range k.ready {
		if s := there[name]; s.State != ready || s.StoredSha256 != p.StoredSha256 {
			k.errorf("%s was READY and is %q", name, s.State)
			continue
		}
		for _, b := range backends {
			k.w.whole(k.t, b, p.snap)
		}
	}
	k.holdDeleted(there)
	k.compact()
	if names := slices.Sorted(maps.Keys(k.ready)); len(names) > 0 {
		k.restore(k.ready[names[k.chance.IntN(len(names))]])
	}
}

// compact keeps the database small. Promised revisions were hashed before.
func (k *soak) compact() {
	k.etcd.Eventually(k.t, "etcd compacts", func(ctx context.Context) error {
		resp, err := k.client.Get(ctx, "x")
		if err == nil {
			_, err = k.client.Compact(ctx, resp.Header.Revision, clientv3.WithCompactPhysical())
		}
		return err
	})
}
