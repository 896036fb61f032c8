// Package rest serves the API as JSON over HTTP: it refuses what must not come in that way, hands the others on to the
// gRPC service, and makes answers and errors of what comes back.
package rest

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server/stall"
)

// MaxRequest is far above the largest request that is valid: 64 labels of 318 bytes.
const MaxRequest = 256 << 10

// Config of the API. Every field is needed.
type Config struct {
	Conn               *grpc.ClientConn // to the gRPC service
	GRPCAddr, HTTPAddr net.Addr         // of the ports
	NeedsCertificate   func() bool      // whether clients need a certificate that was verified
	SocketOnly         func() bool      // whether only those who may open the gRPC socket may call
	Stall              time.Duration    // how long a client may leave an answer untaken

	// Enter finds out who asks. The context that it returns is that of the request with the caller in it, and leave is
	// called at the end. When it is not ok, it has answered.
	Enter func(http.ResponseWriter, *http.Request) (ctx context.Context, leave func(), ok bool)
	// Metadata returns what the call has beside the request, which has the context of Enter.
	Metadata func(*http.Request) metadata.MD
}

// API serves the RPCs as JSON under /v1/.
type API struct {
	mux   *runtime.ServeMux
	guard *guard
	stall time.Duration
	enter func(http.ResponseWriter, *http.Request) (ctx context.Context, leave func(), ok bool)
}

// New returns the API. It does no I/O.
func New(ctx context.Context, cfg Config) (*API, error) {
	none := func(string) (string, bool) { return "", false }
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, newJSONLines()),
		runtime.WithIncomingHeaderMatcher(traceHeader),
		runtime.WithOutgoingHeaderMatcher(none),
		runtime.WithOutgoingTrailerMatcher(none),
		runtime.WithMetadata(func(_ context.Context, r *http.Request) metadata.MD { return cfg.Metadata(r) }),
		runtime.WithMiddlewares(agreeing),
		runtime.WithForwardResponseOption(sendHeaders),
		runtime.WithErrorHandler(handleError),
		runtime.WithStreamErrorHandler(handleStreamError),
		runtime.WithRoutingErrorHandler(handleRoutingError),
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithDisableChunkedEncoding(), // the HTTP server adds it where the protocol has it
	)
	err := snapshotdv1.RegisterSnapshotServiceHandlerClient(ctx, mux, snapshotdv1.NewSnapshotServiceClient(cfg.Conn))
	if err == nil {
		err = snapshotdv1.RegisterClusterServiceHandlerClient(ctx, mux, snapshotdv1.NewClusterServiceClient(cfg.Conn))
	}
	return &API{mux: mux, guard: newGuard(cfg), stall: cfg.Stall, enter: cfg.Enter}, err
}

// Check returns why a request to the API, or to a page that shows what the API says, is refused.
func (a *API) Check(r *http.Request) error { return a.guard.check(r) }

// ServeHTTP implements [http.Handler].
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := a.guard.check(r); err != nil {
		Refuse(w, err)
		return
	}
	ctx, leave, ok := a.enter(w, r)
	if !ok {
		return
	}
	defer leave()
	if err := takeBody(w, r); err != nil {
		Refuse(w, err)
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r = r.WithContext(ctx) //nolint:contextcheck // ctx is that of r, with the caller in it
	a.mux.ServeHTTP(stall.New(w, a.stall, cancel), r)
}

// Refuse answers a request that does not become a call, with the error of [API.Check] or another one.
func Refuse(w http.ResponseWriter, err error) {
	var r *refusal
	if !errors.As(err, &r) {
		r = refuse(http.StatusBadRequest, reasonBadRequest, "%v", err)
	}
	WriteStatus(w, r.http, r.status())
}

// traceHeader lets only the headers of a trace through to gRPC: other metadata is for programs that speak gRPC.
func traceHeader(name string) (string, bool) {
	switch name = strings.ToLower(name); name {
	case "traceparent", "tracestate", "baggage":
		return name, true
	}
	return "", false
}

// sendHeaders sends the headers of a stream as soon as those of gRPC have arrived: from then on a watcher misses
// nothing. A call that ended earlier has none, and its error decides the HTTP code.
func sendHeaders(ctx context.Context, w http.ResponseWriter, m proto.Message) error {
	md, ok := runtime.ServerMetadataFromContext(ctx)
	if m != nil || !ok || md.HeaderMD == nil {
		return nil
	}
	w.Header().Set("Content-Type", streamType)
	w.WriteHeader(http.StatusOK)
	return http.NewResponseController(w).Flush()
}
