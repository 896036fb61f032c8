package daemon

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/journal/keeping"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/journal/upkeep"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

// TestAWindowIsPartialWithoutABackendThatIsNotMounted although that looks empty: what it holds is not known, and not
// lost.
func TestAWindowIsPartialWithoutABackendThatIsNotMounted(t *testing.T) {
	client := embedded.StartEtcd(t).Client(t)
	c := catalog.New(catalog.Config{Cluster: "default", Connect: func(context.Context) (*clientv3.Client, error) { return client, nil }})
	at := time.Now().Add(-time.Hour).Truncate(time.Second)
	mount := func(name string) upkeep.Place {
		b := memory.New(name, snapshot.BackendS3)
		repo := repository.New(repository.Config{Backend: b, Cluster: "default", Prefix: "default/", Stores: c})
		return upkeep.Place{Repository: repo, Segments: segments.New(segments.Config{Repository: repo})}
	}
	var places []upkeep.Place
	for i, name := range []string{"local", "s3"} { // local has the first and the last revision, s3 the others
		p := mount(name)
		if err := p.Repository.OpenVerified(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		for _, revision := range [][]int64{{30, 33}, {31, 32}}[i] {
			store(t, p, segment.Header{Timeline: segment.NewTimeline(1, at), Level: segment.Level10s}, revision, at)
		}
		places = append(places, p)
	}
	window := func() status.Window {
		j := journal.New(journal.Config{Dir: t.TempDir()})
		k := keeping.New(keeping.Config{Journal: j, Places: places, Logger: slog.New(slog.DiscardHandler)})
		w, err := facts{catalog: c, following: &following{journal: j, keeper: k}}.Window(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w.PutBases()
		return w
	}
	if w := window(); w.Partial || len(w.Timelines) != 1 || len(w.Timelines[0].Ranges) != 1 || len(w.Gaps)+len(w.Unread) > 0 {
		t.Errorf("with both backends, it is %+v", w)
	}
	places[1] = mount("s3") // what is below the mount
	w := window()
	if !w.Partial || len(w.Gaps) > 0 || len(w.Unread) != 2 || !strings.Contains(w.Unread[0], `backend "s3"`) ||
		!strings.Contains(w.Unread[1], "31 to 32") {
		t.Errorf("without s3, lost are %v, and not read is %q", w.Gaps, w.Unread)
	}
}

// store puts a segment of one revision on a backend.
func store(t *testing.T, p upkeep.Place, h segment.Header, revision int64, at time.Time) {
	t.Helper()
	b, err := segment.NewBuilder(h)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Add(segment.Revision{Main: revision, Time: at, Records: []segment.Record{{Value: []byte("x")}}}); err != nil {
		t.Fatal(err)
	}
	s, err := b.Seal()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Segments.Put(t.Context(), s); err != nil {
		t.Fatal(err)
	}
}
