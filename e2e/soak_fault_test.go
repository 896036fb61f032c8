//go:build e2e

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// fault is a fault, or a way in which some stores are odd, during one round. begin returns the function that ends it;
// etcd and killed say which may be missing then: the catalog, or the answer. denied says that the bucket refuses the
// service from before the round on.
type fault struct {
	name                 string
	etcd, killed, denied bool
	harmless             bool // a save must succeed
	begin                func(k *soak) (end func())
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
	{name: "wrong credentials", denied: true, begin: (*soak).wrongCredentials},
	{name: "wrong credentials half-way", begin: (*soak).wrongCredentialsLater},
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

// oddStores are S3 servers that answer as some do that are not AWS: invalidly, or without a feature.
var oddStores = slices.Concat(oddly("answers", testenv.S3Quirks, false), oddly("lacks", testenv.S3Lacks, true))

func oddly(how string, quirks []testenv.S3Quirk, harmless bool) (all []fault) {
	for _, q := range quirks {
		f := s3Fault(how+" "+q.Name, func(*soak) testenv.HTTPFault { return q.Fault })
		f.harmless = harmless
		all = append(all, f)
	}
	return all
}

// pick returns the fault of a round: one time of three, the store is odd.
func (k *soak) pick() fault {
	faults := soakFaults
	if k.chance.IntN(3) == 0 {
		faults = oddStores
	}
	return faults[k.chance.IntN(len(faults))]
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
			_, err := api.Alarm(ctx, &etcdserverpb.AlarmRequest{
				Action: action, MemberID: member, Alarm: etcdserverpb.AlarmType_NOSPACE,
			})
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
