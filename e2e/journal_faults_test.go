//go:build e2e

package e2e

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// pause waits for a random time: when things happen is a part of what is tried.
func (o *watched) pause(least, most int64) {
	time.Sleep(time.Duration(least+o.chance.Int64N(most-least)) * time.Millisecond)
}

// oracleFault is something that happens to a cluster, its service or its backends.
type oracleFault struct {
	name  string
	of3   bool // it needs three members
	once  bool // it happens to a cluster once at most
	quiet bool // it is no excuse for anything
	apply func(o *watched)
}

var oracleFaults = []oracleFault{
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
	{name: "two of three members are stopped", of3: true, apply: func(o *watched) {
		i := o.chance.IntN(o.members)
		two := []int{i, (i + 1) % o.members}
		for _, i := range two {
			o.etcd.Stop(o.t, i)
		}
		o.pause(500, 6000)
		for _, i := range two {
			o.etcd.Cont(o.t, i)
		}
		o.healthy()
	}},
	{name: "a member is defragmented", apply: func(o *watched) {
		ctx, cancel := contextFor(o.t, waitTimeout)
		defer cancel()
		if _, err := o.client.Defragment(ctx, o.etcd.Endpoints()[o.chance.IntN(o.members)]); err != nil {
			o.wrong("defragment: %v", err)
		}
	}},
	{name: "another member leads", of3: true, apply: func(o *watched) {
		leader := o.etcd.Leader(o.t, nil)
		to := o.etcd.Status(o.t, (leader+1+o.chance.IntN(2))%3).Header.MemberId
		ctx, cancel := contextFor(o.t, answerTimeout)
		defer cancel()
		_, _ = o.etcd.ClientOf(o.t, leader).MoveLeader(ctx, to) // it may have lost the leadership meanwhile
	}},
	{name: "etcd compacts while the service is away", apply: (*watched).compactPast},
	{name: "etcd is restored to a snapshot", once: true, apply: (*watched).goBack},
	{name: "a segment in the directory is spoilt", quiet: true, apply: (*watched).spoil},
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

// fault applies the next fault. All come once, in an order of their own for each cluster, before one comes again.
func (o *watched) fault() {
	if len(o.deck) == 0 {
		o.deck = slices.Clone(oracleFaults)
		o.chance.Shuffle(len(o.deck), func(i, j int) { o.deck[i], o.deck[j] = o.deck[j], o.deck[i] })
	}
	f := o.deck[0]
	o.deck = o.deck[1:]
	before := slices.ContainsFunc(o.troubles, func(t trouble) bool { return t.name == f.name })
	if f.of3 && o.members < 3 || f.once && before {
		return
	}
	tr := trouble{name: f.name, from: time.Now()}
	o.doing = f.name
	o.t.Logf("%s: %s", tr.from.UTC().Format(time.TimeOnly), f.name)
	f.apply(o)
	tr.to = time.Now()
	tr.quiet = f.quiet
	o.troubles = append(o.troubles, tr)
}

// compactPast makes etcd forget what the service has not seen.
func (o *watched) compactPast() {
	o.t.Helper()
	o.serve.kill()
	o.pause(500, 2500)
	o.load.turn.Lock()
	o.allKnown()
	revision := o.load.sampled
	o.etcd.Eventually(o.t, "etcd compacts", func(ctx context.Context) error { return o.load.compactTo(ctx, revision) })
	o.load.keeps = time.Now().Add(2 * settles) // the snapshot behind the gap comes meanwhile
	o.load.turn.Unlock()
	o.serve = start(o.t, o.options(), "--config", o.file)
}

var restoredName = regexp.MustCompile(`(?m)^snapshot +(\S+-(\d{10})[^\s,]*)`)

// goBack restores etcd to its newest snapshot, with the cluster id that it had, and waits until the journal goes on with
// the second history. The service, which may have logged in before, goes on. Nothing is compacted until then: of an etcd
// that has compacted what the journal would compare, the journal says just that.
func (o *watched) goBack() {
	o.t.Helper()
	o.load.turn.Lock()
	o.etcd.Eventually(o.t, "no lease expires", o.load.endShort)
	for last := int64(0); last < o.load.sampled; { // the service changes etcd, too
		last = o.load.sampled
		o.allKnown()
	}
	o.back = comeback{base: "latest", last: o.load.sampled, from: time.Now()}
	for i := range o.members {
		o.etcd.Kill(i)
	}
	var revision int64
	var taken time.Time
	for i, initial := range o.etcd.Initial() {
		if err := os.RemoveAll(o.etcd.DataDir(i)); err != nil {
			o.t.Fatal(err)
		}
		name, peer, _ := strings.Cut(initial, "=")
		out := o.must(o.t, program(o.t, ""), "restore", o.back.base, "--from", o.s3URL(""), "--data-dir", o.etcd.DataDir(i), "--name", name,
			"--initial-cluster", strings.Join(o.etcd.Initial(), ","), "--initial-advertise-peer-urls", peer, "--initial-cluster-token", o.t.Name())
		found := restoredName.FindStringSubmatch(out)
		if found == nil {
			o.t.Fatalf("the restore names no snapshot\n%s", out)
		}
		seconds, _ := strconv.ParseInt(found[2], 10, 64)
		o.back.base, revision, taken = found[1], restoredRevision(o.t, out), time.Unix(seconds, 0)
	}
	for i := range o.members {
		o.etcd.Restart(o.t, i)
	}
	o.etcd.WaitHealthy(o.t)
	o.client = o.etcd.Client(o.t)
	o.load.client = o.client
	o.healthy()
	o.load.goesBack(revision, taken)
	o.changed(o.back.from)
	o.load.keeps = time.Now().Add(2 * waitTimeout)
	o.load.turn.Unlock()
	o.doing = "the journal goes on with the second history"
	eventually(o.t, "the journal goes on with the second history, and has its snapshot", func() bool {
		var w window
		r := o.serve.run("window", "-o", "json")
		if r.stdout == "" { // the service may not have found the etcd again
			return false
		}
		decode(o.t, r.stdout, &w)
		of := func(l timeline) bool {
			return strings.HasPrefix(l.Reason, "restored") || strings.HasPrefix(l.Reason, "different")
		}
		line := w.timeline("")
		return slices.ContainsFunc(w.Window.Timelines, of) && len(line.Ranges) > 0 && line.Ranges[0].RestorableFromRevision > 0
	})
	o.load.turn.Lock()
	o.load.keeps = time.Time{}
	o.load.turn.Unlock()
	o.doing = "reconcile after " + o.doing
	eventually(o.t, "the catalog, which is of the past, has all snapshots", func() bool { return o.serve.run("reconcile").code == 0 })
	o.back.to = time.Now()
}

// spoil tears a segment in the directory, removes it, or exchanges it with another one.
func (o *watched) spoil() {
	o.t.Helper()
	all := slices.DeleteFunc(o.files(o.t), func(f string) bool { return !strings.HasSuffix(f, ".seg") })
	if len(all) < 2 {
		return
	}
	o.chance.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	one, other := all[0], all[1]
	name := func(path string) string { return strings.TrimSuffix(filepath.Base(path), ".seg") }
	o.spoilt = append(o.spoilt, name(one))
	var err error
	switch o.chance.IntN(3) {
	case 0:
		err = os.Truncate(one, 50)
	case 1:
		err = errors.Join(os.Remove(one), os.Remove(strings.TrimSuffix(one, ".seg")+".json"))
	default:
		o.spoilt = append(o.spoilt, name(other))
		err = errors.Join(os.Rename(one, one+".tmp"), os.Rename(other, one), os.Rename(one+".tmp", other))
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) { // it may just have been merged with others
		o.wrong("spoil a segment: %v", err)
	}
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
