package testenv

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/snapshotd/snapshotd/internal/testenv/tempdir"
)

// StartTimeout is how long a server may take to come up, or to go down, on a busy machine.
const StartTimeout = time.Minute

// Cluster is an etcd cluster of processes of its own.
type Cluster struct {
	binary  string
	token   string
	quota   int64
	txnOps  int
	members []*process

	user, password string // of clients
}

type process struct {
	name, dir    string
	client, peer string // URLs
	args         []string
	cmd          *exec.Cmd
	done         chan struct{} // closed when cmd has ended
}

const (
	noFsync = "--unsafe-no-fsync"
	quota   = 16 << 30 // of a database, in bytes
	txnOps  = 128      // etcd's own default
)

// ClusterOption changes how a cluster is started.
type ClusterOption func(*clusterOptions)

type clusterOptions struct {
	tools    string
	fsync    bool
	quota    int64
	ops      int
	progress time.Duration
}

func newClusterOptions(opts []ClusterOption) clusterOptions {
	o := clusterOptions{tools: "servers", quota: quota, ops: txnOps}
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

func (o clusterOptions) binary(tb testing.TB) string {
	tb.Helper()
	return Tool(tb, o.tools, "go.etcd.io/etcd/server/v3")
}

// OlderReleases are the releases of etcd that a cluster can have besides the one that the service is built with.
var OlderReleases = []string{"3.5", "3.6"}

// Release starts members of one of the [OlderReleases].
func Release(r string) ClusterOption {
	return func(o *clusterOptions) { o.tools = "etcd" + strings.ReplaceAll(r, ".", "") }
}

// Fsync lets members fsync, as they do where their data count.
func Fsync() ClusterOption { return func(o *clusterOptions) { o.fsync = true } }

// Quota bounds the databases of the members, in bytes.
func Quota(n int64) ClusterOption { return func(o *clusterOptions) { o.quota = n } }

// TransactionOps lets a transaction have so many operations.
func TransactionOps(n int) ClusterOption { return func(o *clusterOptions) { o.ops = n } }

// Progress is how often members report their revision on a watch without events; etcd's default is ten minutes.
func Progress(every time.Duration) ClusterOption {
	return func(o *clusterOptions) { o.progress = every }
}

// StartCluster starts n members that end with the test, and waits until they have a leader.
func StartCluster(tb testing.TB, n int, opts ...ClusterOption) *Cluster {
	tb.Helper()
	o := newClusterOptions(opts)
	c := &Cluster{binary: o.binary(tb), token: tb.Name(), quota: o.quota, txnOps: o.ops}
	var initial []string
	for i := range n {
		p := c.newProcess(tb, fmt.Sprintf("member-%d", i))
		initial = append(initial, p.name+"="+p.peer)
	}
	for _, p := range c.members {
		p.args = append(p.args, "--initial-cluster", strings.Join(initial, ","), "--initial-cluster-token", c.token)
		if o.fsync {
			p.args = slices.DeleteFunc(p.args, func(a string) bool { return a == noFsync })
		}
		if o.progress > 0 {
			p.args = append(p.args, "--watch-progress-notify-interval", o.progress.String())
		}
		p.start(tb, c.binary)
	}
	c.WaitHealthy(tb)
	return c
}

// StartRestored starts a member on a data directory that was restored.
func StartRestored(tb testing.TB, dir string, opts ...ClusterOption) *Cluster {
	tb.Helper()
	o := newClusterOptions(opts)
	c := &Cluster{binary: o.binary(tb), quota: o.quota, txnOps: o.ops}
	p := c.newProcess(tb, "default")
	p.dir = dir
	p.start(tb, c.binary)
	c.WaitHealthy(tb)
	return c
}

func (c *Cluster) newProcess(tb testing.TB, name string) *process {
	tb.Helper()
	p := &process{name: name, dir: filepath.Join(tempdir.OnDisk(tb), name), client: freeURL(tb), peer: freeURL(tb)}
	p.args = []string{
		"--name", name,
		"--listen-client-urls", p.client, "--advertise-client-urls", p.client,
		"--listen-peer-urls", p.peer, "--initial-advertise-peer-urls", p.peer,
		"--quota-backend-bytes", strconv.FormatInt(c.quota, 10), "--max-txn-ops", strconv.Itoa(c.txnOps),
		noFsync, "--log-level", "error",
	}
	c.members = append(c.members, p)
	tb.Cleanup(p.kill)
	return p
}

func (p *process) start(tb testing.TB, binary string) {
	tb.Helper()
	log, err := os.OpenFile(p.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		tb.Fatal(err)
	}
	p.cmd = exec.Command(binary, append(p.args, "--data-dir", p.dir)...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	dieWithParent(p.cmd)
	if err := p.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	p.done = make(chan struct{})
	cmd, done := p.cmd, p.done
	go func() {
		defer close(done)
		_ = cmd.Wait()
		_ = log.Close()
	}()
}

func (p *process) log() string { return p.dir + ".log" }

// kill ends the process at once, if it runs, and waits until it is gone.
func (p *process) kill() {
	if p.done == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	<-p.done
}

// WaitHealthy waits until the cluster takes a write, and each member that runs knows the leader.
func (c *Cluster) WaitHealthy(tb testing.TB) {
	tb.Helper()
	c.Eventually(tb, "the cluster is healthy", func(ctx context.Context) error {
		for _, p := range c.members {
			select {
			case <-p.done:
				out, _ := os.ReadFile(p.log())
				tb.Fatalf("%s has ended\n%s", p.name, out)
			default:
			}
			client, err := c.connect(p.client)
			if err != nil {
				return err
			}
			defer func() { _ = client.Close() }()
			if _, err := client.Get(ctx, "health"); err != nil {
				return err
			}
		}
		return nil
	})
}

// Eventually waits until check succeeds; it is tried again and again, each time with a deadline.
func (c *Cluster) Eventually(tb testing.TB, what string, check func(ctx context.Context) error) {
	tb.Helper()
	eventually(tb, what, check)
}

func eventually(tb testing.TB, what string, check func(ctx context.Context) error) {
	tb.Helper()
	end := time.Now().Add(StartTimeout)
	for {
		ctx, cancel := context.WithTimeout(tb.Context(), 5*time.Second)
		err := check(ctx)
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(end) || tb.Context().Err() != nil {
			tb.Fatalf("waiting until %s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Endpoints returns the client URLs of all members.
func (c *Cluster) Endpoints() []string {
	urls := make([]string, len(c.members))
	for i, p := range c.members {
		urls[i] = p.client
	}
	return urls
}

// Client returns a client that ends with the test.
func (c *Cluster) Client(tb testing.TB) *clientv3.Client {
	tb.Helper()
	return newClient(tb, c, c.Endpoints())
}

// NewClient returns a client that ends with the test.
func NewClient(tb testing.TB, endpoints []string) *clientv3.Client {
	tb.Helper()
	return newClient(tb, &Cluster{}, endpoints)
}

// LogIn makes the clients of the cluster log in as a user from now on, while authentication is on.
func (c *Cluster) LogIn(user, password string) { c.user, c.password = user, password }

// connect returns a client of the cluster's user.
func (c *Cluster) connect(endpoints ...string) (*clientv3.Client, error) {
	cfg := clientv3.Config{Endpoints: endpoints, Username: c.user, Password: c.password, Logger: zap.NewNop()}
	if c.user != "" {
		cfg.DialTimeout = 5 * time.Second // it logs in at once
	}
	return clientv3.New(cfg)
}

func newClient(tb testing.TB, c *Cluster, endpoints []string) *clientv3.Client {
	tb.Helper()
	client, err := c.connect(endpoints...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

// ClientOf returns a client of one member, which ends with the test.
func (c *Cluster) ClientOf(tb testing.TB, i int) *clientv3.Client {
	tb.Helper()
	return newClient(tb, c, []string{c.members[i].client})
}

// Status asks one member how it is.
func (c *Cluster) Status(tb testing.TB, i int) (st *clientv3.StatusResponse) {
	tb.Helper()
	client := c.Client(tb)
	c.Eventually(tb, c.members[i].name+" says how it is", func(ctx context.Context) (err error) {
		st, err = client.Status(ctx, c.members[i].client)
		return err
	})
	return st
}

// Leader returns the index of the leader among those members of which alive is true; all when it is nil.
func (c *Cluster) Leader(tb testing.TB, alive func(i int) bool) (leader int) {
	tb.Helper()
	client := c.Client(tb)
	c.Eventually(tb, "there is a leader", func(ctx context.Context) error {
		for i, p := range c.members {
			if alive != nil && !alive(i) {
				continue
			}
			st, err := client.Status(ctx, p.client)
			if err == nil && st.Leader == st.Header.MemberId {
				leader = i
				return nil
			}
		}
		return fmt.Errorf("no member leads")
	})
	return leader
}

// DataDir returns where a member keeps its data.
func (c *Cluster) DataDir(i int) string { return c.members[i].dir }

// Initial returns all members as --initial-cluster has them: name=peer URL.
func (c *Cluster) Initial() []string {
	var all []string
	for _, p := range c.members {
		all = append(all, p.name+"="+p.peer)
	}
	return all
}

// Kill ends a member at once.
func (c *Cluster) Kill(i int) { c.members[i].kill() }

// Stop freezes a member: its connections stay open, and it answers nothing.
func (c *Cluster) Stop(tb testing.TB, i int) {
	tb.Helper()
	c.signal(tb, i, syscall.SIGSTOP)
	c.Eventually(tb, "the member is frozen", func(context.Context) error { // it runs on until its turn on a busy machine
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.members[i].cmd.Process.Pid))
		if _, state, _ := strings.Cut(string(stat), ") "); err == nil && !strings.HasPrefix(state, "T") {
			return fmt.Errorf("its state is %.1s", state)
		}
		return nil // or there is no /proc here
	})
}

// Cont ends a Stop.
func (c *Cluster) Cont(tb testing.TB, i int) {
	tb.Helper()
	c.signal(tb, i, syscall.SIGCONT)
}

func (c *Cluster) signal(tb testing.TB, i int, sig syscall.Signal) {
	tb.Helper()
	if err := c.members[i].cmd.Process.Signal(sig); err != nil {
		tb.Fatal(err)
	}
}

// Restart starts a member that was killed, with its data and addresses.
func (c *Cluster) Restart(tb testing.TB, i int) {
	tb.Helper()
	c.members[i].start(tb, c.binary)
}

// AddLearner adds a learner and returns its index once it answers.
func (c *Cluster) AddLearner(tb testing.TB) int {
	tb.Helper()
	client := c.Client(tb)
	p := c.newProcess(tb, fmt.Sprintf("member-%d", len(c.members)))
	var all []*etcdserverpb.Member
	c.Eventually(tb, "a learner is added", func(ctx context.Context) error {
		resp, err := client.MemberAddAsLearner(ctx, []string{p.peer})
		if err == nil {
			all = resp.Members
		}
		return err
	})
	var initial []string
	for _, m := range all {
		name := m.Name
		if name == "" {
			name = p.name
		}
		initial = append(initial, name+"="+m.PeerURLs[0])
	}
	p.args = append(p.args, "--initial-cluster", strings.Join(initial, ","), "--initial-cluster-state", "existing",
		"--initial-cluster-token", c.token)
	p.start(tb, c.binary)
	i := len(c.members) - 1
	c.Eventually(tb, "the learner answers", func(ctx context.Context) error {
		_, err := client.Status(ctx, p.client)
		return err
	})
	return i
}
