package wire

import (
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Details are the parts of a status of the service beside its code and message.
type Details struct {
	Reason   snapshot.Reason       // empty when the status is not one of the service's, such as that of a lost connection
	Backend  string                // that failed
	Cluster  string                // that was asked for
	Field    string                // of the request, that is wrong
	Choices  []string              // the names that exist, when one of them was to be given; may be empty
	Retry    time.Duration         // when a retry can help; 0 when it cannot
	Snapshot *snapshotdv1.Snapshot // the snapshot that exists in spite of the error; may be nil

	Reconciled *snapshotdv1.ReconcileResponse // what was reconciled in spite of the error; may be nil
	// The copies that a prune removed in spite of the error, and why others could not be removed, as far as there is room;
	// may be nil.
	Pruned *snapshotdv1.PruneResponse
}

// DetailsOf returns the details of a status that [Status] made, on the client's side.
func DetailsOf(err error) Details {
	var d Details
	st, _ := status.FromError(err)
	for _, detail := range st.Details() {
		switch m := detail.(type) {
		case *errdetails.ErrorInfo:
			if m.GetDomain() == Domain {
				d.Reason = snapshot.Reason(m.GetReason())
				d.Backend, d.Cluster = m.GetMetadata()[metadataBackend], m.GetMetadata()[metadataCluster]
				if choices := m.GetMetadata()[metadataChoices]; choices != "" {
					d.Choices = strings.Split(choices, ",")
				}
			}
		case *errdetails.RetryInfo:
			d.Retry = m.GetRetryDelay().AsDuration()
		case *errdetails.BadRequest:
			for _, v := range m.GetFieldViolations() {
				d.Field = v.GetField()
			}
		case *snapshotdv1.Snapshot:
			d.Snapshot = m
		case *snapshotdv1.ReconcileResponse:
			d.Reconciled = m
		case *snapshotdv1.PruneResponse:
			d.Pruned = m
		}
	}
	return d
}
