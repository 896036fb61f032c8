package status_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/snapshot/retention"
)

// runs are the snapshots that a schedule took so many hours ago.
func runs(schedule string, hoursAgo ...int) (all []*snapshot.Record) {
	for _, h := range hoursAgo {
		all = append(all, saved(fmt.Sprintf("%s-%d", schedule, h), time.Duration(h)*time.Hour-time.Second, by(schedule), sized(10, int64(1000-h))))
	}
	return all
}

// hours are the multiples of a number from one number to another.
func hours(from, to, each int) (all []int) {
	for h := from; h <= to; h += each {
		all = append(all, h)
	}
	return all
}

func without(all []int, gone ...int) []int {
	return slices.DeleteFunc(all, func(h int) bool { return slices.Contains(gone, h) })
}

// It is three o'clock. A gap is runs of one schedule, whatever the others do, and whatever retention has removed since.
func TestGapsAreThoseOfEachSchedule(t *testing.T) {
	const hour = time.Hour
	nightly, hourly, other := every("nightly", 24*hour), every("hourly", hour), every("other", 24*hour)
	late := status.Schedule{Name: "other", Next: func(after time.Time) time.Time {
		return nightly.Next(after.Add(-10 * time.Minute)).Add(10 * time.Minute)
	}}
	after := status.Schedule{Name: "six", Cron: "@every 6h", Next: func(after time.Time) time.Time { return after.Add(6 * hour) }}
	ago := func(h int) time.Time { return now.Add(-time.Duration(h) * hour) }
	thin := retention.Rules{KeepHourly: 24, KeepDaily: 7}
	for name, c := range map[string]struct {
		schedules []status.Schedule
		rules     retention.Rules
		records   [][]*snapshot.Record
		schedule  string
		want      []status.MissedRuns
	}{
		"two nightly ones, ten minutes apart": {[]status.Schedule{nightly, late}, retention.Rules{}, [][]*snapshot.Record{
			runs("nightly", hours(3, 171, 24)...), runs("other", hours(2, 170, 24)...)}, "nightly", nil},
		"the later one of them": {[]status.Schedule{nightly, late}, retention.Rules{}, [][]*snapshot.Record{
			runs("nightly", hours(3, 171, 24)...), runs("other", hours(2, 170, 24)...)}, "other", nil},
		"a nightly one that has died beside an hourly one": {[]status.Schedule{hourly, nightly}, retention.Rules{}, [][]*snapshot.Record{
			runs("hourly", hours(0, 170, 1)...), runs("nightly", 99, 123)}, "nightly", []status.MissedRuns{{Start: ago(75), Runs: 3}}},
		"it was late to die": {[]status.Schedule{nightly}, retention.Rules{}, [][]*snapshot.Record{runs("nightly", 27, 51)}, "nightly",
			[]status.MissedRuns{{Start: ago(3), Runs: 1}}},
		"a night without": {[]status.Schedule{hourly}, retention.Rules{}, [][]*snapshot.Record{
			runs("hourly", without(hours(0, 40, 1), 4, 5, 6, 20)...)}, "hourly",
			[]status.MissedRuns{{Start: ago(20), End: ago(19).Add(time.Second), Runs: 1}, {Start: ago(6), End: ago(3).Add(time.Second), Runs: 3}}},
		"those that retention has removed": {[]status.Schedule{hourly}, thin, [][]*snapshot.Record{
			runs("hourly", append(hours(0, 23, 1), 28, 52, 76)...)}, "hourly", nil},
		"those that it would have kept": {[]status.Schedule{hourly}, thin, [][]*snapshot.Record{
			runs("hourly", append(without(hours(0, 26, 1), 6, 7, 8), 28, 52, 76)...)}, "hourly",
			[]status.MissedRuns{{Start: ago(8), End: ago(5).Add(time.Second), Runs: 3}}},
		"after one another": {[]status.Schedule{after}, retention.Rules{}, [][]*snapshot.Record{runs("six", hours(1, 49, 6)...)}, "six", nil},
		"after one another, one later": {[]status.Schedule{after}, retention.Rules{}, [][]*snapshot.Record{
			runs("six", 1, 7), {saved("b", 19*hour-2*time.Second, by("six"))}, runs("six", 25)}, "six",
			[]status.MissedRuns{{Start: ago(13).Add(2 * time.Second), End: ago(7).Add(time.Second), Runs: 1}}},
		"it never took any": {[]status.Schedule{other}, retention.Rules{}, [][]*snapshot.Record{runs("hourly", 1)}, "other", nil},
	} {
		ran := map[string]time.Time{}
		for _, s := range c.schedules {
			ran[s.Name] = now
		}
		if name == "it was late to die" {
			ran["nightly"] = ago(27)
		}
		judged := status.Judge(status.Known{
			Name: "prod", Now: now, All: true, Schedules: c.schedules, Ran: ran, Records: slices.Concat(c.records...),
			Places: []status.Place{{Name: "local", Retention: c.rules, Free: -1}, {Name: "s3", Retention: c.rules, Free: -1}},
		})
		i := slices.IndexFunc(judged.Schedules, func(s status.ScheduleState) bool { return s.Name == c.schedule })
		got := judged.Schedules[i].Missed
		same := func(a, b status.MissedRuns) bool {
			return a.Runs == b.Runs && a.Start.Equal(b.Start) && a.End.Equal(b.End)
		}
		if !slices.EqualFunc(got, c.want, same) {
			t.Errorf("%s: the gaps are %v, want %v", name, got, c.want)
		}
	}
}

// Since the last run that has stored a snapshot, nothing is removed that would have been a newer one. Before it,
// retention may have removed those of one schedule for those of another.
func TestAnOutageThatGoesOnIsShownFromItsBegin(t *testing.T) {
	const hour = time.Hour
	often, nightly, hourly := every("often", 2*hour), every("nightly", 24*hour), every("hourly", hour)
	pinned := saved("n", 99*hour, by("nightly"), sized(10, 1), func(s *stored) { s.Pinned = true })
	ago := func(h int) time.Time { return now.Add(-time.Duration(h) * hour) }
	for name, c := range map[string]struct {
		schedules []status.Schedule
		ran       map[string]time.Time
		records   []*snapshot.Record
		schedule  string
		want      []status.MissedRuns
	}{
		"nothing is saved any more": {[]status.Schedule{often}, map[string]time.Time{"often": ago(49)}, runs("often", hours(49, 91, 2)...),
			"often", []status.MissedRuns{{Start: ago(47), Runs: 23}}},
		"its snapshots were removed": {[]status.Schedule{hourly, nightly}, map[string]time.Time{"hourly": now, "nightly": ago(3)},
			append(runs("hourly", append(hours(0, 11, 1), 28, 52, 76)...), pinned), "nightly", nil},
	} {
		judged := status.Judge(status.Known{
			Name: "prod", Now: now, All: true, Schedules: c.schedules, Ran: c.ran, Records: c.records,
			Places: []status.Place{{Name: "local", Retention: retention.Rules{KeepLast: 12, KeepDaily: 14}, Free: -1}},
		})
		i := slices.IndexFunc(judged.Schedules, func(s status.ScheduleState) bool { return s.Name == c.schedule })
		if got := judged.Schedules[i].Missed; !slices.Equal(got, c.want) {
			t.Errorf("%s: the gaps are %v, want %v", name, got, c.want)
		}
	}
}
