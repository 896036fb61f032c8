//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/loader"
	"github.com/snapshotd/snapshotd/internal/testenv"
)

// fleet is three replicas of one configuration that save a three-member etcd by schedule.
type fleet struct {
	*world
	t        *testing.T
	client   *clientv3.Client
	proxy    *testenv.HTTPProxy
	chance   *testenv.Chance
	replicas []*replica
	served   []*service // all that were started
	every    time.Duration
	faults   map[string]int
}

// replica is one of them, with a way of its own to each member of etcd.
type replica struct {
	name   string
	config string
	data   string // its directory
	ways   []*testenv.Proxy
	serve  *service
}

var fleetSchedules = []string{"a", "b", "c", "d"}

// TestFleet lets three replicas save and scrub by schedule while they, etcd's members and S3 fail at random, and
// compares the snapshots with the due times: each run has one snapshot, and the last proof is recent. Then it destroys
// etcd and restores it from the bucket alone, by the runbook. SNAPSHOTD_FLEET_SECONDS and _EVERY set how long it goes
// on and how often each of the four schedules is due.
func TestFleet(t *testing.T) {
	seed := envInt(t, "SNAPSHOTD_FLEET_SEED", time.Now().Unix())
	length := time.Duration(envInt(t, "SNAPSHOTD_FLEET_SECONDS", 130)) * time.Second
	every := time.Duration(envInt(t, "SNAPSHOTD_FLEET_EVERY", 60)) * time.Second
	t.Logf("SNAPSHOTD_FLEET_SEED=%d", seed)
	f := newFleet(t, uint64(seed), every)
	stop := writeKeys(t, f.client)
	for end := time.Now().Add(length); time.Now().Before(end) && !t.Failed(); {
		f.fault()
		time.Sleep(time.Duration(f.chance.IntN(5000)) * time.Millisecond)
	}
	ended := time.Now()
	eventually(t, "all runs that were due are over", func() bool {
		last := f.due()
		return slices.IndexFunc(fleetSchedules, func(s string) bool {
			return len(last[s]) == 0 || last[s][len(last[s])-1].Before(ended.Add(-every))
		}) < 0
	})
	runs := f.compare(ended)
	f.proven(ended)
	stop()
	f.disaster()
	t.Logf("seed %d: %d runs of %d schedules, every %v; faults %v", seed, runs, len(fleetSchedules), every, f.faults)
}

func newFleet(t *testing.T, seed uint64, every time.Duration) *fleet {
	f := &fleet{
		world: &world{etcd: testenv.StartCluster(t, 3), s3: testenv.StartS3(t), dir: t.TempDir(), bucket: "snapshots"},
		t:     t, chance: testenv.NewChance(seed), every: every, faults: map[string]int{},
	}
	f.client = f.etcd.Client(t)
	f.s3.MakeBucket(f.bucket)
	if err := loader.Load(t.Context(), f.client,
		loader.Config{Bytes: envInt(t, "SNAPSHOTD_FLEET_BYTES", 16<<20), Seed: seed}); err != nil {
		t.Fatal(err)
	}
	f.proxy = testenv.StartHTTPProxy(t, f.s3.Addr(), nil)
	for i := range 3 {
		f.replicas = append(f.replicas, f.newReplica(fmt.Sprintf("node-%d", i+1)))
	}
	return f
}

func (f *fleet) newReplica(name string) *replica {
	r := &replica{name: name, config: filepath.Join(f.t.TempDir(), "snapshotd.yaml"), data: f.t.TempDir()}
	var endpoints []string
	for _, e := range f.etcd.Endpoints() {
		way := testenv.StartProxy(f.t, strings.TrimPrefix(e, "http://"))
		r.ways = append(r.ways, way)
		endpoints = append(endpoints, strconv.Quote("http://"+way.Addr()))
	}
	doc := fmt.Sprintf(`
data_dir: %s
node_name: %s
reconcile_interval: 20s
clusters:
  - name: default
    etcd: {endpoints: [%s]}
    lock_ttl: 2s
    leftover_age: 2s
    scrub: {cron: "@every %v", share: 5, drill: true}
    schedules:
`, r.data, name, strings.Join(endpoints, ", "), f.every)
	for _, s := range fleetSchedules {
		doc += fmt.Sprintf("      - {name: %s, cron: \"@every %v\", jitter: %v, labels: {tier: %s}}\n",
			s, f.every, f.every/4, s)
	}
	doc += fmt.Sprintf("    backends:\n      - {name: local, url: %q, retention: {keep_last: 8}}\n      - {name: s3, "+
		"url: %q}\n",
		"file://"+f.dir, f.s3URL(f.proxy.Addr()))
	if err := os.WriteFile(r.config, []byte(doc), 0o600); err != nil {
		f.t.Fatal(err)
	}
	f.start(r)
	return r
}

