package status_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

const day = 24 * time.Hour

// scrubbed is a cluster with a scrub.
func scrubbed(s *status.Scrub, records ...*snapshot.Record) status.Known {
	return status.Known{
		Name: "prod", Places: []status.Place{{Name: "local", Kind: snapshot.BackendLocal, Free: -1}, {Name: "s3", URL: "s3://backups", Kind: snapshot.BackendS3, Free: -1}},
		Store: status.Store{Prefix: "prod/"}, Records: records, All: true, Now: now, Scrub: s,
	}
}

// drilled is the proof of a restore some time ago.
func drilled(ago time.Duration) func(*stored) {
	return func(s *stored) {
		proven(s)
		s.Verification.Time = now.Add(-ago)
	}
}

// found returns the findings on a cluster, one a line: verdict, text, command.
func found(k status.Known) string {
	var lines []string
	for _, f := range status.Judge(k).Findings {
		lines = append(lines, fmt.Sprintf("%s: %s [%s]", f.Verdict, f.Text, strings.Join(f.Do, " ")))
	}
	return strings.Join(lines, "\n")
}

// The alert fires after 14 days, too. A scrub that is rarer has to have missed a drill.
func TestAProofGrowsOld(t *testing.T) {
	drills := func(pause time.Duration, drill bool) *status.Scrub {
		return &status.Scrub{Drill: drill, Next: every("@scrub", pause).Next}
	}
	provenOnly := func(age time.Duration, more ...func(*stored)) []*snapshot.Record {
		return []*snapshot.Record{saved("b", time.Minute, more...), saved("a", age, append(more, proven)...)}
	}
	const old = "attention: A restore was last proven %s ago, that of a. Drill again; a scrub with a drill does it by itself. [%s]"
	for name, tc := range map[string]struct {
		scrub   *status.Scrub
		records []*snapshot.Record
		want    string
	}{
		"not yet":                    {nil, provenOnly(13 * day), ""},
		"without a scrub":            {nil, provenOnly(15 * day), fmt.Sprintf(old, "14d", "verify b --level drill")},
		"a weekly drill has failed":  {drills(7*day, true), provenOnly(22 * day), fmt.Sprintf(old, "21d", "verify b --level drill")},
		"a daily drill":              {drills(day, true), provenOnly(13 * day), ""},
		"a monthly drill":            {drills(30*day, true), provenOnly(29 * day), ""},
		"two monthly ones failed":    {drills(30*day, true), provenOnly(62 * day), fmt.Sprintf(old, "61d", "verify b --level drill")},
		"a monthly scrub, no drill":  {drills(30*day, false), provenOnly(15 * day), fmt.Sprintf(old, "14d", "verify b --level drill")},
		"nobody here can decrypt it": {nil, provenOnly(15*day, encrypted), "safe: The stored bytes were read back and are right. They are encrypted, and the service has no identity (encryption.identity_files): a restore is proven where one is kept, and the proof is not known here. [verify b --from s3://backups --identity FILE --level drill]"},
	} {
		if got := found(scrubbed(tc.scrub, tc.records...)); got != tc.want {
			t.Errorf("%s: it says\n%s\nwant\n%s", name, got, tc.want)
		}
	}
}

// A leader whose clock was a year ahead must not make a proof that is a year too young.
func TestAProofOfAFutureClockIsNone(t *testing.T) {
	ahead := saved("ahead", time.Minute, drilled(-365*day))
	failed := &status.Scrub{
		Drill: true, Next: every("@scrub", 7*day).Next,
		Last: snapshot.ScrubNote{Due: now.Add(-4 * time.Hour), Time: now.Add(-3 * time.Hour), Error: "drill a: no space is left"},
	}
	reads := *failed
	reads.Drill = false
	const (
		undated = "attention: It is not known when a restore was proven: the clock that dated the proof of ahead, to 2027-07-15 03:00 UTC, was ahead. " +
			"Drill again, with a clock that is right. [verify ahead --level drill]"
		unmended = "It is told until a scrub has found all good; after this command has passed, as a remark."
	)
	if got := found(scrubbed(nil, ahead)); got != undated {
		t.Errorf("alone, it says\n%s\nwant\n%s", got, undated)
	}
	if got := found(scrubbed(nil, ahead, saved("a", day, drilled(day)))); got != "" {
		t.Errorf("beside a good one, it says\n%s", got)
	}
	if got := found(scrubbed(nil, ahead, saved("a", 20*day, drilled(20*day)))); !strings.Contains(got, "last proven 20d ago, that of a.") {
		t.Errorf("beside an old one, it says\n%s", got)
	}
	for name, s := range map[string]*status.Scrub{"drills": failed, "reads": &reads} {
		if got := found(scrubbed(s, ahead)); !strings.Contains(got, unmended) {
			t.Errorf("after a scrub that %s has failed, it says\n%s", name, got)
		}
	}
}

