package daemon

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/journal/upkeep"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/snapshot"
)

// A backend that is new is filled in many repairs. That is no error, and each one says what is left.
func TestAFillIsNoError(t *testing.T) {
	var log bytes.Buffer
	k := newKeeper(0, nil, slog.New(slog.NewTextHandler(&log, nil)))
	k.copies.Budget = 1
	for _, name := range []string{"old", "new"} {
		repo := repository.New(repository.Config{Backend: memory.New(name, snapshot.BackendS3), Cluster: "default", Prefix: "default/"})
		k.Places = append(k.Places, upkeep.Place{Repository: repo, Segments: segments.New(segments.Config{Repository: repo})})
	}
	begin := time.Now().Add(-time.Hour)
	timeline := segment.NewTimeline(1, begin)
	h := segment.Header{Timeline: timeline, Level: segment.Level10s}
	for range 3 {
		b, err := segment.NewBuilder(h)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Add(segment.Revision{Main: h.Previous + 1, Time: begin, Records: []segment.Record{{Value: []byte("x")}}}); err != nil {
			t.Fatal(err)
		}
		s, err := b.Seal()
		if err != nil {
			t.Fatal(err)
		}
		if err := k.Places[0].Segments.Put(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		h.Previous, h.PreviousChain = s.Header.Last, s.Header.Chain
	}
	j := journal.New(journal.Config{})
	for i, want := range []bool{true, true, false} {
		log.Reset()
		if more := k.repair(t.Context(), j, timeline); more != want {
			t.Errorf("after repair %d, there is more: %v", i+1, more)
		}
		if strings.Contains(log.String(), "level=ERROR") || strings.Contains(log.String(), "lacking_revisions") != want {
			t.Errorf("repair %d logs:\n%s", i+1, log.String())
		}
	}
}
