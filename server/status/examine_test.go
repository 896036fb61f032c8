package status_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

// told is what the replicas of a cluster have told each other; fail names the question that has no answer.
type told struct {
	fail string
	err  error
	ask  func(ctx context.Context) // before an answer fails

	note    snapshot.ReconcileNote
	records []*snapshot.Record // that are not among the newest
}

func (r told) answer(ctx context.Context, question string) error {
	if r.fail != question {
		return nil
	}
	if r.ask != nil {
		r.ask(ctx)
	}
	return r.err
}

func (r told) LastDue(ctx context.Context, _ string) (time.Time, error) {
	return now, r.answer(ctx, "due")
}
func (r told) Leader(ctx context.Context) (string, error) { return "node-1", r.answer(ctx, "leader") }
func (r told) Saving(ctx context.Context) (*status.Moving, error) {
	return nil, r.answer(ctx, "saving")
}

func (r told) Scrubbed(ctx context.Context) (snapshot.ScrubNote, error) {
	return snapshot.ScrubNote{}, r.answer(ctx, "scrubbed")
}

func (r told) Reconciled(ctx context.Context) (snapshot.ReconcileNote, error) {
	return r.note, r.answer(ctx, "reconciled")
}

func (r told) Record(ctx context.Context, name string) (*snapshot.Record, error) {
	if err := r.answer(ctx, "record"); err != nil {
		return nil, err
	}
	for _, rec := range r.records {
		if rec.Name == name {
			return rec, nil
		}
	}
	return nil, nil //nolint:nilnil // there is none any more
}

func (r told) JournalNotes(ctx context.Context) (snapshot.JournalNotes, error) {
	return snapshot.JournalNotes{}, r.answer(ctx, "notes")
}

// asked is what is known of a cluster with a schedule and a scrub once its replicas were asked.
func asked(ctx context.Context, r status.Replicas) status.Known {
	k := scrubbed(&status.Scrub{Next: every("@scrub", 7*day).Next})
	k.Schedules = []status.Schedule{every("hourly", time.Hour)}
	k.Err = k.Examine(ctx, func(context.Context, snapshot.Query) (snapshot.Page, error) {
		return snapshot.Page{Records: []*snapshot.Record{saved("a", time.Minute, proven)}}, nil
	}, r)
	return k
}

// What cannot be read must not look like what has not begun.
func TestWhatCannotBeReadOfAClusterNeedsAttention(t *testing.T) {
	const finding = "attention: It is not known %: etcd has no leader. This command asks again. [status]"
	for question, what := range map[string]string{
		"": "", "saving": "", "leader": "whether a replica leads", "due": "whether schedule hourly keeps to its times",
		"scrubbed": "how the last scrub has ended", "reconciled": "what the last reconcile has found",
	} {
		want := ""
		if what != "" {
			want = strings.Replace(finding, "%", what, 1)
		}
		if got := found(asked(t.Context(), told{fail: question, err: errors.New("etcd has no leader")})); got != want {
			t.Errorf("without an answer to %q, it says\n%s\nwant\n%s", question, got, want)
		}
	}
}

func TestNothingIsKnownOfAClusterWhoseFactsWereNotReadInTime(t *testing.T) {
	for _, question := range []string{"leader", "due", "scrubbed"} {
		ctx, cancel := context.WithCancel(t.Context())
		k := asked(ctx, told{fail: question, err: context.Canceled, ask: func(ctx context.Context) {
			cancel()
			<-ctx.Done()
		}})
		if v := status.Judge(k).Verdict; v != status.Unknown {
			t.Errorf("without an answer to %q in time, it is %s", question, v)
		}
	}
}

// Of more than the newest snapshots, what the last reconcile has found is told, as long as it holds.
func TestWhatTheLastReconcileHasFoundBeyondTheNewestIsTold(t *testing.T) {
	t.Parallel()
	const (
		unproven = "attention: No restore of the newest 1 snapshots was proven. [verify new --level drill]"
		damaged  = "attention: b did not pass its last verification, and none since was: a page is broken. Verify it again " +
			"when its copies were repaired; delete it when it does not pass. [verify b]"
	)
	older := []*snapshot.Record{
		saved("c", 2*time.Hour, proven), saved("b", 3*time.Hour, disproved), saved("a", 4*time.Hour, disproved),
	}
	for name, tc := range map[string]struct {
		note snapshot.ReconcileNote
		want string
	}{
		"nothing":                     {snapshot.ReconcileNote{}, unproven},
		"a proof":                     {snapshot.ReconcileNote{Proven: "c"}, ""},
		"one that is gone":            {snapshot.ReconcileNote{Proven: "d", Damaged: []string{"e"}}, unproven},
		"damage":                      {snapshot.ReconcileNote{Proven: "c", Damaged: []string{"b", "a"}}, damaged},
		"damage that is mended since": {snapshot.ReconcileNote{Proven: "c", Damaged: []string{"c", "b"}}, damaged},
		"a proof that is void since":  {snapshot.ReconcileNote{Proven: "b"}, damaged + "\n" + unproven},
	} {
		k := scrubbed(nil)
		k.Err = k.Examine(t.Context(), func(context.Context, snapshot.Query) (snapshot.Page, error) {
			return snapshot.Page{Records: []*snapshot.Record{saved("new", time.Minute)}, NextPageToken: "more"}, nil
		}, told{note: tc.note, records: older})
		got := found(k)
		if i := strings.Index(got, "attention: There is no schedule"); i >= 0 {
			got = strings.TrimSpace(got[:i])
		}
		if got != tc.want {
			t.Errorf("%s: it says\n%s\nwant\n%s", name, got, tc.want)
		}
	}
}

// A scrub that failed is not mended while a damaged snapshot is left, however old it is.
func TestAScrubIsNotMendedWhileAnOldSnapshotIsDamaged(t *testing.T) {
	t.Parallel()
	k := scrubbed(&status.Scrub{Drill: true, Next: every("@scrub", 7*day).Next,
		Last: snapshot.ScrubNote{Time: now.Add(-time.Hour), Error: "a is damaged"}}, saved("new", time.Minute, drilled(0)))
	k.All = false
	if got := found(k); !strings.Contains(got, "safe: The last scrub failed") {
		t.Errorf("without one, it says\n%s", got)
	}
	k.Older = []*snapshot.Record{saved("a", 99*day, disproved)}
	if got := found(k); !strings.Contains(got, "attention: The last scrub failed") {
		t.Errorf("with one, it says\n%s", got)
	}
}