func (f *fleet) start(r *replica) {
	r.serve = start(f.t, f.options(), "--config", r.config)
	f.served = append(f.served, r.serve)
}

// leader returns the replica that leads according to etcd, or any.
func (f *fleet) leader() *replica {
	ctx, cancel := context.WithTimeout(f.t.Context(), 2*time.Second)
	defer cancel()
	resp, err := f.client.Get(ctx, "/snapshotd/v1/default/leader")
	for _, r := range f.replicas {
		if err == nil && len(resp.Kvs) > 0 && r.name == string(resp.Kvs[0].Value) {
			return r
		}
	}
	return f.replicas[f.chance.IntN(len(f.replicas))]
}

// fault lets one thing fail for some seconds.
func (f *fleet) fault() {
	wait := func() { time.Sleep(time.Second + time.Duration(f.chance.IntN(5000))*time.Millisecond) }
	s3 := func(fault testenv.HTTPFault) {
		f.proxy.Set(fault)
		wait()
		f.proxy.Set(nil)
	}
	all := []struct {
		name string
		do   func()
	}{
		{"leader killed", func() { f.kill(f.leader(), wait) }},
		{"replica killed", func() { f.kill(f.replicas[f.chance.IntN(3)], wait) }},
		{"leader paused", func() { f.pause(f.leader(), wait) }},
		{"leader paused in a save", func() { f.pauseInSave(wait) }},
		{"leader cut off from etcd", func() { cutOff(f.leader(), wait) }},
		{"etcd's leader killed", func() { f.killMember(f.etcd.Leader(f.t, nil), wait) }},
		{"etcd's member paused", func() {
			i := f.chance.IntN(3)
			f.etcd.Stop(f.t, i)
			wait()
			f.etcd.Cont(f.t, i)
		}},
		{"S3: resets", func() { s3(testenv.Resets(f.chance, 50)) }},
		{"S3: 503", func() { s3(testenv.Answers(0, 503, "SlowDown")) }},
		{"S3: latency", func() { s3(testenv.Latency(f.chance, 4, 2*time.Second)) }},
	}
	chosen := all[f.chance.IntN(len(all))]
	f.faults[chosen.name]++
	chosen.do()
}

func (f *fleet) kill(r *replica, wait func()) {
	r.serve.kill()
	wait()
	f.start(r)
}

func (f *fleet) pause(r *replica, wait func()) {
	_ = r.serve.cmd.Process.Signal(syscall.SIGSTOP)
	wait()
	_ = r.serve.cmd.Process.Signal(syscall.SIGCONT)
}

// pauseInSave waits a while for a replica that saves, and pauses it.
func (f *fleet) pauseInSave(wait func()) {
	for end := time.Now().Add(f.every); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(f.t.Context(), 2*time.Second)
		resp, err := f.client.Get(ctx, "/snapshotd/v1/default/lock/save")
		cancel()
		if err != nil || len(resp.Kvs) == 0 {
			continue
		}
		time.Sleep(time.Duration(f.chance.IntN(300)) * time.Millisecond)
		for _, r := range f.replicas {
			if strings.HasPrefix(string(resp.Kvs[0].Value), r.name+"/") {
				f.pause(r, wait)
			}
		}
		return
	}
}

func cutOff(r *replica, wait func()) {
	for _, way := range r.ways {
		way.Blackhole()
	}
	wait()
	for _, way := range r.ways {
		way.Restore()
	}
}

func (f *fleet) killMember(i int, wait func()) {
	f.etcd.Kill(i)
	wait()
	f.etcd.Restart(f.t, i)
}

