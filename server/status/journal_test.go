package status_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

// broken is a break of the journal that was found some time ago, a minute after the revision before it came.
func broken(ago time.Duration, after, before int64, change ...func(*snapshot.JournalBreak)) snapshot.JournalBreak {
	b := snapshot.JournalBreak{
		Timeline: "t", After: after, Before: before, AfterTime: now.Add(-ago - time.Minute), BeforeTime: now.Add(-ago),
		Reason: "compacted: it was away",
	}
	for _, f := range change {
		f(&b)
	}
	return b
}

// theEtcd is the id of the etcd of snapshots that hold revisions of a gap.
const theEtcd = "00000000000000aa"

func ofEtcd(b snapshot.JournalBreak) snapshot.JournalBreak {
	b.Timeline = theEtcd + "-1784116800"
	return b
}

// holding makes a snapshot one of this etcd, which holds the revisions from one on.
func holding(oldest int64) func(*stored) {
	return func(s *stored) { s.OldestRevision, s.EtcdClusterID = oldest, theEtcd }
}

func restored(b *snapshot.JournalBreak) {
	b.OtherHistory, b.Reason = true, "restored: the cluster is at revision 104, and was at 250"
}

// onJournal returns the findings about a journal, one a line: verdict, text, command.
func onJournal(j *status.Journal, records ...*snapshot.Record) string {
	c := status.Judge(status.Known{
		Name: "prod", Store: status.Store{Prefix: "prod/"}, Places: []status.Place{{Name: "local", URL: "file:///backups", Free: -1}},
		Records: records, All: true, Now: now, Journal: j,
	})
	var lines []string
	for _, f := range c.Findings {
		if !strings.Contains(f.Text, "proven") {
			lines = append(lines, fmt.Sprintf("%s: %s [%s]", f.Verdict, f.Text, strings.Join(f.Do, " ")))
		}
	}
	return strings.Join(lines, "\n")
}

