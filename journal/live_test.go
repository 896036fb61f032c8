package journal_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/journal/segment"
)

// A replica that has led before uploads a timeline when it does not lead any more. The leader goes on behind it.
func TestALaterTimelineOfAnotherReplicaIsOvertaken(t *testing.T) {
	t.Parallel()
	p := newPlace("s3")
	s := &fakeSource{members: func(string) *fakeMember { return &fakeMember{endpoint: "only", current: at(9), delivered: 9} }}
	var a asked
	j := lead(t, s, t.TempDir(), []*place{p}, func(c *journal.Config) { c.Base, c.Broken = a.base, a.broken })
	j.caughtUp(t, 9)
	first := j.Live()
	must(t, j.Overtaken(t.Context()))
	if got := j.Live(); first == "" || got != first {
		t.Fatalf("the timeline is %q, and was %q", got, first)
	}

	late := segment.NewTimeline(1, time.Now().Add(time.Minute)) // by another clock
	b, err := segment.NewBuilder(segment.Header{Timeline: late, Level: segment.Level10s, Member: 2, Term: 1})
	must(t, err)
	must(t, b.Add(segment.Revision{Main: 5, Time: time.Now(), Records: []segment.Record{{Value: []byte{5}}}}))
	seg, err := b.Seal()
	must(t, err)
	must(t, p.segments().Put(t.Context(), seg))
	must(t, j.Overtaken(t.Context()))
	eventually(t, "a later timeline begins", func() bool { return j.Live().Start().After(late.Start()) })
	next := j.Live()
	must(t, j.Overtaken(t.Context()))
	eventually(t, "it is on the backend", func() bool { return len(look(t, p).Timelines) == 3 })
	if _, causes := a.all(); len(causes) != 1 || causes[0] != journal.CauseOvertaken || j.Live() != next {
		t.Errorf("timelines have ended because of %v; the live one is %s, and was %s", causes, j.Live(), next)
	}
	j.stop()
	if got := j.Live(); got != "" {
		t.Errorf("a replica that does not lead says that %s is live", got)
	}
}

// The term ends while no snapshot can be taken. In the next one, it is still needed.
func TestABaseThatWasNotTakenIsAskedForInTheNextTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a asked
		failing := true
		j := journal.New(journal.Config{
			Source: &fakeSource{members: func(string) *fakeMember { return &fakeMember{endpoint: "only", current: at(9), delivered: 9} }},
			Dir:    t.TempDir(),
			Base: func(ctx context.Context, need journal.Base) error {
				if failing {
					return errors.New("no backend answers")
				}
				return a.base(ctx, need)
			},
		})
		for range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			j.Follow(ctx, 1)
			cancel()
			failing = false
		}
		must(t, j.Close(t.Context()))
		if bases, _ := a.all(); len(bases) == 0 || bases[0].Revision != 9 {
			t.Errorf("in the next term, it asks for %+v", bases)
		}
	})
}
