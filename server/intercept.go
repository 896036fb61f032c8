package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server/limits"
	"github.com/snapshotd/snapshotd/snapshot"
)

// The prefixes of the methods whose errors and log are the domain's; health and reflection have their own.
var (
	ours         = "/" + snapshotdv1.SnapshotService_ServiceDesc.ServiceName + "/"
	oursClusters = "/" + snapshotdv1.ClusterService_ServiceDesc.ServiceName + "/"
)

// nameOf returns the name of an RPC of ours, or "".
func nameOf(method string) string {
	for _, prefix := range []string{ours, oursClusters} {
		if name, found := strings.CutPrefix(method, prefix); found {
			return name
		}
	}
	return ""
}

func (s *Server) interceptCall(
	ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler,
) (resp any, err error) {
	c := &call{method: info.FullMethod}
	err = s.intercept(ctx, s.calls, c, func(ctx context.Context) (err error) {
		if err = s.allow(ctx, c, req); err == nil {
			resp, err = handle(ctx, req)
			c.response = resp
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func (s *Server) interceptStream(
	srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler,
) error {
	c := &call{method: info.FullMethod, stream: true}
	return s.intercept(ss.Context(), s.streams, c, func(ctx context.Context) error {
		ctx, done := context.WithCancel(ctx)
		var keeper sync.WaitGroup
		defer keeper.Wait()
		defer done()
		stream := &allowedStream{ServerStream: ss, ctx: ctx, stall: s.cfg.StallTimeout, stalled: make(chan struct{}, 1)}
		stream.allow = func(request any) error {
			if err := s.allow(ctx, c, request); err != nil || c.name() == "" {
				return err
			}
			keeper.Go(func() { s.keepAllowed(ctx, c) })
			return nil
		}
		return s.untilStalled(ctx, c, stream, func(ctx context.Context) error { return handle(srv, stream) })
	})
}

// untilStalled runs the handler of a stream. When the caller has taken nothing for the stall timeout, it returns
// without waiting for the handler: that is in a send, which gRPC ends only after the call has got its status.
func (s *Server) untilStalled(
	ctx context.Context, c *call, stream *allowedStream, handle func(context.Context) error,
) error {
	result := make(chan error, 1)
	s.handlers.Go(func() { result <- s.guard(ctx, c.method, handle) })
	select {
	case err := <-result:
		return err
	case <-stream.stalled:
	}
	err := snapshot.ReasonSlowConsumer.New("the caller took nothing for %v", stream.stall).
		Advise("call again, and read what comes; a watch goes on from its last resume token, a download from its offset")
	c.end(err)
	return err
}

// intercept finds out who calls, runs a handler under both the server's and the caller's context, and turns its error
// into a status.
func (s *Server) intercept(ctx, stop context.Context, c *call, handle func(context.Context) error) error {
	start := time.Now()
	ctx, c.end = context.WithCancelCause(context.WithValue(ctx, callKey{}, c))
	defer c.end(nil)
	defer context.AfterFunc(stop, func() { c.end(context.Cause(stop)) })()

	ctx, err := s.admit(ctx, c)
	if err == nil {
		var end func()
		if end, err = s.startCall(ctx, c); err == nil {
			defer end()
			err = s.guard(ctx, c.method, handle)
		}
	}
	if c.name() == "" && !isRefusal(err) && !limits.IsLimit(err) && snapshot.ReasonOf(err) != snapshot.ReasonSlowConsumer {
		return err
	}
	st := statusOf(ctx, err)
	s.logCall(ctx, c.method, st, time.Since(start), err)
	s.audit(ctx, c, st, time.Since(start))
	s.refused(ctx, st.Err())
	return st.Err()
}

// guard turns a panic of a handler into an error: a defect in one call must not end the others.
func (s *Server) guard(ctx context.Context, method string, handle func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.ErrorContext(ctx, "call panicked", "method", method, "panic", p, "stack", string(debug.Stack()))
			err = snapshot.ReasonInternal.New("the call ended in a defect of the service").
				Advise("its log has the details; please report it")
			if nameOf(method) == "" {
				err = status.Error(codes.Internal, err.Error())
			}
		}
	}()
	return handle(ctx)
}

// statusOf turns every error of a handler into a status.
func statusOf(ctx context.Context, err error) *status.Status {
	f, ok := errors.AsType[*failure](err)
	if !ok {
		f = &failure{}
	}
	if err != nil && errors.Is(context.Cause(ctx), errStopping) && cancelled(err) {
		err = wire.ShuttingDown(err).Advise("try again when it is back")
	}
	if cause := context.Cause(ctx); err != nil && isRefusal(cause) && cancelled(err) {
		err = cause // the caller was allowed in, and is not any more
	}
	if f.reconciled != nil {
		return wire.ReconcileStatus(err, f.cluster, f.reconciled)
	}
	if f.pruned != nil {
		return wire.PruneStatus(err, f.cluster, f.pruned)
	}
	return wire.Status(err, f.cluster, f.snapshot)
}

// logCall writes the one line that every call of the API gets in the log.
func (s *Server) logCall(ctx context.Context, method string, st *status.Status, d time.Duration, err error) {
	attrs := []slog.Attr{
		slog.String("method", cmp.Or(nameOf(method), method)),
		slog.String("code", st.Code().String()),
		slog.Duration("duration", d),
	}
	if addr, via := callerOf(ctx); via != "" {
		attrs = append(attrs, slog.String("peer", addr), slog.String("via", via))
	}
	level := slog.LevelInfo
	if err == nil && nameOf(method) == "ListClusters" {
		level = slog.LevelDebug // each open console asks every ten seconds
	}
	if err != nil {
		if f, ok := errors.AsType[*failure](err); ok && f.cluster != "" {
			attrs = append(attrs, slog.String("cluster", f.cluster))
		}
		reason := wire.DetailsOf(st.Err()).Reason
		attrs = append(attrs, slog.String("reason", string(reason)), slog.String("error", fmt.Sprint(err)))
		level = levelOf(st.Code())
	}
	s.log.LogAttrs(ctx, level, "call served", attrs...)
}

// levelOf returns the level at which a failed call is logged, by who has to act.
func levelOf(code codes.Code) slog.Level {
	switch code {
	case codes.Canceled, codes.DeadlineExceeded, codes.NotFound, codes.InvalidArgument, codes.Aborted:
		return slog.LevelInfo
	case codes.Internal, codes.DataLoss:
		return slog.LevelError
	default:
		return slog.LevelWarn
	}
}
