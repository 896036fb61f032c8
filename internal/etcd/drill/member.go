package drill

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/storage/mvcc"

	"github.com/snapshotd/snapshotd/internal/etcd/datadir"
	"github.com/snapshotd/snapshotd/internal/etcd/member"
)

// timeout bounds the calls to the restored etcd. The restore itself depends on the size, and is not bounded.
const timeout = 2 * time.Minute

// Main is the process with the throw-away etcd. args are the snapshot's file, an empty directory, and the snapshot's
// revision. The result goes to out; an error is the snapshot's fault.
func Main(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 3 {
		return fmt.Errorf("%d arguments were given instead of FILE DIRECTORY REVISION", len(args))
	}
	revision, err := strconv.ParseInt(args[2], 10, 64)
	if err != nil {
		return fmt.Errorf("the revision: %w", err)
	}
	neverSync()
	var r report
	if r.Result, err = run(ctx, args[0], filepath.Join(args[1], "data"), revision); machine(err) {
		r.Machine, err = err.Error(), nil
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(r)
}

// machine reports whether an error is the machine's fault.
func machine(err error) bool {
	for _, errno := range []syscall.Errno{
		syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EACCES, syscall.EPERM,
		syscall.EROFS, syscall.EADDRINUSE,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// run restores, starts and reads the etcd.
func run(ctx context.Context, file, data string, revision int64) (Result, error) {
	info, err := os.Stat(file)
	if err != nil {
		return Result{}, err
	}
	if err := restore(file, data); err != nil {
		return Result{}, fmt.Errorf("restore: %w", err)
	}
	// The database may be larger than the quota that etcd has by default.
	server, err := member.StartSilent(ctx, member.Config{Dir: data, NoFsync: true, Quota: 2*info.Size() + 1<<30})
	if err != nil {
		return Result{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	type answer struct {
		Result
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		res, err := ask(ctx, server.Member(), revision)
		answers <- answer{res, err}
	}()
	select {
	case a := <-answers:
		server.Close()
		return a.Result, a.err
	case err := <-server.Failed(): // it may not stop any more; this process ends anyway
		return Result{}, fmt.Errorf("the restored etcd has ended: %w", err)
	}
}

// restore makes a data directory of the snapshot. The file becomes its database.
func restore(file, data string) error {
	const name, peer = "default", "http://localhost:2380"
	return datadir.Make(snapshot.RestoreConfig{
		SnapshotPath: file, OutputDataDir: data, Name: name, PeerURLs: []string{peer}, InitialCluster: name + "=" + peer,
		InitialClusterToken: "drill",
	})
}

// ask compares nothing: it returns the content of the restored etcd at a revision, after a key was written and read
// back.
//
// The revision of a snapshot is that of its newest record. etcd's is higher when there is none, as in a fresh etcd, and
// when the newest ones were deleted and compacted: no earlier one than the compaction's can be asked for.
func ask(ctx context.Context, s *etcdserver.EtcdServer, revision int64) (Result, error) {
	const first = 1 // of an etcd in which nothing was written
	at := max(revision, s.KV().FirstRev(), first)
	hash, current, err := s.KV().HashStorage().HashByRev(at)
	if err != nil {
		return Result{}, fmt.Errorf("hash the keys at revision %d: %w", at, err)
	}
	all, err := s.KV().Range(ctx, []byte{0}, []byte{}, mvcc.RangeOptions{
		Rev: at, CountOnly: true, WithTotalCount: true,
	})
	if err != nil {
		return Result{}, fmt.Errorf("count the keys at revision %d: %w", at, err)
	}
	disarmed, err := disarm(ctx, s)
	if err != nil {
		return Result{}, err
	}
	if err := use(ctx, s); err != nil {
		return Result{}, err
	}
	return Result{
		HashKV: hash.Hash, HashRevision: at, CompactRevision: hash.CompactRevision, Revision: current,
		TotalKeys: int64(all.Count), Disarmed: disarmed,
	}, nil
}

// disarm ends the alarms that came with the snapshot and returns them: they keep an etcd from writing, and are no fault
// of the snapshot.
func disarm(ctx context.Context, s *etcdserver.EtcdServer) (disarmed []string, err error) {
	alarms, err := s.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_GET})
	if err != nil {
		return nil, fmt.Errorf("read the alarms: %w", err)
	}
	for _, a := range alarms.GetAlarms() {
		off := &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: a.GetMemberID(), Alarm: a.GetAlarm()}
		if _, err := s.Alarm(ctx, off); err != nil {
			return nil, fmt.Errorf("end the alarm %v: %w", a.GetAlarm(), err)
		}
		disarmed = append(disarmed, fmt.Sprintf("%v %016x", a.GetAlarm(), a.GetMemberID()))
	}
	slices.Sort(disarmed)
	return disarmed, nil
}

// use writes a key and reads it back. Users, which may keep a client from that, come with the snapshot and are no fault
// of it.
func use(ctx context.Context, s *etcdserver.EtcdServer) error {
	s.AuthStore().AuthDisable()
	key, value := []byte("snapshotd-drill/"+rand.Text()), []byte(rand.Text())
	if _, err := s.Put(ctx, &pb.PutRequest{Key: key, Value: value}); err != nil {
		return fmt.Errorf("write a key: %w", err)
	}
	got, err := s.Range(ctx, &pb.RangeRequest{Key: key})
	if err != nil {
		return fmt.Errorf("read the key that was written: %w", err)
	}
	if len(got.Kvs) != 1 || !bytes.Equal(got.Kvs[0].Value, value) {
		return errors.New("the key that was read is not the one that was written")
	}
	return nil
}
