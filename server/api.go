package server

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server/socket"
	"github.com/snapshotd/snapshotd/server/stall"
)

// api serves the RPCs as JSON under /v1/.
type api struct {
	mux   *runtime.ServeMux
	guard *guard
	stall time.Duration
	enter func(http.ResponseWriter, *http.Request) (ctx context.Context, leave func(), ok bool)
}

func (s *Server) newAPI(ctx context.Context) (*api, error) {
	g := newGuard(s.grpcListener.Addr(), s.httpListener.Addr())
	g.certificate = func() bool { return s.cfg.TLS.ClientCAFile != "" && s.auth.Access() == nil }
	g.socketOnly = func() bool { return socket.Is(s.cfg.GRPCAddr) && s.auth.Access() == nil }
	none := func(string) (string, bool) { return "", false }
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, newJSONLines()),
		runtime.WithIncomingHeaderMatcher(traceHeader),
		runtime.WithOutgoingHeaderMatcher(none),
		runtime.WithOutgoingTrailerMatcher(none),
		runtime.WithMetadata(func(ctx context.Context, r *http.Request) metadata.MD {
			key, _ := ctx.Value(callerKey{}).(string)
			return metadata.Pairs(httpPeerKey, r.RemoteAddr, callerMetadata, key)
		}),
		runtime.WithForwardResponseOption(sendHeaders),
		runtime.WithErrorHandler(handleError),
		runtime.WithStreamErrorHandler(handleStreamError),
		runtime.WithRoutingErrorHandler(handleRoutingError),
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithDisableChunkedEncoding(), // the HTTP server adds it where the protocol has it
	)
	err := snapshotdv1.RegisterSnapshotServiceHandlerClient(ctx, mux, snapshotdv1.NewSnapshotServiceClient(s.conn))
	if err == nil {
		err = snapshotdv1.RegisterClusterServiceHandlerClient(ctx, mux, snapshotdv1.NewClusterServiceClient(s.conn))
	}
	return &api{mux: mux, guard: g, stall: s.cfg.StallTimeout, enter: s.enter}, err
}

// ServeHTTP implements [http.Handler].
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := a.guard.check(r); err != nil {
		writeRefusal(w, err)
		return
	}
	ctx, leave, ok := a.enter(w, r)
	if !ok {
		return
	}
	defer leave()
	if err := takeBody(w, r); err != nil {
		writeRefusal(w, err)
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a.mux.ServeHTTP(stall.New(w, a.stall, cancel), r.WithContext(ctx)) //nolint:contextcheck // ctx is that of r, with the caller in it
}

// writeRefusal answers a request that does not become a call.
func writeRefusal(w http.ResponseWriter, err error) {
	var r *refusal
	if !errors.As(err, &r) {
		r = refuse(http.StatusBadRequest, reasonBadRequest, "%v", err)
	}
	writeStatus(w, r.http, r.status())
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
