package catalog_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	catalogv1 "github.com/snapshotd/snapshotd/proto/snapshotd/catalog/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// How a scrub has ended is known to all replicas, and when it was due is what the leader has noted.
func TestHowAScrubHasEndedIsKnownToAllReplicas(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	one, two := open(t, catalog.Config{Connect: connect(client)}), open(t, catalog.Config{Connect: connect(client)})
	read := func() snapshot.ScrubNote {
		t.Helper()
		note, err := two.Scrubbed(t.Context(), "@scrub")
		if err != nil {
			t.Fatal(err)
		}
		return note
	}
	if note := read(); note != (snapshot.ScrubNote{}) {
		t.Errorf("at first it is %+v", note)
	}
	due := time.Unix(1_784_203_200, 0).UTC()
	ctx, end := context.WithCancel(t.Context())
	_ = one.Lead(ctx, "me", func(ctx context.Context, term *catalog.Term) {
		defer end()
		if err := term.PutLastDue(ctx, "@scrub", due); err != nil {
			t.Error(err)
		}
	})
	if note := read(); !note.Due.Equal(due) || !note.Time.IsZero() {
		t.Errorf("when the term began, it is %+v", note)
	}
	failed := snapshot.ScrubNote{Due: due, Time: due.Add(time.Hour), Error: "no space is left\naccess denied"}
	if err := one.NoteScrub(t.Context(), failed); err != nil {
		t.Fatal(err)
	}
	if note := read(); note != failed {
		t.Errorf("after one that failed, it is %+v", note)
	}
	if err := one.NoteScrub(t.Context(), snapshot.ScrubNote{Time: due, Error: strings.Repeat("é", 1<<20)}); err != nil {
		t.Fatal(err)
	}
	if note := read(); !note.Time.Equal(due) || len(note.Error) > 4096 || !strings.HasPrefix(note.Error, "éé") {
		t.Errorf("after a long error, it has %d bytes", len(note.Error))
	}
	if err := one.NoteScrub(t.Context(), snapshot.ScrubNote{Time: due}); err != nil {
		t.Fatal(err)
	}
	if note := read(); note.Error != "" || !note.Time.Equal(due) {
		t.Errorf("after a good one, it is %+v", note)
	}
}

// Whoever can write to etcd can put anything there: it is left out.
func TestANoteAboutAScrubThatIsDamagedIsNone(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client)})
	untimed, err := proto.Marshal(&catalogv1.Scrub{Error: "x"})
	if err != nil {
		t.Fatal(err)
	}
	never, err := proto.Marshal(&catalogv1.Scrub{Time: &timestamppb.Timestamp{Nanos: -7}})
	if err != nil {
		t.Fatal(err)
	}
	put(t, client, prefix+"schedules/@scrub", "rubbish")
	for _, damage := range []string{"", "rubbish", strings.Repeat("x", 1<<20), string(untimed), string(never)} {
		put(t, client, prefix+"scrub", damage)
		if note, err := c.Scrubbed(t.Context(), "@scrub"); err != nil || note != (snapshot.ScrubNote{}) {
			t.Errorf("%.20q is %+v, %v", damage, note, err)
		}
	}
}
