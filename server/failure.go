package server

import (
	"context"
	"errors"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// failure is an error with the facts that only the handler knows.
type failure struct {
	error
	cluster  string
	snapshot *snapshot.Snapshot // the copies that exist in spite of the error; may be nil

	reconciled *snapshotdv1.ReconcileResponse // in spite of the error; may be nil
	pruned     *snapshotdv1.PruneResponse     // of a prune that removed nothing, or ended early; may be nil
}

// Unwrap returns the error.
func (f *failure) Unwrap() error { return f.error }

// errStopping is the cause of the contexts of calls that the server ends because it stops.
var errStopping = errors.New("the service is shutting down")

func cancelled(err error) bool {
	return snapshot.ReasonOf(err) == snapshot.ReasonCancelled || errors.Is(err, context.Canceled) ||
		errors.Is(err, errStopping)
}