// A gap needs attention for a day, and longer as long as nothing behind it can be restored. Then it is information for
// as long as something before it can be restored.
func TestAGapIsToldWhileItMatters(t *testing.T) {
	at := func(revision int64) func(*stored) { return func(s *stored) { s.Revision = revision } }
	behind, before := saved("behind", time.Minute, proven, at(320)), saved("before", 40*24*time.Hour, proven, at(7))
	hour, days := broken(time.Hour, 250, 300), broken(72*time.Hour, 250, 300)
	for name, tc := range map[string]struct {
		journal status.Journal
		records []*snapshot.Record
		want    string
	}{
		"none": {records: []*snapshot.Record{behind, before}},
		"an hour old": {status.Journal{Notes: snapshot.JournalNotes{Breaks: []snapshot.JournalBreak{hour}}}, []*snapshot.Record{behind, before},
			"attention: The journal has a gap: revisions 251 to 299 (2026-07-15 01:59 UTC to 2026-07-15 02:00 UTC) cannot be restored. " +
				"Reason: compacted: it was away. [window]"},
		"one revision, and two gaps before": {
			status.Journal{Notes: snapshot.JournalNotes{Breaks: []snapshot.JournalBreak{days, days, broken(time.Hour, 310, 312)}}},
			[]*snapshot.Record{behind, before},
			"attention: The journal has a gap: revision 311 (2026-07-15 01:59 UTC to 2026-07-15 02:00 UTC) cannot be restored. " +
				"Reason: compacted: it was away. There are 2 earlier gaps. [window]"},
		"no snapshot behind it": {status.Journal{Notes: snapshot.JournalNotes{Breaks: []snapshot.JournalBreak{days}}}, []*snapshot.Record{before},
			"attention: The journal has a gap: revisions 251 to 299 (2026-07-12 02:59 UTC to 2026-07-12 03:00 UTC) cannot be restored. " +
				"Reason: compacted: it was away. Nothing behind the gap can be restored until the next snapshot. [save]"},
		"days old": {status.Journal{Notes: snapshot.JournalNotes{Breaks: []snapshot.JournalBreak{days}}}, []*snapshot.Record{behind, before},
			"safe: The journal has a gap: revisions 251 to 299 (2026-07-12 02:59 UTC to 2026-07-12 03:00 UTC) cannot be restored. " +
				"Reason: compacted: it was away. [window]"},
		"nothing before it can be restored": {
			journal: status.Journal{Notes: snapshot.JournalNotes{Breaks: []snapshot.JournalBreak{days}}}, records: []*snapshot.Record{behind}},
		"before the window": {
			journal: status.Journal{Kept: 48 * time.Hour, Notes: snapshot.JournalNotes{Breaks: []snapshot.JournalBreak{days}}},
			records: []*snapshot.Record{behind, before}},
		"of the future": {journal: status.Journal{Notes: snapshot.JournalNotes{Breaks: []snapshot.JournalBreak{broken(-24*time.Hour, 250, 300)}}},
			records: []*snapshot.Record{behind, before}},
		"etcd was restored behind it": {
			status.Journal{Notes: snapshot.JournalNotes{Breaks: []snapshot.JournalBreak{days}}},
			[]*snapshot.Record{saved("restored", time.Minute, proven, at(104)), before},
			"safe: The journal has a gap: revisions 251 to 299 (2026-07-12 02:59 UTC to 2026-07-12 03:00 UTC) cannot be restored. " +
				"Reason: compacted: it was away. [window]"},
		"a snapshot holds some of them": {status.Journal{Notes: snapshot.JournalNotes{Breaks: []snapshot.JournalBreak{ofEtcd(hour)}}},
			[]*snapshot.Record{saved("behind", time.Minute, proven, at(320), holding(290)), before},
			"attention: The journal has a gap: revisions 251 to 289 (2026-07-15 01:59 UTC to 2026-07-15 02:00 UTC) cannot be restored. " +
				"Reason: compacted: it was away. [window]"},
		"a snapshot holds all of them": {status.Journal{Notes: snapshot.JournalNotes{Breaks: []snapshot.JournalBreak{ofEtcd(hour)}}},
			[]*snapshot.Record{saved("behind", time.Minute, proven, at(320), holding(3)), before},
			"attention: The journal began anew at 2026-07-15 02:00 UTC, and no revision is missing. Reason: compacted: it was away. [window]"},
		"a snapshot of another etcd has such revisions": {
			status.Journal{Notes: snapshot.JournalNotes{Breaks: []snapshot.JournalBreak{hour}}},
			[]*snapshot.Record{saved("behind", time.Minute, proven, at(320), holding(3)), before},
			"attention: The journal has a gap: revisions 251 to 299 (2026-07-15 01:59 UTC to 2026-07-15 02:00 UTC) cannot be restored. " +
				"Reason: compacted: it was away. [window]"},
		"its beginning is not known": {status.Journal{Notes: snapshot.JournalNotes{Breaks: []snapshot.JournalBreak{
			broken(time.Hour, 0, 300, func(b *snapshot.JournalBreak) { b.AfterTime = time.Time{} })}}}, []*snapshot.Record{behind, before},
			"attention: The journal has a gap: an unknown number of revisions before 300 cannot be restored. Reason: compacted: it was away. [window]"},
		"they could not be read": {status.Journal{NotesErr: errors.New("etcd is away")}, []*snapshot.Record{behind, before},
			"attention: It is not known whether the journal has gaps, or etcd was restored under it: etcd is away. [window]"},
		"its end is not known": {status.Journal{Notes: snapshot.JournalNotes{Breaks: []snapshot.JournalBreak{
			broken(time.Hour, 310, 0, func(b *snapshot.JournalBreak) { b.AfterTime = time.Time{} })}}}, []*snapshot.Record{behind, before},
			"attention: The journal has a gap: revisions from 311 on cannot be restored. Reason: compacted: it was away. [window]"},
	} {
		if got := onJournal(&tc.journal, tc.records...); got != tc.want {
			t.Errorf("%s: it says\n%s\nwant\n%s", name, got, tc.want)
		}
	}
}

// A restore reaches the history before, and not by a number alone.
func TestAnotherHistoryIsTold(t *testing.T) {
	records := []*snapshot.Record{saved("behind", time.Minute, proven), saved("before", 40*24*time.Hour, proven)}
	notes := func(all ...snapshot.JournalBreak) *status.Journal {
		return &status.Journal{Notes: snapshot.JournalNotes{Breaks: all}}
	}
	want := "etcd has another history since 2026-07-15 02:00 UTC. Reason: restored: the cluster is at revision 104, and was at 250.%s To restore the " +
		"history before, give --at with a time before that, or the name of a snapshot. A --revision that is in both is refused. [window]"
	hour := broken(time.Hour, 250, 105, restored)
	if got := onJournal(notes(hour), records...); got != "attention: "+fmt.Sprintf(want, "") {
		t.Errorf("it says\n%s", got)
	}
	if got := onJournal(notes(broken(72*time.Hour, 90, 80, restored), hour), records...); got != "attention: "+fmt.Sprintf(want, " There is 1 earlier history.") {
		t.Errorf("it says\n%s", got)
	}
	if got := onJournal(notes(broken(72*time.Hour, 250, 105, restored)), records...); !strings.HasPrefix(got, "safe: etcd has another history since 2026-07-12") {
		t.Errorf("after days, it says\n%s", got)
	}
}

