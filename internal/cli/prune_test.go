package cli_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// What was removed before the service ended a prune is shown beside the error, and is no success.
func TestPruneThatWasEndedShowsWhatIsGone(t *testing.T) {
	denied := snapshot.ReasonBackendAccessDenied.New("permission denied").On("s3")
	decided := func(name string, err error) *snapshotdv1.PruneDecision {
		return wire.DecisionToProto("default", cluster.Decision{
			Name: name, Backend: "s3", CreateTime: now, Size: 2048, Why: "no rule keeps it", Err: err,
		})
	}
	ended := error(wire.ShuttingDown(context.Canceled))
	env := serve(t, &fake{prune: func(context.Context, *snapshotdv1.PruneRequest) (*snapshotdv1.PruneResponse, error) {
		err := fmt.Errorf("removed before the prune ended: 1; %w", ended)
		return nil, wire.PruneStatus(err, "default", &snapshotdv1.PruneResponse{
			Decisions: []*snapshotdv1.PruneDecision{decided("a", denied), decided("b", nil)},
		}).Err()
	}})
	r := run(t.Context(), env, "prune")
	want := "error: removed before the prune ended: 1; the service is shutting down"
	if r.code != 1 || !strings.HasPrefix(r.stderr, want) {
		t.Errorf("exit code %d, stderr %q", r.code, r.stderr)
	}
	rows := strings.Split(r.stdout, "\n")
	if len(rows) != 4 || !strings.HasPrefix(rows[1], "b ") || !strings.Contains(rows[1], "removed") ||
		!strings.HasPrefix(rows[2], "a ") || !strings.Contains(rows[2], "failed") {
		t.Errorf("it shows:\n%s", r.stdout)
	}

	// The service ends it a little before the deadline of --timeout, and its error is no silence.
	ended = context.DeadlineExceeded
	r = run(t.Context(), env, "prune", "--timeout", "1m")
	if r.code != 1 || !strings.HasPrefix(r.stderr, "error: removed before the prune ended: 1; ") {
		t.Errorf("exit code %d, stderr %q", r.code, r.stderr)
	}
}