// What a drill could not do leaves nothing on a snapshot. The alert sends people here for the reason.
func TestAScrubThatFailedNeedsAttention(t *testing.T) {
	failed := snapshot.ScrubNote{Due: now.Add(-4 * time.Hour), Time: now.Add(-3 * time.Hour), Error: "drill a: no space is left.\nverify b: access denied\n"}
	const (
		text      = "The last scrub failed, 3h ago: drill a: no space is left (and 1 more, which are in the log). "
		attention = "attention: " + text + "It is told until a scrub has found all good; after this command has passed, as a remark. [%s]"
		remark    = "safe: " + text + "What was verified since then has passed. It is told until a scrub has found all good. [%s]"
		drill     = "verify a --level drill"
	)
	for name, tc := range map[string]struct {
		drill   bool
		note    snapshot.ScrubNote
		records []*snapshot.Record
		want    string
	}{
		"it found all good":         {true, snapshot.ScrubNote{Due: failed.Due, Time: failed.Time}, []*snapshot.Record{saved("a", day, drilled(20*time.Hour))}, ""},
		"it has failed":             {true, failed, []*snapshot.Record{saved("a", day, drilled(20*time.Hour))}, fmt.Sprintf(attention, drill)},
		"a drill has passed since":  {true, failed, []*snapshot.Record{saved("a", day, drilled(time.Hour))}, fmt.Sprintf(remark, drill)},
		"and bytes are read alone":  {false, failed, []*snapshot.Record{saved("a", day, drilled(time.Hour))}, fmt.Sprintf(remark, drill)},
		"nobody here can decrypt":   {true, failed, []*snapshot.Record{saved("a", day, encrypted, drilled(time.Hour))}, fmt.Sprintf(remark, "verify a")},
		"its share was read before": {false, failed, []*snapshot.Record{saved("a", day, drilled(20*time.Hour))}, fmt.Sprintf(attention, drill)},
	} {
		s := &status.Scrub{Cron: "@daily", Drill: tc.drill, Next: every("@scrub", 7*day).Next, Last: tc.note}
		if got := found(scrubbed(s, tc.records...)); got != tc.want {
			t.Errorf("%s: it says\n%s\nwant\n%s", name, got, tc.want)
		}
	}
	hurt := saved("hurt", 2*day, disproved)
	s := &status.Scrub{Drill: true, Next: every("@scrub", 7*day).Next, Last: failed}
	if got := found(scrubbed(s, saved("a", day, drilled(time.Hour)), hurt)); !strings.Contains(got, fmt.Sprintf(attention, drill)) {
		t.Errorf("while a snapshot does not pass, it says\n%s", got)
	}
}

func TestAScrubThatDoesNotEndNeedsAttention(t *testing.T) {
	for name, tc := range map[string]struct {
		due  time.Time // of the last one that has ended
		told bool
	}{
		"none has begun":    {time.Time{}, false},
		"it runs":           {now.Add(-7*day - 20*time.Hour), false},
		"it runs for long":  {now.Add(-8*day - time.Hour), true},
		"a clock was wrong": {now.Add(day), false},
	} {
		next := func(after time.Time) time.Time { return after.Add(7 * day) }
		s := &status.Scrub{Cron: "@weekly", Drill: true, Next: next, Last: snapshot.ScrubNote{Due: tc.due}}
		got := found(scrubbed(s, saved("a", time.Minute, proven)))
		if told := strings.HasPrefix(got, "attention: The scrub (@weekly) was due 25h ago, at 2026-07-14 02:00 UTC, and has not ended."); told != tc.told || !tc.told && got != "" {
			t.Errorf("%s: it says\n%s", name, got)
		}
	}
}

// Another program saves such a cluster, or a person. How old its newest snapshot may be follows from those before it.
func TestAClusterWithoutAScheduleIsHeldToItsOwnPauses(t *testing.T) {
	series := func(newest time.Duration, n int, pause time.Duration) (all []*snapshot.Record) {
		for i := range n {
			all = append(all, saved(fmt.Sprint("s", i), newest+time.Duration(i)*pause, drilled(time.Hour)))
		}
		return all
	}
	const (
		few  = "Of fewer than 4 snapshots it is not known how often they come."
		mend = " Set a schedule, or mend what has saved this cluster so far. [save]"
		old  = "attention: There is no schedule, and the newest snapshot is %s old: each change since then can be lost. "
	)
	weekdays := slices.Concat(series(60*time.Hour, 5, day), series(60*time.Hour+7*day, 5, day))
	for name, tc := range map[string]struct {
		records []*snapshot.Record
		want    string
	}{
		"new":                        {series(time.Hour, 1, 0), ""},
		"hourly":                     {series(time.Hour, 30, time.Hour), ""},
		"hourly, and a day is away":  {series(day, 30, time.Hour), ""},
		"hourly, and it has stopped": {series(50*time.Hour, 12, time.Hour), fmt.Sprintf(old, "2d") + "Those before it came at most 60m apart." + mend},
		"on weekdays, on Sunday":     {weekdays, ""},
		"weekly":                     {series(13*day, 4, 7*day), ""},
		"weekly, and it has stopped": {series(15*day, 4, 7*day), fmt.Sprintf(old, "15d") + "Those before it came at most 7d apart." + mend},
		"weekly, and few are kept":   {series(15*day, 3, 7*day), "safe: There is no schedule, and the newest snapshot is 15d old. " + few + " [save]"},
		"monthly":                    {series(45*day, 4, 30*day), ""},
		"once":                       {series(9*day, 1, 0), "safe: There is no schedule, and the newest snapshot is 9d old. " + few + " [save]"},
	} {
		if got := found(scrubbed(nil, tc.records...)); got != tc.want {
			t.Errorf("%s: it says\n%s\nwant\n%s", name, got, tc.want)
		}
	}
	longAgo := scrubbed(nil, saved("a", 400*day, proven))
	if got := found(longAgo); !strings.Contains(got, fmt.Sprintf(old, "400d")+few+mend) {
		t.Errorf("of 400 days, it says\n%s", got)
	}
	longAgo.Schedules, longAgo.Ran = []status.Schedule{every("hourly", time.Hour)}, map[string]time.Time{"hourly": now}
	if got := found(longAgo); strings.Contains(got, "no schedule") {
		t.Errorf("with a schedule, it says\n%s", got)
	}
	followed := scrubbed(nil, saved("a", 10*day, proven))
	followed.Journal = &status.Journal{Following: true}
	if got := found(followed); got != "" {
		t.Errorf("with a journal that goes on, it says\n%s", got)
	}
}
