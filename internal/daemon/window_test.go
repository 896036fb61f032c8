package daemon

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/journal/keeping"
	"github.com/snapshotd/snapshotd/journal/upkeep"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

// TestAWindowIsPartialWithoutABackendThatIsNotMounted although that looks empty: what it holds is not lost.
func TestAWindowIsPartialWithoutABackendThatIsNotMounted(t *testing.T) {
	client := embedded.StartEtcd(t).Client(t)
	c := catalog.New(catalog.Config{Cluster: "default", Connect: func(context.Context) (*clientv3.Client, error) { return client, nil }})
	mount := func() *repository.Repository {
		b := memory.New("s3", snapshot.BackendS3)
		return repository.New(repository.Config{Backend: b, Cluster: "default", Prefix: "default/", Stores: c})
	}
	window := func(r *repository.Repository) status.Window {
		j := journal.New(journal.Config{Dir: t.TempDir()})
		k := keeping.New(keeping.Config{
			Journal: j, Places: []upkeep.Place{{Repository: r, Segments: segments.New(segments.Config{Repository: r})}},
			Logger: slog.New(slog.DiscardHandler),
		})
		w, err := facts{catalog: c, journal: j, keeper: k}.Window(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	s3 := mount()
	if err := s3.OpenVerified(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if w := window(s3); w.Partial || len(w.Unread) > 0 {
		t.Errorf("with the backend, it is %+v", w)
	}
	if w := window(mount()); !w.Partial || len(w.Unread) != 1 || !strings.Contains(w.Unread[0], `backend "s3"`) {
		t.Errorf("without it, it is %+v", w)
	}
}
