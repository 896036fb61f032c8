package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/snapshot"
)

// maxLag is how many entries of the raft log a follower may be behind before the leader is preferred to it.
const maxLag = 1000

// member is the answer of one endpoint.
type member struct {
	endpoint endpoint
	conn     *grpc.ClientConn // nil when it could not be made
	status   *etcdserverpb.StatusResponse
	err      error // why its snapshot is not taken
}

// errUnfit: the member answers, and its snapshot is not taken.
type errUnfit string

func (e errUnfit) Error() string { return string(e) }

// ask asks all endpoints for their status side by side, each within the timeout of the source.
func (s *Source) ask(ctx context.Context, eps []endpoint) memberList {
	members := make(memberList, len(eps))
	var wg sync.WaitGroup
	for i, ep := range eps {
		members[i] = &member{endpoint: ep}
		wg.Go(func() { s.askMember(ctx, members[i]) })
	}
	wg.Wait()
	return members
}

func (s *Source) askMember(ctx context.Context, m *member) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.StatusTimeout)
	defer cancel()
	if m.conn, m.err = s.conn.dialMember(m.endpoint); m.err != nil {
		return
	}
	m.err = s.conn.authorized(ctx, m.conn, func(ctx context.Context) (err error) {
		m.status, err = etcdserverpb.NewMaintenanceClient(m.conn).Status(ctx, &etcdserverpb.StatusRequest{})
		return err
	})
	if m.err == nil {
		m.err = unfit(m.status)
	}
}

// unfit returns why the snapshot of a member that answers is not taken. A member without a leader is good enough when
// there is no better one, and so is one whose quota is used up.
func unfit(st *etcdserverpb.StatusResponse) error {
	if st.GetIsLearner() {
		return errUnfit("it is a learner")
	}
	for _, e := range st.GetErrors() {
		kind, id, isAlarm := parseAlarm(e)
		switch {
		case e == rpctypes.ErrNoLeader.Error(), isAlarm && kind == etcdserverpb.AlarmType_NOSPACE.String():
		case isAlarm && id != 0 && id != st.GetHeader().GetMemberId(): // of another member
		case isAlarm && kind == etcdserverpb.AlarmType_CORRUPT.String():
			return errUnfit("its data is corrupt (alarm CORRUPT)")
		default:
			return errUnfit("it reports " + strings.Join(strings.Fields(e), " "))
		}
	}
	return nil
}

// A status has alarms as protobuf's text, with one space or two: "memberID:7  alarm:CORRUPT". An id of 0, for the whole
// cluster, is left out.
var (
	alarmKind   = regexp.MustCompile(`\balarm:\s*([A-Z]+)`)
	alarmMember = regexp.MustCompile(`\bmemberID:\s*([0-9]+)`)
)

func parseAlarm(s string) (kind string, id uint64, ok bool) {
	k := alarmKind.FindStringSubmatch(s)
	if k == nil {
		return "", 0, false
	}
	if m := alarmMember.FindStringSubmatch(s); m != nil {
		id, _ = strconv.ParseUint(m[1], 10, 64)
	}
	return k[1], id, true
}

// rank returns the usable members in the order in which they are tried: followers that keep up, the leader, followers
// that lag behind, members without a leader; within each of these, the most recent first.
func rank(members []*member) []*member {
	usable := slices.DeleteFunc(slices.Clone(members), func(m *member) bool { return m.err != nil })
	var newest uint64
	for _, m := range usable {
		newest = max(newest, m.status.GetRaftAppliedIndex())
	}
	class := func(m *member) int {
		switch {
		case m.status.GetLeader() == 0:
			return 3
		case m.leads():
			return 1
		case m.status.GetRaftAppliedIndex()+maxLag < newest:
			return 2
		default:
			return 0
		}
	}
	slices.SortStableFunc(usable, func(a, b *member) int {
		return cmp.Or(class(a)-class(b), cmp.Compare(b.status.GetRaftAppliedIndex(), a.status.GetRaftAppliedIndex()))
	})
	return usable
}

// oneCluster returns an error when the members belong to different clusters: which one to save is not known then.
func oneCluster(members []*member) error {
	for _, m := range members {
		if a, b := members[0], m; a.clusterID() != b.clusterID() {
			return fmt.Errorf("%s is of cluster %s and %s of cluster %s",
				a.endpoint.url, a.clusterID(), b.endpoint.url, b.clusterID())
		}
	}
	return nil
}

func (m *member) leads() bool { return m.status.GetLeader() == m.status.GetHeader().GetMemberId() }

func (m *member) clusterID() string { return hexID(m.status.GetHeader().GetClusterId()) }

func (m *member) close() {
	if m.conn != nil {
		_ = m.conn.Close()
	}
}

// memberList are members that were asked.
type memberList []*member

func (all memberList) close() {
	for _, m := range all {
		m.close()
	}
}

// describe returns the member as the domain knows it.
func (m *member) describe() cluster.Member {
	return cluster.Member{
		ClusterID: m.clusterID(), MemberID: hexID(m.status.GetHeader().GetMemberId()), Endpoint: m.endpoint.url,
		Version: bounded(m.status.GetVersion()), StorageVersion: bounded(m.status.GetStorageVersion()), Leader: m.leads(),
	}
}

// bounded returns a version of bounded length: it becomes part of records and manifests, which have limits.
func bounded(version string) string {
	return strings.ToValidUTF8(version[:min(len(version), maxVersion)], "")
}

// maxVersion is the length of a version, at most.
const maxVersion = 100

func hexID(id uint64) string { return fmt.Sprintf("%016x", id) }

// noMember is the error that no member could be read, with the reason for each endpoint.
func (c *Conn) noMember(members []*member) error {
	var why []string
	hint := ""
	for _, m := range members {
		why = append(why, m.endpoint.url+": "+c.why(m.err))
		hint = cmp.Or(hint, c.hint(m.err))
	}
	return snapshot.ReasonEtcdUnavailable.New("no member of etcd can be read").
		Because(errors.New(strings.Join(why, "; "))).
		Advise("%s", cmp.Or(hint, "etcdctl endpoint status shows the state of the members"))
}