// The alert of a gap fires for these, too, and no revision is missing.
func TestAJournalThatBeganAnewIsTold(t *testing.T) {
	for want, b := range map[string]snapshot.JournalBreak{
		"attention: The journal began anew at 2026-07-15 02:00 UTC, and no revision is missing. Reason: overtaken: by another replica. [window]": broken(
			time.Hour, 250, 251, func(b *snapshot.JournalBreak) { b.Reason = "overtaken: by another replica." }),
		"attention: The journal began anew at 2026-07-15 02:00 UTC. Reason: overtaken: by another replica. [window]": broken(
			time.Hour, 0, 251, func(b *snapshot.JournalBreak) { b.Reason = "overtaken: by another replica." }),
		"attention: Backend s3 had lost revisions 6 to 9 (2026-07-15 01:59 UTC to 2026-07-15 02:00 UTC). The leader copies them from another backend " +
			"that has them. Reason: full: it was away. [reconcile --repair]": broken(
			time.Hour, 5, 10, func(b *snapshot.JournalBreak) { b.Backend, b.Reason = "s3", "full: it was away" }),
	} {
		j := &status.Journal{Notes: snapshot.JournalNotes{Breaks: []snapshot.JournalBreak{b}}}
		if got := onJournal(j, saved("a", time.Minute, proven)); got != want {
			t.Errorf("it says\n%s\nwant\n%s", got, want)
		}
	}
}

// A later break hides none of another kind, and none of its kind without saying so.
func TestNoBreakHidesAnother(t *testing.T) {
	full := broken(2*time.Hour, 5, 10, func(b *snapshot.JournalBreak) { b.Backend = "s3" })
	got := onJournal(&status.Journal{Notes: snapshot.JournalNotes{Breaks: []snapshot.JournalBreak{
		full, full, broken(time.Hour, 20, 21), broken(time.Hour, 30, 31),
	}}}, saved("a", time.Minute, proven))
	for _, want := range []string{"Backend s3 had lost", "There is 1 earlier loss.", "The journal began anew", "There is 1 earlier beginning."} {
		if !strings.Contains(got, want) {
			t.Errorf("it does not say %q:\n%s", want, got)
		}
	}
}

// The verdict on a drilled revision is told until a later drill is passed, or nothing can be restored from there.
func TestARevisionThatCouldNotBeRestoredNeedsAttention(t *testing.T) {
	d := &snapshot.JournalDrill{Revision: 200, Timeline: "t", Base: "before", Verdict: snapshot.Verification{
		Level: snapshot.LevelDrill, Error: "segment 191-210 is torn", Time: now.Add(-3 * time.Hour),
	}}
	j := &status.Journal{Notes: snapshot.JournalNotes{Drill: d}}
	records := []*snapshot.Record{saved("a", time.Minute, proven), saved("before", 72*time.Hour, proven)}
	want := "attention: Revision 200 could not be restored, in a drill 3h ago, from before and the journal. Restores to revisions around it cannot be " +
		"relied on, those to snapshots can. It is told until a drill of the scrub has restored another revision. segment 191-210 is torn " +
		"[restore before --revision 200 --from file:///backups --data-dir DIR --dry-run]"
	if got := onJournal(j, records...); got != want {
		t.Errorf("it says\n%s", got)
	}
	if got := onJournal(j, records[0]); got != "" {
		t.Errorf("without the snapshot, it says\n%s", got)
	}
	j.Kept = 2 * time.Hour
	if got := onJournal(j, records...); got != "" {
		t.Errorf("when the journal is not kept so long, it says\n%s", got)
	}
	d.Verdict.Passed, j.Kept = true, 0
	if got := onJournal(j, records...); got != "" {
		t.Errorf("after another drill, it says\n%s", got)
	}
}
