//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/etcd/member"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
)

const (
	loadTime = 40 * time.Second
	// settles is how long after a fault, or after a compaction or a change of a lease, the journal may not have seen it.
	settles = 6 * time.Second
	// assumedTTL is that of leases which ended before etcd was asked for it: the default of --ended-lease-ttl.
	assumedTTL = 3600
)

// TestJournalOracle changes clusters of one and of three members at random, while they, the service that follows them and
// its bucket have faults. Then revisions and times are restored from the backends with `snapshotd restore`, and compared
// with what the cluster was: HashKV with its compact revision, all keys, leases.
//
// It takes another seed until SNAPSHOTD_ORACLE_SECONDS are over (120 by default), each with SNAPSHOTD_ORACLE_TARGETS
// revisions and times (24). SNAPSHOTD_ORACLE_SEED is the first seed: it fixes what is done, though not when.
func TestJournalOracle(t *testing.T) {
	for _, variable := range testenv.S3Env() {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
	seed := envInt(t, "SNAPSHOTD_ORACLE_SEED", time.Now().Unix()%1_000_000)
	targets := int(envInt(t, "SNAPSHOTD_ORACLE_TARGETS", 24))
	end := time.Now().Add(time.Duration(envInt(t, "SNAPSHOTD_ORACLE_SECONDS", 120)) * time.Second)
	var all verdict
	for round := int64(0); round == 0 || time.Now().Before(end) && !t.Failed(); round++ {
		members := 3 - int(round%2)*2
		t.Run(fmt.Sprintf("seed %d, members %d", seed+round, members), func(t *testing.T) {
			o := newWatched(t, uint64(seed+round), members)
			o.change()
			for i := range targets {
				o.check(i)
			}
			t.Log(o.found)
			if compared := targets - o.found.refused - o.found.twice; compared < targets/4 || o.found.replayed < compared/4 || o.found.hashes < compared/2 {
				t.Errorf("too little was compared: %s", o.found)
			}
			all.add(o.found)
		})
	}
	t.Logf("in all: %s", all)
}

// verdict counts what was compared.
type verdict struct {
	seeds, targets int
	refused        int // in a gap of the journal, as the window said
	twice          int // in two timelines, as the window said, so that the number alone is refused
	replayed       int // the journal was needed
	hashes         int // HashKV was the same, for the same compact revision
	open           int // whether a compaction had run was not known: the keys were the same
	estimated      int // leases whose time to live was lost
	leases         int // that keys named
	upper          int // times with a revision that the cluster cannot have passed
	secured        int // restored with authentication on
	behind         int // users or roles had changed since the snapshot, the plan said
}

func (v *verdict) add(w verdict) {
	v.seeds++
	v.targets += w.targets
	v.refused += w.refused
	v.twice += w.twice
	v.replayed += w.replayed
	v.hashes += w.hashes
	v.open += w.open
	v.estimated += w.estimated
	v.leases += w.leases
	v.upper += w.upper
	v.secured += w.secured
	v.behind += w.behind
}

func (v verdict) String() string {
	return fmt.Sprintf("%d seeds, %d targets, %d of them in gaps and refused, %d in two timelines and refused; %d by the journal; %d with the same HashKV for the same "+
		"compaction, %d with the same keys while the compaction was not known; %d leases, %d of them with an estimated time to live; "+
		"%d times with an upper bound; %d with authentication on, %d with users or roles that had changed since the snapshot", v.seeds, v.targets, v.refused, v.twice, v.replayed, v.hashes, v.open, v.leases, v.estimated, v.upper, v.secured, v.behind)
}

// watched is a cluster that is changed, with a service that follows it.
type watched struct {
	*world
	t        *testing.T
	members  int
	chance   *rand.Rand
	proxy    *testenv.Proxy
	client   *clientv3.Client
	load     *load
	file     string
	serve    *service
	other    string // the configuration of another replica; empty while there was none
	otherDir string // its data directory
	troubles []trouble
	auth     []authState
	begin    time.Time // of what can be restored
	window   window
	found    verdict
}

// trouble is a fault, and the time that it lasted.
type trouble struct {
	name     string
	from, to time.Time
	quiet    bool
}

func newWatched(t *testing.T, seed uint64, members int) *watched {
	t.Helper()
	w := &world{etcd: testenv.StartCluster(t, members), s3: testenv.StartS3(t), dir: t.TempDir(), bucket: "snapshots"}
	w.s3.MakeBucket(w.bucket)
	o := &watched{world: w, t: t, members: members, chance: rand.New(rand.NewPCG(seed, 7)), found: verdict{seeds: 1}}
	o.proxy = testenv.StartProxy(t, w.s3.Addr())
	o.addRoot()
	o.load = newLoad(o.client, seed)
	o.file = journaled(t, t.TempDir(), w.etcd.Endpoints(), map[string]string{"s3": w.s3URL(o.proxy.Addr()), "local": "file://" + w.dir},
		"lock_ttl: 3s", "journal: {enabled: true, upload_interval: 2s}")
	o.logIn()
	if _, err := o.client.Put(t.Context(), "first", ""); err != nil {
		t.Fatal(err)
	}
	if o.chance.IntN(2) == 0 {
		o.switchAuth()
	}
	o.serve = start(t, w.options(), "--config", o.file)
	o.serve.follows(2)
	o.begin = time.Now()
	return o
}

// change lets the load run while one fault follows the other, and waits until all is on the backends.
func (o *watched) change() {
	o.t.Helper()
	ctx, stop := context.WithCancel(o.t.Context())
	var running sync.WaitGroup
	running.Go(func() { o.load.run(ctx) })
	for end := time.Now().Add(loadTime); time.Now().Before(end); {
		o.pause(1500, 3500)
		o.fault()
	}
	stop()
	running.Wait()
	eventually(o.t, "the truth of all revisions is known", func() bool { return o.load.sample(o.t.Context()) == nil })
	o.otherStores()
	end := time.Now()
	eventually(o.t, "all is on the backends", func() bool {
		complete := true
		for _, b := range backends {
			asked := time.Now()
			age, ok := o.serve.rpo(b)
			complete = complete && ok && asked.Add(-age).After(end)
		}
		o.window = o.serve.window()
		return complete && o.window.timeline("").last() >= o.load.sampled
	})
	o.serve.kill()
	o.t.Logf("%d revisions, %d compactions, %d leases, %d timelines, %d gaps; faults: %s; requests that failed: %d", o.load.sampled,
		len(o.load.compactions), len(o.load.leases), len(o.window.Window.Timelines), len(o.window.Window.Gaps), o.faults(), o.load.failed)
}

func (o *watched) faults() string {
	count := map[string]int{}
	for _, f := range o.troubles {
		count[f.name]++
	}
	return fmt.Sprint(count)
}

// pause waits for a random time: when things happen is a part of what is tried.
func (o *watched) pause(least, most int64) {
	time.Sleep(time.Duration(least+o.chance.Int64N(most-least)) * time.Millisecond)
}

// oracleFaults are what happens to a cluster, its service and its bucket.
var oracleFaults = []struct {
	name  string
	of3   bool // it needs three members
	quiet bool // it is no excuse for anything
	apply func(o *watched)
}{
	{name: "the bucket is away", apply: func(o *watched) {
		o.proxy.Cut()
		o.pause(1000, 7000)
		o.proxy.Restore()
	}},
	{name: "the service is killed", apply: func(o *watched) {
		o.serve.kill()
		o.pause(0, 3000)
		o.serve = start(o.t, o.options(), "--config", o.file)
	}},
	{name: "the service is stopped", apply: func(o *watched) {
		o.signal(syscall.SIGSTOP)
		o.pause(500, 7000)
		if o.chance.IntN(10) == 0 {
			o.pause(60_000, 61_000)
		}
		o.signal(syscall.SIGCONT)
	}},
	{name: "another replica leads", apply: func(o *watched) {
		other := o.startOther()
		o.signal(syscall.SIGSTOP)
		o.pause(4000, 9000)
		o.signal(syscall.SIGCONT) // it wakes up and finds that it does not lead any more
		o.pause(0, 3000)
		if o.chance.IntN(2) == 0 {
			other.kill()
		} else {
			other.end()
		}
	}},
	{name: "a member is killed", apply: func(o *watched) {
		i := o.chance.IntN(o.members)
		o.etcd.Kill(i)
		o.pause(0, 2000)
		o.etcd.Restart(o.t, i)
		o.healthy()
	}},
	{name: "a member is stopped", apply: func(o *watched) {
		i := o.chance.IntN(o.members)
		o.etcd.Stop(o.t, i)
		o.pause(500, 4000)
		o.etcd.Cont(o.t, i)
		o.healthy()
	}},
	{name: "a member is defragmented", apply: func(o *watched) {
		ctx, cancel := contextFor(o.t, waitTimeout)
		defer cancel()
		if _, err := o.client.Defragment(ctx, o.etcd.Endpoints()[o.chance.IntN(o.members)]); err != nil {
			o.t.Errorf("defragment: %v", err)
		}
	}},
	{name: "another member leads", of3: true, apply: func(o *watched) {
		leader := o.etcd.Leader(o.t, nil)
		to := o.etcd.Status(o.t, (leader+1+o.chance.IntN(2))%3).Header.MemberId
		ctx, cancel := contextFor(o.t, answerTimeout)
		defer cancel()
		_, _ = o.etcd.ClientOf(o.t, leader).MoveLeader(ctx, to) // it may have lost the leadership meanwhile
	}},
	{name: "a snapshot is taken", apply: func(o *watched) { o.serve.run("save") }},
	{name: "authentication is turned on or off", quiet: true, apply: (*watched).switchAuth},
	{name: "users or roles are changed", quiet: true, apply: (*watched).changeUsers},
}

// startOther starts another replica, with a disk of its own.
func (o *watched) startOther() *service {
	o.t.Helper()
	if o.other == "" {
		doc, err := os.ReadFile(o.file)
		if err != nil {
			o.t.Fatal(err)
		}
		lines := strings.Split(string(doc), "\n")
		o.otherDir = o.t.TempDir()
		lines[0], lines[1] = "data_dir: "+o.otherDir, "node_name: node-2"
		o.other = filepath.Join(o.t.TempDir(), "other.yaml")
		replaceFile(o.t, o.other, strings.Join(lines, "\n"))
	}
	return start(o.t, o.options(), "--config", o.other)
}

// otherStores waits until the backends have what the other replica has on its disk since it was killed.
func (o *watched) otherStores() {
	o.t.Helper()
	if o.other == "" {
		return
	}
	eventually(o.t, "the service leads again", func() bool { _, leads := o.serve.rpo(""); return leads })
	other := o.startOther()
	eventually(o.t, "the other replica has no journal on its disk", func() bool {
		parts, err := filepath.Glob(filepath.Join(o.otherDir, "journal", "*", "*.log"))
		return err == nil && len(parts) == 0
	})
	other.end()
}

func (o *watched) fault() {
	f := oracleFaults[o.chance.IntN(len(oracleFaults))]
	if f.of3 && o.members < 3 {
		return
	}
	tr := trouble{name: f.name, from: time.Now()}
	f.apply(o)
	tr.to = time.Now()
	tr.quiet = f.quiet
	o.troubles = append(o.troubles, tr)
}

func (o *watched) signal(s syscall.Signal) {
	if err := o.serve.cmd.Process.Signal(s); err != nil {
		o.t.Fatal(err)
	}
}

func (o *watched) healthy() {
	o.etcd.Eventually(o.t, "etcd answers", func(ctx context.Context) error {
		_, err := o.client.Get(clientv3.WithRequireLeader(ctx), "x")
		return err
	})
}

// calm reports whether there was no fault around a time.
func (o *watched) calm(from, to time.Time) bool {
	return !slices.ContainsFunc(o.troubles, func(t trouble) bool { return !t.quiet && t.from.Before(to) && t.to.Add(settles).After(from) })
}

// check restores a revision or a time, from one backend or both.
func (o *watched) check(i int) {
	o.t.Helper()
	o.found.targets++
	data := filepath.Join(o.t.TempDir(), "etcd")
	defer func() { _ = os.RemoveAll(data) }() // now, as the log of each etcd takes 128 MB
	args := []string{"restore", "--data-dir", data}
	for _, url := range [][]string{{o.s3URL("")}, {"file://" + o.dir}, {o.s3URL(""), "file://" + o.dir}}[o.chance.IntN(3)] {
		args = append(args, "--from", url)
	}
	var at time.Time
	var revision int64
	if i%2 == 0 {
		first := o.window.Window.Timelines[0].Ranges[0].RestorableFromRevision
		revision = first + o.chance.Int64N(o.load.sampled-first+1)
		args = append(args, "--revision", fmt.Sprint(revision))
	} else {
		at = o.begin.Add(time.Duration(o.chance.Int64N(int64(o.load.ops[len(o.load.ops)-1].acked.Sub(o.begin)))))
		args = append(args, "--at", at.UTC().Format(time.RFC3339Nano))
	}
	r := command(o.t.Context(), o.t, program(o.t, ""), args...)
	if revision > 0 && r.code != 0 && o.inGap(revision) && strings.Contains(r.stderr, "revision") {
		o.found.refused++
		return
	}
	if revision > 0 && r.code != 0 && o.inTwo(revision) && strings.Contains(r.stderr, "more than one history") {
		o.found.twice++
		return
	}
	if r.code != 0 {
		o.t.Errorf("snapshotd %v: exit code %d\n%s%s", args, r.code, r.stdout, r.stderr)
		return
	}
	got := restoredRevision(o.t, r.stdout)
	if revision > 0 && got != revision {
		o.t.Errorf("snapshotd %v restored revision %d:\n%s", args, got, r.stdout)
	}
	if !at.IsZero() {
		o.checkTime(at, got, r.stdout)
	}
	o.compare(fmt.Sprintf("%v", args[3:]), data, got, r.stdout)
}

var (
	replayedLine = regexp.MustCompile(`(?m)^journal .*, from revision`)
	timeLine     = regexp.MustCompile(`(?m)^time .* between (\d+), which arrived at .*, and (\d+|an unknown one)`)
)

func (o *watched) inGap(revision int64) bool {
	for _, g := range o.window.Window.Gaps {
		if g.AfterRevision < revision && revision < g.BeforeRevision {
			return true
		}
	}
	return false
}

// inTwo reports whether two timelines have a revision: a leader that was stopped goes on for a moment with the one that
// another leader has ended.
func (o *watched) inTwo(revision int64) bool {
	n := 0
	for _, l := range o.window.Window.Timelines {
		if l.Ranges[0].FirstRevision <= revision && revision <= l.last() {
			n++
		}
	}
	return n > 1
}

// checkTime checks that what is restored is of a time: nothing of a later one, and all that had arrived.
func (o *watched) checkTime(at time.Time, got int64, out string) {
	o.t.Helper()
	lower, upper := o.load.bounds(at)
	if !replayedLine.MatchString(out) { // the time of a snapshot is when its save began, and it is read a little later
		_, upper = o.load.bounds(at.Add(settles))
	}
	if got > upper {
		o.t.Errorf("at %s revision %d is restored, and the cluster was at %d at most\n%s", at, got, upper, out)
	}
	if m := timeLine.FindStringSubmatch(out); m != nil {
		if bound, err := strconv.ParseInt(m[2], 10, 64); err == nil {
			o.found.upper++
			if bound < lower {
				o.t.Errorf("at %s the plan says %d at most, and the cluster was at %d\n%s", at, bound, lower, out)
			}
		}
	}
	for _, g := range o.window.Window.Gaps {
		if at.After(g.AfterTime) && at.Before(g.BeforeTime) {
			return
		}
	}
	if arrived, _ := o.load.bounds(at.Add(-2 * time.Second)); o.calm(at.Add(-2*time.Second), at) && got < arrived {
		o.t.Errorf("at %s revision %d is restored, and the cluster was at %d two seconds before, without a fault\n%s", at, got, arrived, out)
	}
}

// compare starts an etcd on what was restored, and compares it with the truth.
func (o *watched) compare(what, data string, revision int64, plan string) {
	o.t.Helper()
	replayed := replayedLine.MatchString(plan)
	e := embedded.StartEtcd(o.t, func(cfg *member.Config) { cfg.Dir = data })
	defer e.Close(o.t)
	auth := authState{revision: e.Server().AuthStore().Revision(), enabled: e.Server().AuthStore().IsAuthEnabled()}
	e.Server().AuthStore().AuthDisable() // what follows asks as nobody
	ttls, keys := e.Leases(o.t)
	got := e.At(o.t, revision)
	want := o.load.truths[revision]
	if want == nil {
		o.t.Errorf("%s: revision %d is restored, which the cluster has not had", what, revision)
		return
	}
	if replayed {
		o.found.replayed++
	}
	if sumKeys(got.Keys) != want.keys {
		o.t.Errorf("%s: the keys of revision %d are others", what, revision)
	}
	hash, known := want.hashes[got.Hash.CompactRevision]
	switch {
	case known && hash != got.Hash.Hash:
		o.t.Errorf("%s: HashKV of revision %d is %d for the compact revision %d, and was %d", what, revision, got.Hash.Hash,
			got.Hash.CompactRevision, hash)
	case known:
		o.found.hashes++
	case o.mayBeOpen(revision):
		o.found.open++
	default:
		o.t.Errorf("%s: revision %d has the compact revision %d; the cluster had %v", what, revision, got.Hash.CompactRevision, want.hashes)
	}
	o.compareAuth(what, revision, plan, auth)
	o.compareLeases(what, revision, replayed, got, ttls, keys)
}

// when is the time at which a revision was there, as far as that is known.
func (o *watched) when(revision int64) time.Time {
	i := slices.IndexFunc(o.load.ops, func(p op) bool { return p.revision >= revision })
	if i < 0 {
		return time.Now()
	}
	return o.load.ops[i].acked
}

// mayBeOpen reports whether a compaction was so shortly before a revision that nobody may have seen it yet.
func (o *watched) mayBeOpen(revision int64) bool {
	at := o.when(revision)
	return slices.ContainsFunc(o.load.compactions, func(c compaction) bool {
		since := at.Sub(c.done)
		return c.revision <= revision && since > -settles && (since < settles || !o.calm(c.done, at) && since < 2*settles)
	})
}

// compareLeases compares the leases that keys name, exactly, and those without keys that were there long before and long
// after, or were not.
func (o *watched) compareLeases(what string, revision int64, replayed bool, got embedded.Moment, ttls map[int64]int64, keys map[int64][]string) {
	o.t.Helper()
	at := o.when(revision)
	for id, names := range got.Leases {
		g := o.load.leases[id]
		ttl, there := ttls[id]
		if g == nil || g.short && !there { // the service's own, or expired since the etcd was started
			continue
		}
		o.found.leases++
		slices.Sort(names)
		switch {
		case !there || !reflect.DeepEqual(names, keys[id]):
			o.t.Errorf("%s: the lease %x of revision %d has the keys %q, want %q", what, id, revision, keys[id], names)
		case ttl == g.ttl:
		case (g.short || !g.ended.IsZero()) && (ttl == assumedTTL || !replayed): // a snapshot alone guesses by the keys
			o.found.estimated++
		default:
			o.t.Errorf("%s: the lease %x of revision %d has %d s, and was granted %d s", what, id, revision, ttl, g.ttl)
		}
	}
	if !replayed || !o.calm(at.Add(-settles), at) {
		return
	}
	for id, g := range o.load.leases {
		_, there := ttls[id]
		switch named := len(got.Leases[id]) > 0; {
		case g.short || named:
		case !there && g.granted.Before(at.Add(-settles)) && (g.ended.IsZero() || g.ended.After(at.Add(settles))):
			o.t.Errorf("%s: the lease %x without keys is missing at revision %d", what, id, revision)
		case there && (g.granted.After(at.Add(settles)) || !g.ended.IsZero() && g.ended.Before(at.Add(-settles))):
			o.t.Errorf("%s: the lease %x is there at revision %d, and was not", what, id, revision)
		}
	}
}