// requests returns the names of the snapshots that were made for each run: by schedule and due, in the order of
// attempts.
func (f *fleet) requests() map[string]map[int64][]string {
	const prefix = "/snapshotd/v1/default/requests/"
	all := map[string]map[int64][]string{}
	f.etcd.Eventually(f.t, "etcd gives the requests", func(ctx context.Context) error {
		resp, err := f.client.Get(ctx, prefix, clientv3.WithPrefix())
		if err != nil {
			return err
		}
		for _, kv := range resp.Kvs {
			id, err := url.PathUnescape(strings.TrimPrefix(string(kv.Key), prefix))
			if err != nil {
				return err
			}
			part := strings.Split(id, "/") // schedule, its name, when it was due, perhaps the attempt
			due, err := strconv.ParseInt(part[2], 10, 64)
			if err != nil {
				return err
			}
			if all[part[1]] == nil {
				all[part[1]] = map[int64][]string{}
			}
			all[part[1]][due] = append(all[part[1]][due], string(kv.Value))
		}
		return nil
	})
	return all
}

// due returns when each schedule was due, as far as it was run.
func (f *fleet) due() map[string][]time.Time {
	all := map[string][]time.Time{}
	for s, runs := range f.requests() {
		for due := range runs {
			all[s] = append(all[s], time.Unix(due, 0))
		}
		slices.SortFunc(all[s], time.Time.Compare)
	}
	return all
}

// compare compares the snapshots with the due runs, once nothing fails any more, and returns the number of runs.
func (f *fleet) compare(ended time.Time) (runs int) {
	f.t.Helper()
	requests, snaps := f.settled()
	state := map[string]string{}
	ready := map[string]int{} // by schedule
	for _, sn := range snaps {
		state[sn.Name] = sn.State
		if sn.State != "STATE_READY" || !f.requested(requests, sn) {
			continue
		}
		ready[sn.Labels["schedule"]]++
		f.whole(f.t, "s3", sn) // the directory is pruned all the while
	}
	for schedule, byDue := range requests {
		var last int64
		for _, due := range sortedKeys(byDue) {
			if step := due - last; last > 0 && step != int64(f.every.Seconds()) {
				f.t.Errorf("schedule %s: after %d it ran at %d, and is due every %v", schedule, last, due, f.every)
			}
			last = due
			var good []string
			for _, name := range byDue[due] {
				if state[name] == "STATE_READY" {
					good = append(good, name)
				}
			}
			if len(good) != 1 {
				f.t.Errorf("schedule %s: its run of %d has the snapshots %q, READY are %q", schedule, due, byDue[due], good)
			}
		}
		if len(byDue) != ready[schedule] {
			f.t.Errorf("schedule %s: %d runs, and %d snapshots", schedule, len(byDue), ready[schedule])
		}
		if time.Unix(last, 0).Before(ended.Add(-f.every)) {
			f.t.Errorf("schedule %s: it ran last at %d, and the time was %d", schedule, last, ended.Unix())
		}
		runs += len(byDue)
	}
	if len(ready) != len(fleetSchedules) {
		f.t.Errorf("there are snapshots of %v", ready)
	}
	return runs
}

// settled returns the due runs and their snapshots, once everything that failed is repaired. Schedules go on: later
// runs are left out.
func (f *fleet) settled() (requests map[string]map[int64][]string, snaps []snap) {
	s := f.replicas[0].serve
	eventually(f.t, "everything that failed is repaired", func() bool {
		if _, r := s.reconcile("--repair", "--backend", "s3"); r.code != 0 {
			return false
		}
		requests = f.requests()
		snaps = s.list()
		ready := map[string]bool{}
		for _, sn := range snaps {
			if sn.State == "STATE_SAVING" || sn.State == "STATE_PARTIAL" {
				return false
			}
			ready[sn.Name] = sn.State == "STATE_READY"
		}
		for _, byDue := range requests { // an attempt that has failed is repeated
			due := sortedKeys(byDue)
			if !slices.ContainsFunc(byDue[due[len(due)-1]], func(name string) bool { return ready[name] }) {
				return false
			}
		}
		return true
	})
	return requests, snaps
}

