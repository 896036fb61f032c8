package wire

import (
	"context"
	"errors"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Domain is the domain of every google.rpc.ErrorInfo that the service sends.
const Domain = "snapshotd"

// Keys of the metadata of an ErrorInfo.
const (
	metadataBackend = "backend" // the backend that failed
	metadataCluster = "cluster" // the cluster that was asked for
	metadataChoices = "choices" // the names that exist, separated by commas, when one of them was to be given
)

// codeOf gives every reason its code.
var codeOf = map[snapshot.Reason]codes.Code{
	snapshot.ReasonInvalidArgument:     codes.InvalidArgument,
	snapshot.ReasonClusterNotFound:     codes.NotFound,
	snapshot.ReasonClusterNotOpen:      codes.Unavailable,
	snapshot.ReasonSnapshotNotFound:    codes.NotFound,
	snapshot.ReasonSaveInProgress:      codes.Aborted,
	snapshot.ReasonPageTokenExpired:    codes.Aborted,
	snapshot.ReasonWatchExpired:        codes.Aborted,
	snapshot.ReasonConflict:            codes.Aborted,
	snapshot.ReasonInterrupted:         codes.Aborted,
	snapshot.ReasonEtcdUnavailable:     codes.Unavailable,
	snapshot.ReasonCatalogUnavailable:  codes.Unavailable,
	snapshot.ReasonBackendUnavailable:  codes.Unavailable,
	snapshot.ReasonCopyMissing:         codes.Unavailable,
	snapshot.ReasonShuttingDown:        codes.Unavailable,
	snapshot.ReasonConfigChanged:       codes.Unavailable,
	snapshot.ReasonBackendAccessDenied: codes.FailedPrecondition,
	snapshot.ReasonBackendNotFound:     codes.FailedPrecondition,
	snapshot.ReasonBackendWrongStore:   codes.FailedPrecondition,
	snapshot.ReasonBackendOnOtherNode:  codes.FailedPrecondition,
	snapshot.ReasonRevisionNotFound:    codes.NotFound,
	snapshot.ReasonObjectNotFound:      codes.FailedPrecondition, // NotFound is for names in a request
	snapshot.ReasonObjectExists:        codes.AlreadyExists,
	snapshot.ReasonPinned:              codes.FailedPrecondition,
	snapshot.ReasonSnapshotSealed:      codes.FailedPrecondition,
	snapshot.ReasonObjectLocked:        codes.FailedPrecondition,
	snapshot.ReasonEtagMismatch:        codes.Aborted,
	snapshot.ReasonNoSpace:             codes.ResourceExhausted,
	snapshot.ReasonSlowConsumer:        codes.ResourceExhausted,
	snapshot.ReasonLimitReached:        codes.ResourceExhausted,
	snapshot.ReasonAuditUnavailable:    codes.Unavailable,
	snapshot.ReasonChecksumMismatch:    codes.DataLoss,
	snapshot.ReasonSnapshotUnreadable:  codes.DataLoss,
	snapshot.ReasonManifestUntrusted:   codes.DataLoss,
	snapshot.ReasonCancelled:           codes.Canceled,
	snapshot.ReasonUnauthenticated:     codes.Unauthenticated,
	snapshot.ReasonRoleMissing:         codes.PermissionDenied,
	snapshot.ReasonInternal:            codes.Internal,
}

// Status returns an error as the API shows it: the code of its reason, exactly one ErrorInfo, RetryInfo where a retry
// can help, BadRequest where a field is wrong, and the snapshot where there is one in spite of the error. Cluster and s
// may be empty. It is OK when err is nil.
//
// The status fits the 8 KiB of headers that some clients take: a text that is too long loses its middle, and a snapshot
// that is too large its labels, and then the URIs of its locations, which Get has.
func Status(err error, cluster string, s *snapshot.Snapshot) *status.Status {
	if err == nil {
		return status.New(codes.OK, "")
	}
	if s == nil {
		return statusOf(errorOf(err), err, cluster)
	}
	return statusOf(errorOf(err), err, cluster, shrink(SnapshotToProto(s)))
}

// ReconcileStatus returns the error of a reconciliation as [Status] does, with what was found in spite of it, as far as
// there is room for that. It changes found.
func ReconcileStatus(err error, cluster string, found *snapshotdv1.ReconcileResponse) *status.Status {
	if found = shrinkReconciled(found); found == nil {
		return statusOf(errorOf(err), err, cluster)
	}
	return statusOf(errorOf(err), err, cluster, found)
}

// PruneStatus returns the error of a prune as [Status] does, with its decisions about the copies that it removed in
// spite of it, and about those that it could not remove, as far as there is room for them. It changes decided.
func PruneStatus(err error, cluster string, decided *snapshotdv1.PruneResponse) *status.Status {
	if len(shrinkPruned(decided).GetDecisions()) == 0 {
		return statusOf(errorOf(err), err, cluster)
	}
	return statusOf(errorOf(err), err, cluster, decided)
}

// stopRetry is when a call that a shutdown ended can be tried again.
const stopRetry = 5 * time.Second

// ShuttingDown is the error of a call that ended with err because the service stops. Another replica can serve the
// call, or this one after a restart. The retry is set here: the reason alone gives none.
func ShuttingDown(err error) *snapshot.Error {
	e := snapshot.ReasonShuttingDown.New("the service is shutting down").Because(err)
	e.Retry = stopRetry
	return e
}

// statusOf returns the status of err whose details are e's, and more, which fit.
func statusOf(e *snapshot.Error, err error, cluster string, more ...proto.Message) *status.Status {
	info := &errdetails.ErrorInfo{Reason: string(e.Reason), Domain: Domain, Metadata: map[string]string{}}
	setName(info.Metadata, metadataBackend, e.Backend)
	setName(info.Metadata, metadataCluster, cluster)
	setChoices(info.Metadata, e.Choices)
	details := []protoadapt.MessageV1{protoadapt.MessageV1Of(info)}
	if e.Retry > 0 {
		details = append(details, protoadapt.MessageV1Of(&errdetails.RetryInfo{RetryDelay: durationpb.New(e.Retry)}))
	}
	if e.Field != "" {
		violation := &errdetails.BadRequest_FieldViolation{
			Field:       shorten(e.Field, maxName),
			Description: shorten(strings.TrimPrefix(e.Message, e.Field+": "), maxText),
		}
		details = append(details, protoadapt.MessageV1Of(&errdetails.BadRequest{
			FieldViolations: []*errdetails.BadRequest_FieldViolation{violation},
		}))
	}
	for _, m := range more {
		details = append(details, protoadapt.MessageV1Of(m))
	}
	st := status.New(statusCode(e, err), shorten(err.Error(), maxMessage))
	full, derr := st.WithDetails(details...)
	if derr != nil {
		return st // only when a detail cannot be encoded; the text is all that is left
	}
	return full
}

// errorOf returns the outermost [snapshot.Error] of err, or one with the best reason for an error of another type.
func errorOf(err error) *snapshot.Error {
	if e, ok := errors.AsType[*snapshot.Error](err); ok {
		return e
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return snapshot.ReasonCancelled.New("")
	}
	return snapshot.ReasonInternal.New("")
}

func statusCode(e *snapshot.Error, err error) codes.Code {
	if e.Reason == snapshot.ReasonCancelled && errors.Is(err, context.DeadlineExceeded) {
		return codes.DeadlineExceeded
	}
	if code, ok := codeOf[e.Reason]; ok {
		return code
	}
	return codes.Internal
}

func setName(m map[string]string, key, name string) {
	if name != "" {
		m[key] = shorten(name, maxName)
	}
}

// setChoices sets as many names as there is room for. A status with choices has no snapshot.
func setChoices(m map[string]string, names []string) {
	for i := range names {
		if text := strings.Join(names[:i+1], ","); len(text) <= maxMessage {
			m[metadataChoices] = text
		}
	}
}
