package catalog_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	catalogv1 "github.com/snapshotd/snapshotd/proto/snapshotd/catalog/v1"
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
	for _, damage := range []string{"rubbish", strings.Repeat("x", 1<<20), "\x12\x02\x08\x01"} { // the last one is a drill without a verdict
		put(t, client, notesKey, damage)
		log.Reset()
		if notes, err := c.JournalNotes(t.Context()); err != nil || len(notes.Breaks) > 0 || notes.Drill != nil {
			t.Errorf("%.20q is %+v, %v", damage, notes, err)
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
