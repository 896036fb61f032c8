package keeping

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	catalogmemory "github.com/snapshotd/snapshotd/catalog/memory"
	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/journal/upkeep"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/snapshot"
)

// newPlace returns a place with a new backend. It is another store than one of the same name before it.
func newPlace(name string, stores repository.Stores) upkeep.Place {
	repo := repository.New(repository.Config{
		Backend: memory.New(name, snapshot.BackendS3), Cluster: "default", Prefix: "default/", Stores: stores,
	})
	return upkeep.Place{Repository: repo, Segments: segments.New(segments.Config{Repository: repo})}
}

// store puts a segment of one revision on a backend, and returns it.
func store(t *testing.T, p upkeep.Place, h segment.Header, revision int64, at time.Time) *segment.Segment {
	t.Helper()
	b, err := segment.NewBuilder(h)
	must(t, err)
	must(t, b.Add(segment.Revision{Main: revision, Time: at, Records: []segment.Record{{Value: []byte("x")}}}))
	s, err := b.Seal()
	must(t, err)
	must(t, p.Segments.Put(t.Context(), s))
	return s
}

// TestAWindowIsNotOfABackendThatIsNotMounted although that looks empty.
func TestAWindowIsNotOfABackendThatIsNotMounted(t *testing.T) {
	stores := catalogmemory.New(nil)
	at := time.Now().Add(-time.Hour).Truncate(time.Second)
	h := segment.Header{Timeline: segment.NewTimeline(1, at), Level: segment.Level10s}
	var places []upkeep.Place
	for i, name := range []string{"local", "s3"} { // local has the first and the last revision, s3 the others
		p := newPlace(name, stores)
		must(t, p.Repository.OpenVerified(t.Context(), true))
		for _, revision := range [][]int64{{30, 33}, {31, 32}}[i] {
			store(t, p, h, revision, at)
		}
		places = append(places, p)
	}
	window := func() journal.Window {
		return New(Config{Places: places, Logger: slog.New(slog.DiscardHandler)}).Window(t.Context())
	}
	if w := window(); len(w.Timelines) != 1 || len(w.Timelines[0].Ranges) != 1 || w.Partial || len(w.Unread) > 0 {
		t.Errorf("with both backends, it is %+v", w)
	}
	places[1] = newPlace("s3", stores) // what is below the mount
	w := window()
	if len(w.Timelines) != 1 || len(w.Timelines[0].Ranges) != 2 || !w.Partial || len(w.Unread) != 1 || !strings.Contains(w.Unread[0].Error(), `backend "s3"`) {
		t.Errorf("without s3, it is %+v", w)
	}
	places[0] = newPlace("local", stores)
	if w := window(); len(w.Timelines) > 0 || !w.Partial || len(w.Unread) != 2 {
		t.Errorf("without any, it is %+v", w)
	}
}
