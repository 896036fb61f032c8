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
		"scrubbed": "how the last scrub has ended",
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
