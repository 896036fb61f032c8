package journal_test

import (
	"testing"
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
