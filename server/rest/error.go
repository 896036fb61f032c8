package rest

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/snapshotd/snapshotd/internal/wire"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Reasons that only HTTP has: the request does not become a call.
const (
	reasonBadRequest          = "BAD_REQUEST"          // the form of the request is wrong
	reasonCertificateRequired = "CERTIFICATE_REQUIRED" // there is no client certificate
	reasonCrossOrigin         = "CROSS_ORIGIN"         // the request is from a page of another site
	reasonForeignHost         = "FOREIGN_HOST"         // the Host is not a loopback name
	reasonLocalOnly           = "LOCAL_ONLY"           // the caller could not reach the gRPC port
	reasonNoSuchMethod        = "NO_SUCH_METHOD"       // the path has no such HTTP method
	reasonNoSuchPath          = "NO_SUCH_PATH"         // there is no such path
	reasonNotJSON             = "NOT_JSON"             // the body is of another type
	reasonTooLarge            = "TOO_LARGE"            // the body is too large
)

// refusal is an error of a request that does not become a call.
type refusal struct {
	http    int
	reason  string
	message string
}

func refuse(http int, reason, format string, args ...any) *refusal {
	return &refusal{http: http, reason: reason, message: fmt.Sprintf(format, args...)}
}

// Error implements error.
func (r *refusal) Error() string { return r.message }

func (r *refusal) status() *status.Status {
	code := codes.InvalidArgument
	switch r.http {
	case http.StatusUnauthorized:
		code = codes.Unauthenticated
	case http.StatusForbidden:
		code = codes.PermissionDenied
	case http.StatusNotFound:
		code = codes.NotFound
	case http.StatusMethodNotAllowed:
		code = codes.Unimplemented
	}
	return withReason(status.New(code, r.message), r.reason)
}

func withReason(st *status.Status, reason string) *status.Status {
	full, err := st.WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: wire.Domain})
	if err != nil {
		return st // only for a status that is OK
	}
	return full
}

// statusOfCall returns the status of a call as it is sent. A status of the service is complete. One that was made on
// the way to the service, for a field that cannot be read or a server that is gone, gets a reason here.
func statusOfCall(err error) *status.Status {
	st := status.Convert(err)
	if len(st.Details()) > 0 {
		return st
	}
	switch st.Code() {
	case codes.InvalidArgument:
		return unreadable(st.Message())
	case codes.Unavailable:
		return wire.Status(wire.ShuttingDown(err), "", nil)
	case codes.Canceled, codes.DeadlineExceeded:
		return withReason(st, string(snapshot.ReasonCancelled))
	default:
		return withReason(st, string(snapshot.ReasonInternal))
	}
}

func handleError(
	_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, _ *http.Request, err error,
) {
	st := statusOfCall(err)
	WriteStatus(w, HTTPCode(st), st)
}

func handleStreamError(_ context.Context, err error) *status.Status { return statusOfCall(err) }

func handleRoutingError(
	_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, code int,
) {
	if code == http.StatusMethodNotAllowed {
		Refuse(w, refuse(code, reasonNoSuchMethod, "%.200q cannot be asked with %.20q", r.URL.Path, r.Method))
		return
	}
	Refuse(w, refuse(http.StatusNotFound, reasonNoSuchPath,
		"the API has no path %.200q; try /v1/snapshots", r.URL.Path))
}

// HTTPCode returns the HTTP code of a status.
func HTTPCode(st *status.Status) int { return runtime.HTTPStatusFromCode(st.Code()) }

// WriteStatus answers with an error.
func WriteStatus(w http.ResponseWriter, code int, st *status.Status) {
	for _, d := range st.Details() {
		if retry, ok := d.(*errdetails.RetryInfo); ok {
			w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(retry.GetRetryDelay().AsDuration().Seconds()))))
		}
	}
	b, err := newJSONLines().Marshal(st.Proto())
	if err != nil {
		http.Error(w, "the error cannot be encoded: "+st.Message(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", jsonType)
	w.WriteHeader(code)
	_, _ = w.Write(b) // the client is gone, and nobody can be told
}