// requested reports whether a snapshot is of one of these runs.
func (f *fleet) requested(all map[string]map[int64][]string, sn snap) bool {
	for _, names := range all[sn.Labels["schedule"]] {
		if slices.Contains(names, sn.Name) {
			return true
		}
	}
	return false
}

func sortedKeys(m map[int64][]string) []int64 {
	var keys []int64
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// disaster destroys the replicas and all members with their data, and follows docs/disaster.md with the bucket alone.
func (f *fleet) disaster() {
	t := f.t
	before := f.replicas[0].serve.list()
	for _, r := range f.replicas {
		r.serve.kill()
	}
	f.noDrillIsLeft()
	from := f.s3URL("")
	var stored struct{ Snapshots []snap }
	decode(t, f.shell("snapshotd list --cluster default --limit 1 -o json --from '"+from+"'"), &stored)
	latest := stored.Snapshots[0]
	hash := liveHash(t, f.client, f.etcd.Endpoints()[0], latest.Revision)
	for i := range f.replicas {
		f.etcd.Kill(i)
		if err := os.RemoveAll(f.etcd.DataDir(i)); err != nil {
			t.Fatal(err)
		}
	}
	plan := f.shell("snapshotd restore latest --from '" + from + "' --cluster default --data-dir /var/lib/etcd --dry-run" +
		" --initial-cluster " + strings.Join(f.etcd.Initial(), ",") + " --initial-cluster-token etcd-cluster-2")
	if !strings.Contains(plan, latest.Name) {
		t.Errorf("the newest snapshot is %s, and the plan is\n%s", latest.Name, plan)
	}
	machine := 0
	for line := range strings.Lines(plan) {
		if command := strings.TrimSpace(line); strings.HasPrefix(command, "snapshotd restore ") {
			f.shell(strings.Replace(command, "/var/lib/etcd", f.etcd.DataDir(machine), 1)) // each machine has its own
			machine++
		}
	}
	if machine != 3 {
		t.Fatalf("the plan has commands for %d members:\n%s", machine, plan)
	}
	for i := range machine {
		f.etcd.Restart(t, i)
	}
	f.etcd.Eventually(t, "the restored cluster answers", func(ctx context.Context) error {
		_, err := f.client.Get(clientv3.WithRequireLeader(ctx), "x")
		return err
	})
	for _, e := range f.etcd.Endpoints() {
		if got := liveHash(t, f.client, e, latest.Revision); got != hash {
			t.Errorf("HashKV at revision %d is %d on %s, and was %d", latest.Revision, got, e, hash)
		}
	}
	f.afterwards(before)
}

// shell runs a command of the runbook.
func (f *fleet) shell(command string) string {
	f.t.Helper()
	cmd := exec.Command("sh", "-c", command)
	cmd.Env = append(append(os.Environ(), f.s3.Env()...), "PATH="+filepath.Dir(program(f.t, ""))+":"+os.Getenv("PATH"))
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			out = append(out, exit.Stderr...)
		}
		f.t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

// afterwards starts the replicas again: the catalog that came back from the past must describe the backends, and the
// schedules and the scrub go on.
func (f *fleet) afterwards(before []snap) {
	t := f.t
	for _, r := range f.replicas {
		f.start(r)
	}
	s := f.replicas[0].serve
	want := map[string]bool{}
	for _, sn := range before {
		if sn.State == "STATE_READY" {
			want[sn.Name] = true
		}
	}
	begin := time.Now()
	eventually(t, "the catalog says what there is, and something new was saved and proven", func() bool {
		missing, newer, proven := len(want), false, false
		r := s.run("list", "-o", "json")
		if r.code != 0 {
			return false
		}
		var l struct{ Snapshots []snap }
		decode(t, r.stdout, &l)
		for _, sn := range l.Snapshots {
			if want[sn.Name] && sn.State == "STATE_READY" {
				missing--
			}
			newer = newer || !want[sn.Name] && sn.State == "STATE_READY" && sn.Labels["schedule"] != ""
			proven = proven || passedDrill(sn) && sn.Verification.Time.After(begin)
		}
		return missing == 0 && newer && proven
	})
	t.Logf("%v after they were started, the replicas have all %d snapshots in the catalog, a new one and a new proof",
		time.Since(begin).Round(time.Second), len(want))
}
