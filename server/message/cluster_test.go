package message_test

import (
	"slices"
	"testing"
	"time"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server/message"
	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

// A save has not failed because what it has stored was found damaged later: whoever looks would search etcd and the
// network.
func TestTheLastSaveIsToldAsItEndedAndTheDamageApart(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ready, failed := snapshotdv1.Snapshot_STATE_READY, snapshotdv1.Snapshot_STATE_FAILED
	for name, c := range map[string]struct {
		damaged []string
		saved   snapshotdv1.Snapshot_State // on s3
		all     snapshotdv1.Snapshot_State
	}{
		"damaged since": {[]string{"s3"}, ready, ready},
		"not stored":    {nil, failed, snapshotdv1.Snapshot_STATE_PARTIAL},
	} {
		t.Run(name, func(t *testing.T) {
			rec := snapshot.WithBookkeeping(snapshot.WithStatus(
				snapshot.Snapshot{
					Name: "a", CreateTime: now.Add(-time.Hour), Trigger: snapshot.TriggerScheduled, Schedule: "hourly",
				},
				snapshot.Status{State: snapshot.StatePartial, Locations: []snapshot.Location{
					{Backend: "local", State: snapshot.StateReady},
					{Backend: "s3", State: snapshot.StateFailed, Error: "why"},
				}}), snapshot.Bookkeeping{Damaged: c.damaged})
			m := message.Cluster(status.Judge(status.Known{
				Name: "prod", Now: now, Records: []*snapshot.Record{rec}, All: true,
				Places: []status.Place{{Name: "local"}, {Name: "s3"}},
				Schedules: []status.Schedule{
					{Name: "hourly", Next: func(after time.Time) time.Time { return after.Add(time.Hour) }},
				},
			}))
			if got := m.GetLastSave().GetState(); got != snapshotdv1.Snapshot_STATE_PARTIAL {
				t.Errorf("the snapshot is %s", got)
			}
			got := []snapshotdv1.Snapshot_State{
				m.GetLastSaveState(), m.GetSchedules()[0].GetLastState(), m.GetBackends()[0].GetLastState(), m.GetBackends()[1].GetLastState(),
			}
			if !slices.Equal(got, []snapshotdv1.Snapshot_State{c.all, c.all, ready, c.saved}) || m.GetBackends()[1].GetLastError() != "why" {
				t.Errorf("the save, by the cluster, its schedule and its backends, ended %v, with %q", got, m.GetBackends()[1].GetLastError())
			}
		})
	}
}

func TestWithoutASaveNoneHasEnded(t *testing.T) {
	m := message.Cluster(status.Judge(status.Known{Name: "prod", Now: time.Unix(1, 0), All: true}))
	if m.GetLastSaveState() != snapshotdv1.Snapshot_STATE_UNSPECIFIED {
		t.Errorf("it ended %s", m.GetLastSaveState())
	}
}
