package status_test

import (
	"slices"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/snapshot/retention"
)

// sized makes the copies of a snapshot that large, of one etcd.
func sized(bytes, revision int64) func(*stored) {
	return func(s *stored) {
		s.EtcdClusterID, s.Revision = "c1", revision
		for i := range s.status.Locations {
			s.status.Locations[i].Size = bytes
		}
	}
}

// Retention is applied to the copies as they are, and as they will be when the next save has been stored.
func TestRetentionIsForetold(t *testing.T) {
	const hour = time.Hour
	keepTwo := retention.Rules{KeepLast: 2}
	known := status.Known{
		Name: "prod", Now: now, All: true,
		Places: []status.Place{{Name: "local", Retention: keepTwo, Free: -1}, {Name: "s3", Free: -1}},
		Records: []*snapshot.Record{
			saved("d", 10*time.Minute, scheduled, sized(40, 4)), saved("c", hour, scheduled, sized(30, 3), proven),
			saved("b", 2*hour, scheduled, sized(20, 2)), saved("a", 3*hour, scheduled, sized(10, 1)),
		},
		Schedules: []status.Schedule{every("hourly", hour)}, Ran: map[string]time.Time{"hourly": now},
	}
	c := status.Judge(known)
	if len(c.Removals) != 2 || c.Removals[1].Rules || c.Removals[1].Now.Snapshots != 0 {
		t.Fatalf("it is %+v", c.Removals)
	}
	r := c.Removals[0]
	if !r.Rules || r.Now != (status.Total{Snapshots: 2, Bytes: 30}) || !slices.Equal(r.Names, []string{"a", "b"}) {
		t.Errorf("now it is %+v", r)
	}
	if r.Next.Snapshots != 0 || !r.Due.Equal(now.Truncate(hour).Add(hour)) {
		t.Errorf("c is proven and stays, next it is %+v", r)
	}

	known.Records = known.Records[:2]
	known.Records[1] = saved("c", hour, scheduled, sized(30, 3))
	r = status.Judge(known).Removals[0]
	if r.Now.Snapshots != 0 || r.Next != (status.Total{Snapshots: 1, Bytes: 30}) || !slices.Equal(r.Names, []string{"c"}) {
		t.Errorf("after the next save it is %+v", r)
	}
	known.Schedules = nil
	if r = status.Judge(known).Removals[0]; r.Next.Snapshots != 0 || !r.Due.IsZero() {
		t.Errorf("without a schedule it is %+v", r)
	}
}

// The next save makes old on a backend only what a schedule that goes there makes old.
func TestRetentionOfABackendIsForetoldByTheSchedulesThatGoThere(t *testing.T) {
	const hour = time.Hour
	hourly, nightly, never := every("hourly", hour), every("nightly", 24*hour), every("never", 99*hour)
	hourly.Backends, nightly.Backends, never.Backends = []string{"local"}, []string{"local", "s3"}, []string{"local"}
	keepOne := retention.Rules{KeepLast: 1}
	removals := func(schedules ...status.Schedule) []status.Removal {
		return status.Judge(status.Known{
			Name: "prod", Now: now, All: true, Schedules: schedules,
			Places: []status.Place{{Name: "local@node-1", Retention: keepOne, Free: -1}, {Name: "s3", Retention: keepOne, Free: -1}},
			Records: []*snapshot.Record{saved("a", 3*hour, scheduled, sized(10, 1), func(s *stored) {
				s.status.Locations[0].Backend = "local@node-1"
			})},
		}).Removals
	}
	both := removals(hourly, nightly)
	if local := both[0]; local.Next.Snapshots != 1 || !local.Due.Equal(now.Add(hour)) {
		t.Errorf("local is %+v", local)
	}
	if s3 := both[1]; s3.Next.Snapshots != 1 || !s3.Due.Equal(now.Add(21*hour)) {
		t.Errorf("s3 is %+v", s3)
	}
	if s3 := removals(hourly, never)[1]; s3.Next.Snapshots != 0 || !s3.Due.IsZero() {
		t.Errorf("s3, to which no schedule goes, is %+v", s3)
	}
}

// All of a large catalog is counted page by page, and its newest records are not taken for all.
func TestOfALargeCatalogAllIsCounted(t *testing.T) {
	known := status.Known{Name: "prod", Now: now, Places: []status.Place{{Name: "local", Free: -1, Retention: retention.Rules{KeepLast: 1}}}}
	counter := status.NewCounter(&known)
	counter.Add([]*snapshot.Record{saved("b", time.Hour, scheduled, sized(20, 2))})
	counter.Add([]*snapshot.Record{saved("a", 2*time.Hour, scheduled, sized(10, 1))})
	tally := counter.Tally()
	known.Records, known.Tally = []*snapshot.Record{saved("b", time.Hour, scheduled, sized(20, 2))}, &tally
	c := status.Judge(known)
	if b := c.Backends[0]; b.Snapshots != 2 || b.Bytes != 30 {
		t.Errorf("the backend is %+v", b)
	}
	if r := c.Removals[0]; r.Now != (status.Total{Snapshots: 1, Bytes: 10}) {
		t.Errorf("retention is %+v", r)
	}
}
