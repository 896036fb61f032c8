package daemon

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
)

// The clusters of a fleet have one cron, from the defaults.
func TestAScrubHasTheJitterOfItsConfiguration(t *testing.T) {
	cfg := &config.Cluster{Scrub: config.Scrub{Cron: "@weekly", Jitter: 2 * time.Hour, Drill: true}}
	scrubs, err := scrubsOf(cfg, nil)
	if err != nil || len(scrubs) != 1 || scrubs[0].Jitter != 2*time.Hour {
		t.Errorf("the scrubs are %+v, %v", scrubs, err)
	}
}

// TestAScrubNotesHowItHasEnded unless it ended with the term of the leader, whose successor makes it again.
func TestAScrubNotesHowItHasEnded(t *testing.T) {
	client := embedded.StartEtcd(t).Client(t)
	c := catalog.New(catalog.Config{Cluster: "default", Connect: func(context.Context) (*clientv3.Client, error) { return client, nil }})
	f := facts{catalog: c}
	for _, tc := range []struct {
		what string
		err  error
		over bool
		want string
	}{
		{"it fails", errors.New("no space is left"), false, "no space is left"},
		{"the term ends", errors.New("the term is over"), true, "no space is left"},
		{"it finds all good", nil, false, ""},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		scrub := noted(c.NoteScrub, slog.New(slog.DiscardHandler), func(context.Context, cluster.Scrub) error {
			if tc.over {
				cancel()
			}
			return tc.err
		})
		if err := scrub(ctx, cluster.Scrub{}); !errors.Is(err, tc.err) {
			t.Errorf("%s: it returns %v", tc.what, err)
		}
		cancel()
		if note, err := f.Scrubbed(t.Context()); err != nil || note.Error != tc.want || note.Time.IsZero() {
			t.Errorf("%s: the note is %+v, %v", tc.what, note, err)
		}
	}
}
