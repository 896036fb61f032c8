package snapshot

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Reason is the kind of an [Error], for programs. The server gives each a gRPC code; the reasons are part of
// the API (google.rpc.ErrorInfo).
type Reason string

// The reasons.
const (
	ReasonInvalidArgument     Reason = "INVALID_ARGUMENT"      // a field of the request is wrong
	ReasonClusterNotFound     Reason = "CLUSTER_NOT_FOUND"     // no cluster of that name is configured
	ReasonClusterNotOpen      Reason = "CLUSTER_NOT_OPEN"      // the cluster is configured, and could not be opened
	ReasonSnapshotNotFound    Reason = "SNAPSHOT_NOT_FOUND"    // the catalog has no snapshot of that name
	ReasonSaveInProgress      Reason = "SAVE_IN_PROGRESS"      // the cluster is being saved already
	ReasonPageTokenExpired    Reason = "PAGE_TOKEN_EXPIRED"    // the listing's revision has been compacted
	ReasonWatchExpired        Reason = "WATCH_EXPIRED"         // the events after a resume token are not known any more
	ReasonConflict            Reason = "CONFLICT"              // the record was changed, or another snapshot is there
	ReasonEtcdUnavailable     Reason = "ETCD_UNAVAILABLE"      // no member could be read
	ReasonCatalogUnavailable  Reason = "CATALOG_UNAVAILABLE"   // the catalog's etcd does not answer or has no quorum
	ReasonBackendUnavailable  Reason = "BACKEND_UNAVAILABLE"   // the backend does not answer, or with an error of its own
	ReasonBackendAccessDenied Reason = "BACKEND_ACCESS_DENIED" // the backend refuses the credentials or the permission
	ReasonBackendNotFound     Reason = "BACKEND_NOT_FOUND"     // the directory or bucket does not exist
	ReasonBackendWrongStore   Reason = "BACKEND_WRONG_STORE"   // the store's marker is missing or another store's
	ReasonBackendOnOtherNode  Reason = "BACKEND_ON_OTHER_NODE" // a disk of another node: its replica alone reaches it
	ReasonRevisionNotFound    Reason = "REVISION_NOT_FOUND"    // no snapshot holds the revision, or shows that of a time
	ReasonObjectNotFound      Reason = "OBJECT_NOT_FOUND"      // the backend has no object under the key
	ReasonObjectExists        Reason = "OBJECT_EXISTS"         // the backend has an object under the key already
	ReasonPinned              Reason = "PINNED"                // it is pinned, and not to be deleted
	ReasonObjectLocked        Reason = "OBJECT_LOCKED"         // the bucket's object lock protects it
	ReasonEtagMismatch        Reason = "ETAG_MISMATCH"         // the record is not the one that was read
	ReasonNoSpace             Reason = "NO_SPACE"              // the spool's disk or the backend is full
	ReasonChecksumMismatch    Reason = "CHECKSUM_MISMATCH"     // the bytes are not those that were sent or stored
	ReasonSnapshotSealed      Reason = "SNAPSHOT_SEALED"       // it is encrypted, and no identity for it is configured
	ReasonManifestUntrusted   Reason = "MANIFEST_UNTRUSTED"    // the manifest is not signed by a trusted key
	ReasonSnapshotUnreadable  Reason = "SNAPSHOT_UNREADABLE"   // the database cannot be read through
	ReasonCopyMissing         Reason = "COPY_MISSING"          // a chosen backend lacked it when its record was made anew
	ReasonCancelled           Reason = "CANCELLED"             // the caller went away, or its deadline passed
	ReasonInterrupted         Reason = "INTERRUPTED"           // the replica that was saving died
	ReasonSlowConsumer        Reason = "SLOW_CONSUMER"         // a watcher did not keep up, or a download was not read
	ReasonLimitReached        Reason = "LIMIT_REACHED"         // the service allows no more of this at a time
	ReasonAuditUnavailable    Reason = "AUDIT_UNAVAILABLE"     // the call cannot be recorded, and each one must be
	ReasonShuttingDown        Reason = "SHUTTING_DOWN"         // the replica stopped before the call had ended
	ReasonConfigChanged       Reason = "CONFIG_CHANGED"        // the clusters of the service changed; call again
	ReasonUnauthenticated     Reason = "UNAUTHENTICATED"       // the caller is not known
	ReasonRoleMissing         Reason = "ROLE_MISSING"          // the caller may not do this with the cluster
	ReasonInternal            Reason = "INTERNAL"              // a defect of the service
)

