package catalog_test

import (
	"bytes"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	catalogv1 "github.com/snapshotd/snapshotd/proto/snapshotd/catalog/v1"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

const notesKey = prefix + "journal/notes"

// noted is a break of a timeline, and the drill of a revision.
func noted(timeline string) snapshot.JournalNotes {
	at := time.Unix(1_784_203_200, 0).UTC()
	return snapshot.JournalNotes{
		Breaks: []snapshot.JournalBreak{{
			Timeline: timeline, After: 7, Before: 12, AfterTime: at, BeforeTime: at.Add(time.Minute), Reason: "compacted: it was away",
			OtherHistory: true, Backend: "s3",
		}},
		Drill: &snapshot.JournalDrill{Revision: 9, Timeline: timeline, Base: "a", Verdict: snapshot.Verification{
			Level: snapshot.LevelDrill, Error: "a segment is torn", Time: at, Duration: time.Second, Backends: []string{"s3"},
		}},
		Trouble: &snapshot.JournalTrouble{Node: "node-1", Points: []snapshot.JournalPoint{
			{Complete: at}, {Backend: "s3", Complete: at, Error: "access denied"}, {Backend: "local", Damaged: 3},
		}},
	}
}

// The notes are seen by all replicas as they were written, and no change of a replica is lost.
func TestNotesAboutAJournalAreThoseOfAllReplicas(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	one, two := open(t, catalog.Config{Connect: connect(client)}), open(t, catalog.Config{Connect: connect(client)})
	if notes, err := one.JournalNotes(t.Context()); err != nil || len(notes.Breaks) > 0 || notes.Drill != nil {
		t.Errorf("at first there is %+v, %v", notes, err)
	}
	want := noted("t")
	set := func(n *snapshot.JournalNotes) { *n = want }
	if err := one.AmendJournalNotes(t.Context(), set); err != nil {
		t.Fatal(err)
	}
	got, err := two.JournalNotes(t.Context())
	if err != nil || len(got.Breaks) != 1 || got.Breaks[0] != want.Breaks[0] || got.Drill == nil || got.Drill.Base != "a" ||
		got.Drill.Verdict.Error != "a segment is torn" || !got.Drill.Verdict.Time.Equal(want.Drill.Verdict.Time) {
		t.Errorf("the other replica reads %+v, %v", got, err)
	}
	if got.Trouble == nil || got.Trouble.Node != "node-1" || !slices.Equal(got.Trouble.Points, want.Trouble.Points) {
		t.Errorf("the other replica reads of the trouble %+v", got.Trouble)
	}
	var both sync.WaitGroup
	for _, c := range []*catalog.Catalog{one, two} {
		both.Go(func() {
			for range 10 {
				err := c.AmendJournalNotes(t.Context(), func(n *snapshot.JournalNotes) { n.Drill.Revision++ })
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	both.Wait()
	if got, err = two.JournalNotes(t.Context()); err != nil || got.Drill.Revision != 29 {
		t.Errorf("of 20 changes there is %+v, %v", got.Drill, err)
	}
	// What was not changed is not written.
	before, _ := client.Get(t.Context(), notesKey)
	if err := one.AmendJournalNotes(t.Context(), func(*snapshot.JournalNotes) {}); err != nil {
		t.Fatal(err)
	}
	if after, err := client.Get(t.Context(), notesKey); err != nil || after.Kvs[0].Version != before.Kvs[0].Version {
		t.Errorf("it was written again: %v", err)
	}
}

// Notes are bounded, damaged ones are none and are replaced, and the fields of a later version stay.
func TestNotesAboutAJournalThatAreDamagedAreReplaced(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	var log bytes.Buffer
	c := open(t, catalog.Config{Connect: connect(client), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	hostile := func(change func(*catalogv1.Journal)) string {
		m := &catalogv1.Journal{Breaks: []*catalogv1.JournalBreak{{}}, Drill: &catalogv1.JournalDrill{
			Base: "a", Verdict: &snapshotdv1.Verification{Time: timestamppb.Now()},
		}, Trouble: &catalogv1.JournalTrouble{Points: []*catalogv1.JournalPoint{{CompleteTime: timestamppb.Now()}}}}
		change(m)
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, damage := range []string{
		"rubbish", strings.Repeat("x", 1<<20), "\x12\x02\x08\x01", // the last one is a drill without a verdict
		hostile(func(m *catalogv1.Journal) { m.Drill.Base = "--from=file:///elsewhere" }),
		hostile(func(m *catalogv1.Journal) { m.Drill.Verdict.Time = nil }),
		hostile(func(m *catalogv1.Journal) { m.Drill.Revision = -1 }),
		hostile(func(m *catalogv1.Journal) { m.Breaks[0].AfterRevision = math.MaxInt64 }),
		hostile(func(m *catalogv1.Journal) { m.Breaks[0].BeforeRevision = -7 }),
		hostile(func(m *catalogv1.Journal) { m.Trouble.Points[0].Damaged = -7 }),
		hostile(func(m *catalogv1.Journal) { m.Trouble.Points[0].CompleteTime.Nanos = -7 }),
	} {
		put(t, client, notesKey, damage)
		log.Reset()
		if notes, err := c.JournalNotes(t.Context()); err == nil || len(notes.Breaks) > 0 || notes.Drill != nil || notes.Trouble != nil {
			t.Errorf("%.20q is %+v, %v", damage, notes, err)
		}
		if err := c.AmendJournalNotes(t.Context(), func(*snapshot.JournalNotes) {}); err != nil {
			t.Errorf("%.20q is not replaced: %v", damage, err)
		}
		if notes, err := c.JournalNotes(t.Context()); err != nil || len(notes.Breaks) > 0 {
			t.Errorf("%.20q becomes %+v, %v", damage, notes, err)
		}
		if !strings.Contains(log.String(), notesKey) {
			t.Errorf("%.20q: the log has %s", damage, log.String())
		}
		if err := c.AmendJournalNotes(t.Context(), func(n *snapshot.JournalNotes) { *n = noted("t") }); err != nil {
			t.Errorf("%.20q is not replaced: %v", damage, err)
		}
	}
	v, _ := value(t, client, notesKey)
	put(t, client, notesKey, v+string(newer("notes")))
	err := c.AmendJournalNotes(t.Context(), func(n *snapshot.JournalNotes) {
		for range 2 * snapshot.MaxJournalBreaks {
			n.Breaks = append(n.Breaks, noted("later").Breaks[0])
		}
		n.Breaks[len(n.Breaks)-1].Reason = strings.Repeat("é", 1<<20)
	})
	if err != nil {
		t.Fatal(err)
	}
	v, _ = value(t, client, notesKey)
	var m catalogv1.Journal
	if err := proto.Unmarshal([]byte(v), &m); err != nil || string(m.ProtoReflect().GetUnknown()) != string(newer("notes")) ||
		len(m.GetBreaks()) != snapshot.MaxJournalBreaks || m.GetBreaks()[0].GetTimeline() != "later" || len(v) > 20_000 {
		t.Errorf("stored are %d bytes, %d breaks, %v", len(v), len(m.GetBreaks()), err)
	}
}

// Of more breaks than are kept, the newest are read: each costs a look through the snapshots.
func TestNotesAboutAJournalAreBoundedWhenTheyAreRead(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client)})
	put(t, client, notesKey, strings.Repeat("\x0a\x00", 100_000)+"\x0a\x03\x0a\x01t")
	notes, err := c.JournalNotes(t.Context())
	if n := len(notes.Breaks); err != nil || n != snapshot.MaxJournalBreaks || notes.Breaks[n-1].Timeline != "t" {
		t.Errorf("%d are read, %v", n, err)
	}
}

// An older leader that changes the notes leaves what it does not know in the breaks and the drill that stay.
func TestNotesAboutAJournalKeepTheFieldsOfALaterVersion(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client)})
	read := func() *catalogv1.Journal {
		m := &catalogv1.Journal{}
		v, _ := value(t, client, notesKey)
		if err := proto.Unmarshal([]byte(v), m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	if err := c.AmendJournalNotes(t.Context(), func(n *snapshot.JournalNotes) { *n = noted("t") }); err != nil {
		t.Fatal(err)
	}
	m := read()
	for _, part := range []proto.Message{m.Breaks[0], m.Drill, m.Drill.Verdict} {
		part.ProtoReflect().SetUnknown(newer("notes"))
	}
	later, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	put(t, client, notesKey, string(later))
	err = c.AmendJournalNotes(t.Context(), func(n *snapshot.JournalNotes) { n.Breaks = append(n.Breaks, noted("u").Breaks[0]) })
	if err != nil {
		t.Fatal(err)
	}
	m = read()
	for _, part := range []proto.Message{m.Breaks[0], m.Drill, m.Drill.Verdict} {
		if string(part.ProtoReflect().GetUnknown()) != string(newer("notes")) {
			t.Errorf("it is gone from %v", part)
		}
	}
	if err := c.AmendJournalNotes(t.Context(), func(n *snapshot.JournalNotes) { n.Drill = noted("u").Drill; n.Drill.Verdict.Passed = true }); err != nil {
		t.Fatal(err)
	}
	if m = read(); len(m.Drill.Verdict.ProtoReflect().GetUnknown()) > 0 || len(m.Drill.ProtoReflect().GetUnknown()) > 0 {
		t.Error("another drill has the fields of the one before")
	}
}
