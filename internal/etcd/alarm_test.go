package etcd_test

import (
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
)

// How alarms change the choice, as a real member reports them.
func TestAlarms(t *testing.T) {
	t.Parallel()
	server := embedded.StartEtcd(t)
	client := server.Client(t)
	st, err := client.Status(t.Context(), server.Endpoints()[0])
	must(t, err)
	raise := func(alarm etcdserverpb.AlarmType, member uint64) {
		t.Helper()
		_, err := etcdserverpb.NewMaintenanceClient(client.ActiveConnection()).Alarm(t.Context(),
			&etcdserverpb.AlarmRequest{Action: etcdserverpb.AlarmRequest_ACTIVATE, Alarm: alarm, MemberID: member})
		must(t, err)
	}
	source := newSource(t, server.Endpoints()...)

	raise(etcdserverpb.AlarmType_NOSPACE, st.Header.MemberId)
	mustRead(t, source) // all the more reason for a snapshot
	raise(etcdserverpb.AlarmType_CORRUPT, st.Header.MemberId+1)
	mustRead(t, source) // it is another member's data that is corrupt

	raise(etcdserverpb.AlarmType_CORRUPT, st.Header.MemberId)
	_, err = source.Snapshot(t.Context())
	wantUnavailable(t, err, server.Endpoints()[0]+": its data is corrupt (alarm CORRUPT)")
}

// When etcd cannot tell which member is wrong, it accuses the whole cluster: the member 0.
func TestCorruptClusterIsNotRead(t *testing.T) {
	t.Parallel()
	server := embedded.StartEtcd(t)
	client := server.Client(t)
	_, err := etcdserverpb.NewMaintenanceClient(client.ActiveConnection()).Alarm(t.Context(),
		&etcdserverpb.AlarmRequest{Action: etcdserverpb.AlarmRequest_ACTIVATE, Alarm: etcdserverpb.AlarmType_CORRUPT})
	must(t, err)
	_, err = newSource(t, server.Endpoints()...).Snapshot(t.Context())
	wantUnavailable(t, err, "its data is corrupt")
}
