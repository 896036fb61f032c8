//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// soak is a long run of saves, each under a fault, and what is known of their outcomes.
type soak struct {
	t      *testing.T
	etcd   *testenv.Cluster
	client *clientv3.Client
	s3     *testenv.S3
	proxy  *testenv.FaultyHTTP
	chance *testenv.Chance
	serve  *service
	w      *world
	config soakConfig
	disks  map[string]string // that can be filled: spool, directory

	ready   map[string]promise
	deleted []promise
	faults  map[string]int
	results map[string]int
	checked int
}

// promise is a snapshot that was reported READY.
type promise struct {
	snap
	hashKV uint32
}

// TestSoak takes snapshots under seeded faults until its time is over, and holds every promise that was made against what
// the backends have. Without SNAPSHOTD_SOAK_SECONDS and _ROUNDS it makes a few rounds.
func TestSoak(t *testing.T) {
	seed := envInt(t, "SNAPSHOTD_SOAK_SEED", time.Now().Unix())
	seconds := envInt(t, "SNAPSHOTD_SOAK_SECONDS", 0)
	rounds := envInt(t, "SNAPSHOTD_SOAK_ROUNDS", 20)
	if seconds > 0 && os.Getenv("SNAPSHOTD_SOAK_ROUNDS") == "" {
		rounds = 1 << 30
	}
	t.Logf("SNAPSHOTD_SOAK_SEED=%d", seed)
	k := newSoak(t, uint64(seed))
	stop := writeKeys(t, k.client)
	end := time.Now().Add(time.Duration(seconds) * time.Second)
	n := 0
	for ; n < int(rounds) && (seconds == 0 || time.Now().Before(end)) && !t.Failed(); n++ {
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
	t.Logf("seed %d: %d rounds; faults %v; outcomes %v; READY in the end %d, deleted %d; restored and compared %d", seed, n, k.faults, k.results, len(k.ready), len(k.deleted), k.checked)
}

func newSoak(t *testing.T, seed uint64) *soak {
	k := &soak{
		t: t, etcd: testenv.StartCluster(t, 3), s3: testenv.StartS3(t), chance: testenv.NewChance(seed),
		disks: map[string]string{}, ready: map[string]promise{}, faults: map[string]int{}, results: map[string]int{},
	}
	k.client = k.etcd.Client(t)
	k.s3.MakeBucket("snapshots")
	k.proxy = testenv.StartFaultyHTTP(t, k.s3.Addr())
	data, dir := k.disk("spool"), k.disk("directory")
	k.w = &world{etcd: k.etcd, s3: k.s3, dir: dir, bucket: "snapshots"}
	k.config = newSoakConfig(t, k, data)
	k.serve = k.start()
	return k
}

// disk returns a directory, on a small file system of its own where that can be made.
func (k *soak) disk(name string) string {
	dir := k.t.TempDir()
	if err := exec.Command("mount", "-t", "tmpfs", "-o", "size=64m", "none", dir).Run(); err != nil {
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

// fault is something that goes wrong during one round. begin returns what puts it right; etcd and killed say what else may
// be missing then: the catalog, or the answer.
type fault struct {
	name         string
	etcd, killed bool
	begin        func(k *soak) (heal func())
}

func s3Fault(name string, make func(k *soak) testenv.HTTPFault) fault {
	return fault{name: name, begin: func(k *soak) func() {
		k.proxy.Set(make(k))
		return func() { k.proxy.Set(nil) }
	}}
}

var soakFaults = []fault{
	{name: "none", begin: func(*soak) func() { return func() {} }},
	s3Fault("latency 2s", func(k *soak) testenv.HTTPFault { return testenv.Latency(k.chance, 8, 2*time.Second) }),
	s3Fault("reset 1%", func(k *soak) testenv.HTTPFault { return testenv.Resets(k.chance, 1) }),
	s3Fault("reset 50%", func(k *soak) testenv.HTTPFault { return testenv.Resets(k.chance, 50) }),
	s3Fault("500", func(k *soak) testenv.HTTPFault { return testenv.Answers(k.chance.IntN(4), 500, "InternalError") }),
	s3Fault("503", func(k *soak) testenv.HTTPFault { return testenv.Answers(k.chance.IntN(4), 503, "SlowDown") }),
	s3Fault("endless response", func(k *soak) testenv.HTTPFault { return testenv.Drips(k.chance, 4, time.Second) }),
	s3Fault("cut at a byte", func(k *soak) testenv.HTTPFault { return testenv.Cuts(k.chance, 3) }),
	s3Fault("clock skew", func(k *soak) testenv.HTTPFault {
		return testenv.Answers(k.chance.IntN(4), 403, "RequestTimeTooSkewed")
	}),
	{name: "wrong credentials", begin: (*soak).wrongCredentials},
	{name: "spool full", begin: func(k *soak) func() { return k.fill("spool") }},
	{name: "directory full", begin: func(k *soak) func() { return k.fill("directory") }},
	{name: "etcd full", etcd: true, begin: (*soak).alarm},
	{name: "leader killed", etcd: true, begin: func(k *soak) func() {
		return k.killMember(k.etcd.Leader(k.t, func(int) bool { return true }))
	}},
	{name: "member killed", etcd: true, begin: func(k *soak) func() { return k.killMember(k.chance.IntN(3)) }},
	{name: "snapshotd killed", etcd: true, killed: true, begin: func(k *soak) func() {
		victim, after := k.serve, time.Duration(k.chance.IntN(400))*time.Millisecond
		time.AfterFunc(after, func() { _ = victim.cmd.Process.Kill() })
		return func() {
			<-victim.done
			k.serve = k.start()
		}
	}},
}

// fill leaves no space on a disk.
func (k *soak) fill(name string) func() {
	dir := k.disks[name]
	if dir == "" {
		return func() {}
	}
	path := filepath.Join(dir, "filler")
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		k.t.Fatal(err)
	}
	left := int64(k.chance.IntN(20000))
	f, err := os.Create(path)
	if err != nil {
		k.t.Fatal(err)
	}
	defer f.Close()
	_ = syscall.Fallocate(int(f.Fd()), 0, 0, max(1, int64(fs.Bavail)*fs.Bsize-left))
	return func() { _ = os.Remove(path) }
}

// alarm raises NOSPACE: etcd then takes no writes.
func (k *soak) alarm() func() {
	api := etcdserverpb.NewMaintenanceClient(k.client.ActiveConnection())
	set := func(action etcdserverpb.AlarmRequest_AlarmAction) {
		k.etcd.Eventually(k.t, "the alarm is changed", func(ctx context.Context) error {
			member := k.etcd.Status(k.t, 0).Header.MemberId
			_, err := api.Alarm(ctx, &etcdserverpb.AlarmRequest{Action: action, MemberID: member, Alarm: etcdserverpb.AlarmType_NOSPACE})
			return err
		})
	}
	set(etcdserverpb.AlarmRequest_ACTIVATE)
	return func() { set(etcdserverpb.AlarmRequest_DEACTIVATE) }
}

// killMember kills a member at a random moment of the save.
func (k *soak) killMember(i int) func() {
	after := time.Duration(k.chance.IntN(300)) * time.Millisecond
	killed := make(chan struct{})
	time.AfterFunc(after, func() {
		defer close(killed)
		k.etcd.Kill(i)
	})
	return func() {
		<-killed
		k.etcd.Restart(k.t, i)
		k.etcd.Eventually(k.t, "the member is back", func(ctx context.Context) error {
			_, err := k.client.Get(clientv3.WithRequireLeader(ctx), "x")
			if err == nil {
				_, err = k.client.Status(ctx, k.etcd.Endpoints()[i])
			}
			return err
		})
	}
}

// round is one save under a fault.
func (k *soak) round(n int) {
	f := soakFaults[k.chance.IntN(len(soakFaults))]
	k.faults[f.name]++
	prefix := fmt.Sprintf("soak-%05d", n)
	var before map[string]float64
	if !f.killed {
		before = k.serve.scrape()
	}
	heal := f.begin(k)
	r := k.serve.run("save", "--name-prefix", prefix, "-o", "json")
	var after map[string]float64
	if !f.killed {
		after = k.serve.scrape()
	}
	heal()
	rec := k.find(prefix)
	outcome := "aborted"
	switch {
	case r.code == 0:
		outcome = "READY"
		var res struct{ Snapshot snap }
		decode(k.t, r.stdout, &res)
		if res.Snapshot.State != "STATE_READY" {
			k.t.Errorf("%s under %s: exit code 0 and %s", prefix, f.name, res.Snapshot.State)
		}
		k.promise(res.Snapshot)
	case rec != nil:
		outcome = strings.TrimPrefix(rec.State, "STATE_")
		if rec.State == "STATE_READY" && !f.etcd {
			k.t.Errorf("%s under %s: exit code %d, and the record is READY", prefix, f.name, r.code)
		}
	}
	if r.code == 0 && rec != nil && rec.State != "STATE_READY" {
		k.t.Errorf("%s under %s: exit code 0, and the record is %s", prefix, f.name, rec.State)
	}
	k.results[outcome]++
	if !f.killed {
		const count = "etcd_snapshot_save_duration_seconds_count"
		good := after[count+`{status="success"}`] - before[count+`{status="success"}`]
		bad := after[count+`{status="error"}`] - before[count+`{status="error"}`]
		rejected := after[`snapshotd_saves_rejected_total{cluster="default"}`] - before[`snapshotd_saves_rejected_total{cluster="default"}`]
		if good+bad+rejected != 1 || (good == 1) != (r.code == 0) {
			k.t.Errorf("%s under %s: exit code %d; the metric counted %v successes, %v errors, %v rejected", prefix, f.name, r.code, good, bad, rejected)
		}
	}
}

// find returns the record of a round's save, or nil.
func (k *soak) find(prefix string) *snap {
	var found *snap
	eventually(k.t, "the catalog answers", func() bool {
		r := k.serve.run("list", "-o", "json", "--limit", "5")
		if r.code != 0 {
			return false
		}
		var l struct{ Snapshots []snap }
		decode(k.t, r.stdout, &l)
		for _, s := range l.Snapshots {
			if strings.HasPrefix(s.Name, prefix) {
				found = &s
			}
		}
		return true
	})
	return found
}

// promise remembers what etcd had at the revision of a snapshot that was reported READY.
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
	k.ready[s.Name] = promise{s, hash}
}

// audit repairs all that can be, holds the promises against catalog and backends, and restores one of them.
func (k *soak) audit() {
	eventually(k.t, "reconcile and repair succeed once nothing is broken", func() bool {
		_, r := k.serve.reconcile("--repair")
		return r.code == 0
	})
	var all struct{ Snapshots []snap }
	if err := json.Unmarshal([]byte(k.serve.must("list", "-o", "json")), &all); err != nil {
		k.t.Fatal(err)
	}
	there := map[string]snap{}
	for _, s := range all.Snapshots {
		there[s.Name] = s
		if s.State == "STATE_PARTIAL" {
			k.t.Errorf("%s is PARTIAL after a repair: %s", s.Name, s.Error)
		}
	}
	for name, p := range k.ready {
		if s := there[name]; s.State != "STATE_READY" || s.StoredSha256 != p.StoredSha256 {
			k.t.Errorf("%s was READY and is %q", name, s.State)
			continue
		}
		k.w.whole(k.t, "local", p.snap)
		k.w.whole(k.t, "s3", p.snap)
	}
	k.holdDeleted(there)
	k.compact()
	if names := slices.Sorted(maps.Keys(k.ready)); len(names) > 0 {
		k.restore(k.ready[names[k.chance.IntN(len(names))]])
	}
}

// compact keeps the database small. What is promised was hashed before.
func (k *soak) compact() {
	k.etcd.Eventually(k.t, "etcd compacts", func(ctx context.Context) error {
		resp, err := k.client.Get(ctx, "x")
		if err == nil {
			_, err = k.client.Compact(ctx, resp.Header.Revision, clientv3.WithCompactPhysical())
		}
		return err
	})
}