// retry returns when a retry can help after an error of this reason; 0 when it cannot.
func (r Reason) retry() time.Duration {
	switch r {
	case ReasonSaveInProgress, ReasonInterrupted, ReasonConflict, ReasonLimitReached:
		return 5 * time.Second
	case ReasonEtcdUnavailable, ReasonCatalogUnavailable, ReasonBackendUnavailable, ReasonCopyMissing,
		ReasonChecksumMismatch:
		return 10 * time.Second
	case ReasonConfigChanged:
		return time.Second
	case ReasonNoSpace, ReasonAuditUnavailable:
		return time.Minute
	default:
		return 0
	}
}

// Sentinels of the ports. Adapters wrap them; the domain branches on them with errors.Is.
var (
	// ErrNotFound: the object or record does not exist, and the backend or catalog said so itself.
	ErrNotFound = errors.New("not found")
	// ErrExists: a record of that name, or an object under that key, exists already.
	ErrExists = errors.New("exists already")
	// ErrConflict: the record was changed since it was read.
	ErrConflict = errors.New("changed meanwhile")
	// ErrLocked: another save holds the cluster's lock.
	ErrLocked = errors.New("locked")
)

// Error is an error that an operator or a program can act on. [Reason.New] makes one.
type Error struct {
	Reason  Reason
	Backend string        // the backend that failed, if one did
	Field   string        // the request's field that is wrong, if one is
	Choices []string      // the names that exist, when one of them was to be given; may be empty
	Message string        // what was tried, on what; lower case, no full stop
	Hint    string        // what to do about it; may be empty
	Retry   time.Duration // when a retry can help; 0 when it cannot
	Err     error         // the cause; may be nil
}

// New returns an error of this reason. The message says what was tried, on what; the reason decides about a retry.
func (r Reason) New(format string, args ...any) *Error {
	return &Error{Reason: r, Message: fmt.Sprintf(format, args...), Retry: r.retry()}
}

// On sets the backend that failed.
func (e *Error) On(backend string) *Error { e.Backend = backend; return e }

// Because sets the cause.
func (e *Error) Because(cause error) *Error { e.Err = cause; return e }

// Advise sets the hint for the operator.
func (e *Error) Advise(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// Final says that a retry cannot help, though the reason alone would allow one.
func (e *Error) Final() *Error { e.Retry = 0; return e }

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

// ErrorType returns the reason, as traces name the class of an error.
func (e *Error) ErrorType() string { return string(e.Reason) }

// ReasonOf returns the reason of the outermost [Error] in err's tree, or ReasonInternal.
func ReasonOf(err error) Reason {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	return ReasonInternal
}

// BackendOf returns the backend that the outermost [Error] in err's tree names; empty when there is none.
func BackendOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Backend
	}
	return ""
}

// IsNotFound reports whether a backend or catalog said that the object or record does not exist.
func IsNotFound(err error) bool { return errors.Is(err, ErrNotFound) }

// IsDamage reports whether an error says that a copy is not the snapshot that it should be.
func IsDamage(err error) bool {
	switch ReasonOf(err) {
	case ReasonChecksumMismatch, ReasonSnapshotUnreadable, ReasonManifestUntrusted:
		return true
	default:
		return false
	}
}

// IsOfBackend reports whether an error is one of a backend as a whole, so that the next object would fail there, too.
// Errors of a single object, such as a name that the server refuses, must not keep the rest from being copied.
func IsOfBackend(err error, backend string) bool {
	if BackendOf(err) != backend {
		return false
	}
	switch ReasonOf(err) {
	case ReasonBackendUnavailable, ReasonBackendAccessDenied, ReasonBackendNotFound, ReasonBackendWrongStore,
		ReasonNoSpace:
		return true
	default:
		return false
	}
}

// Invalid returns the error for a field of a request. The text gives the wrong value, and the allowed ones.
func Invalid(field, format string, args ...any) *Error {
	e := ReasonInvalidArgument.New("%s: %s", field, fmt.Sprintf(format, args...))
	e.Field = field
	return e
}

// Cancelled returns the error for a call whose context is done.
func Cancelled(ctx context.Context, format string, args ...any) *Error {
	return ReasonCancelled.New(format, args...).Because(context.Cause(ctx))
}
