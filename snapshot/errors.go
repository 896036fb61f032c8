package snapshot

import (
	"errors"
	"fmt"
	"time"
)

// Reason says for programs what kind of error an [Error] is. The server gives each a gRPC code; the reasons are part of
// the API (google.rpc.ErrorInfo).
type Reason string

// The reasons.
const (
	ReasonInvalidArgument     Reason = "INVALID_ARGUMENT"      // a field of the request is wrong
	ReasonClusterNotFound     Reason = "CLUSTER_NOT_FOUND"     // no cluster of that name is configured
	ReasonSnapshotNotFound    Reason = "SNAPSHOT_NOT_FOUND"    // the catalog has no snapshot of that name
	ReasonSaveInProgress      Reason = "SAVE_IN_PROGRESS"      // the cluster is being saved already
	ReasonPageTokenExpired    Reason = "PAGE_TOKEN_EXPIRED"    // the listing's revision has been compacted
	ReasonWatchExpired        Reason = "WATCH_EXPIRED"         // what happened after a resume token cannot be told any more
	ReasonConflict            Reason = "CONFLICT"              // the record was changed meanwhile, or something of somebody else is in the place
	ReasonEtcdUnavailable     Reason = "ETCD_UNAVAILABLE"      // no member could be read
	ReasonCatalogUnavailable  Reason = "CATALOG_UNAVAILABLE"   // the catalog's etcd does not answer or has no quorum
	ReasonBackendUnavailable  Reason = "BACKEND_UNAVAILABLE"   // the backend does not answer, or answers with an error of its own
	ReasonBackendAccessDenied Reason = "BACKEND_ACCESS_DENIED" // the backend refuses the credentials or the permission
	ReasonBackendNotFound     Reason = "BACKEND_NOT_FOUND"     // the directory or bucket does not exist
	ReasonBackendWrongStore   Reason = "BACKEND_WRONG_STORE"   // the store's marker is missing or another store's
	ReasonPinned              Reason = "PINNED"                // it is pinned, and not to be deleted
	ReasonObjectLocked        Reason = "OBJECT_LOCKED"         // the bucket's object lock keeps it
	ReasonEtagMismatch        Reason = "ETAG_MISMATCH"         // the record is not the one that was read
	ReasonNoSpace             Reason = "NO_SPACE"              // the spool's disk or the backend is full
	ReasonChecksumMismatch    Reason = "CHECKSUM_MISMATCH"     // the bytes are not the ones that were sent or stored
	ReasonSnapshotSealed      Reason = "SNAPSHOT_SEALED"       // it is encrypted, and no identity for it is at hand
	ReasonManifestUntrusted   Reason = "MANIFEST_UNTRUSTED"    // the manifest is not signed by a key that is trusted
	ReasonSnapshotUnreadable  Reason = "SNAPSHOT_UNREADABLE"   // the database cannot be read through
	ReasonCopyMissing         Reason = "COPY_MISSING"          // a chosen backend did not hold it when its record was made anew
	ReasonCancelled           Reason = "CANCELLED"             // the caller went away, or its deadline passed
	ReasonInterrupted         Reason = "INTERRUPTED"           // the replica that was saving died
	ReasonSlowConsumer        Reason = "SLOW_CONSUMER"         // a watcher did not keep up, or nobody took a download
	ReasonShuttingDown        Reason = "SHUTTING_DOWN"         // the replica stopped before the call had ended
	ReasonInternal            Reason = "INTERNAL"              // a defect of the service
)

// Sentinels of the ports. Adapters wrap them; the domain branches on them with errors.Is.
var (
	// ErrNotFound: the object or record does not exist, and the backend or catalog said so itself.
	ErrNotFound = errors.New("not found")
	// ErrExists: a record of that name, or an object under that key, exists already.
	ErrExists = errors.New("exists already")
	// ErrConflict: the record was changed since it was read.
	ErrConflict = errors.New("changed meanwhile")
	// ErrLocked: somebody else holds the cluster's lock.
	ErrLocked = errors.New("locked")
)

// Error is an error that an operator or a program can act on.
type Error struct {
	Reason  Reason
	Backend string        // the backend that failed, if one did
	Field   string        // the request's field that is wrong, if one is
	Choices []string      // the names that there are, when one of them was to be given; may be empty
	Message string        // what was tried, on what; lower case, no full stop
	Hint    string        // what to do about it; may be empty
	Retry   time.Duration // when a retry can help; 0 when it cannot
	Err     error         // the cause; may be nil
}

// Error returns "message: cause (hint)".
func (e *Error) Error() string {
	s := e.Message
	if e.Err != nil {
		if s != "" {
			s += ": "
		}
		s += e.Err.Error()
	}
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ReasonOf returns the reason of the outermost [Error] in err's tree, or ReasonInternal.
func ReasonOf(err error) Reason {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	return ReasonInternal
}

// Invalid returns the error for a field of a request: what is wrong with which value, and what is allowed.
func Invalid(field, format string, args ...any) *Error {
	return &Error{Reason: ReasonInvalidArgument, Field: field, Message: field + ": " + fmt.Sprintf(format, args...)}
}
