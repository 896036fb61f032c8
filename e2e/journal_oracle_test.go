//go:build e2e

package e2e

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

const (
	loadTime = 40 * time.Second
	// settles is how long after a fault, or after a compaction or a change of a lease, the journal may not have seen it.
	settles = 6 * time.Second
	// assumedTTL is that of leases which ended before etcd was asked for it: the default of --ended-lease-ttl.
	assumedTTL = 3600
)

// TestJournalOracle changes clusters at random, of one and of three members, of this and of an older release of etcd, while
// they, the service that follows them and its backends have faults. Then revisions and times are restored from the backends
// with `snapshotd restore`, and compared with what the cluster was: HashKV with its compact revision, all keys, leases.
//
// It takes another seed until SNAPSHOTD_ORACLE_SECONDS are over (120 by default), as many at once as -parallel says, each
// with SNAPSHOTD_ORACLE_TARGETS revisions and times (24). SNAPSHOTD_ORACLE_SEED is the first seed: it fixes the cluster and
// what is done, though not when.
func TestJournalOracle(t *testing.T) {
	for _, variable := range testenv.S3Env() {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
	program(t, "")
	first := envInt(t, "SNAPSHOTD_ORACLE_SEED", time.Now().Unix()%1_000_000)
	targets := int(envInt(t, "SNAPSHOTD_ORACLE_TARGETS", 24))
	end := time.Now().Add(time.Duration(envInt(t, "SNAPSHOTD_ORACLE_SECONDS", 120)) * time.Second)
	var next atomic.Int64
	var all verdict
	var adding sync.Mutex
	t.Run("seeds", func(t *testing.T) {
		for lane := range flag.Lookup("test.parallel").Value.(flag.Getter).Get().(int) {
			t.Run(fmt.Sprint("lane ", lane), func(t *testing.T) {
				t.Parallel()
				for begun := false; !begun || time.Now().Before(end) && !t.Failed(); begun = true {
					found := tryOracle(t, uint64(first+next.Add(1)-1), targets)
					adding.Lock()
					all.add(found)
					adding.Unlock()
				}
			})
		}
	})
	t.Logf("in all: %s", all)
}

// tryOracle tries one seed. The seed says how many members the cluster has, and of which release they are.
func tryOracle(t *testing.T, seed uint64, targets int) (found verdict) {
	members, release := 1, "3.7"
	opts := []testenv.ClusterOption{testenv.TransactionOps(widestTransaction)}
	if seed%2 == 0 {
		members = 3
	}
	if seed%3 == 0 {
		release, opts = "3.6", append(opts, testenv.Release("3.6"))
	}
	t.Run(fmt.Sprintf("seed %d, members %d, etcd %s", seed, members, release), func(t *testing.T) {
		o := newWatched(t, seed, members, opts...)
		defer func() {
			if found = o.found; t.Failed() {
				found.failed = fmt.Sprintf("\nseed %d failed, at last in %q: %s", seed, o.doing, o.wrongs)
			}
		}()
		o.change()
		for i := range targets {
			o.check(i)
		}
		t.Log(o.found)
		compared := targets - o.found.refused - o.found.twice - o.found.damaged
		if compared < targets/4 || o.found.replayed < compared/4 || o.found.hashes < compared/2 {
			o.wrong("too little was compared: %s", o.found)
		}
	})
	return found
}

// verdict counts what was compared.
type verdict struct {
	seeds, targets int
	refused        int    // in a gap of the journal, as the window said
	twice          int    // of two histories, or in two timelines as the window said, so that the number alone is refused
	damaged        int    // from the directory alone, in which segments were spoilt, and these were named
	replayed       int    // the journal was needed
	hashes         int    // HashKV was the same, for the same compact revision
	open           int    // whether a compaction had run was not known: the keys were the same
	estimated      int    // leases whose time to live was lost
	leases         int    // that keys named
	upper          int    // times with a revision that the cluster cannot have passed
	secured        int    // restored with authentication on
	behind         int    // users or roles had changed since the snapshot, the plan said
	failed         string // where seeds failed, and the beginnings of what they found
}

func (v *verdict) add(w verdict) {
	v.seeds++
	v.targets += w.targets
	v.refused += w.refused
	v.twice += w.twice
	v.damaged += w.damaged
	v.replayed += w.replayed
	v.hashes += w.hashes
	v.open += w.open
	v.estimated += w.estimated
	v.leases += w.leases
	v.upper += w.upper
	v.secured += w.secured
	v.behind += w.behind
	v.failed += w.failed
}

func (v verdict) String() string {
	return fmt.Sprintf("%d seeds, %d targets, %d of them in gaps and refused, %d in two timelines and refused, %d refused for segments that were "+
		"spoilt; %d by the journal; %d with the same HashKV for the same compaction, %d with the same keys while the compaction was not known; "+
		"%d leases, %d of them with an estimated time to live; %d times with an upper bound; %d with authentication on, %d with users or roles "+
		"that had changed since the snapshot%s", v.seeds, v.targets, v.refused, v.twice, v.damaged, v.replayed, v.hashes, v.open, v.leases,
		v.estimated, v.upper, v.secured, v.behind, v.failed)
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
	other    string        // the configuration of another replica; empty while there was none
	otherDir string        // its data directory
	deck     []oracleFault // that come next
	troubles []trouble
	back     comeback // zero when the cluster has one history
	spoilt   []string // segments in the directory, by their names
	auth     []authState
	begin    time.Time // of what can be restored
	last     int64     // the newest revision that all backends have
	window   window
	found    verdict
	doing    string   // a fault or a target
	wrongs   []string // the beginnings of what was found to be wrong
}

// wrong reports something that is not as it must be. Its beginning is told again with the verdict on all seeds: between
// them are the logs of services.
func (o *watched) wrong(format string, args ...any) {
	o.t.Helper()
	text := fmt.Sprintf(format, args...)
	o.wrongs = append(o.wrongs, fmt.Sprintf("%.300s", text))
	o.t.Error(text)
}

// trouble is a fault, and the time that it lasted.
type trouble struct {
	name     string
	from, to time.Time
	quiet    bool
}

// comeback is how a cluster came to have two histories: it was restored to an earlier snapshot, and went on.
type comeback struct {
	base     string // the snapshot
	last     int64  // of the first history
	from, to time.Time
}

func newWatched(t *testing.T, seed uint64, members int, opts ...testenv.ClusterOption) *watched {
	t.Helper()
	w := &world{etcd: testenv.StartCluster(t, members, opts...), s3: testenv.StartS3(t), dir: t.TempDir(), bucket: "snapshots"}
	w.s3.MakeBucket(w.bucket)
	o := &watched{world: w, t: t, doing: "the start", members: members, chance: rand.New(rand.NewPCG(seed, 7)), found: verdict{seeds: 1}}
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
	enough := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { o.load.run(o.t.Context(), enough) })
	for end := time.Now().Add(loadTime); time.Now().Before(end); {
		o.pause(1500, 3500)
		o.fault()
	}
	close(enough)
	running.Wait()
	o.allKnown()
	o.otherStores()
	end := time.Now()
	o.last = o.load.sampled
	eventually(o.t, "all is on the backends", func() bool {
		complete := true
		for _, b := range backends {
			asked := time.Now()
			age, ok := o.serve.rpo(b)
			complete = complete && ok && asked.Add(-age).After(end)
		}
		o.window = o.serve.window()
		return complete && o.window.timeline("").last() >= o.last
	})
	o.serve.kill()
	o.allKnown() // its last snapshot holds what the service has changed since
	o.t.Logf("%d revisions, %d compactions, %d leases, %d timelines, %d gaps; faults: %s; requests that failed: %d", o.load.sampled,
		len(o.load.compactions), len(o.load.leases), len(o.window.Window.Timelines), len(o.window.Window.Gaps), o.faults(), o.load.failed)
	o.checkGaps()
}

// allKnown waits until the truth of all revisions is known.
func (o *watched) allKnown() {
	o.t.Helper()
	eventually(o.t, "the truth of all revisions is known", func() bool { return o.load.sample(o.t.Context()) == nil })
}

func (o *watched) faults() string {
	count := map[string]int{}
	for _, f := range o.troubles {
		count[f.name]++
	}
	return fmt.Sprint(count)
}
