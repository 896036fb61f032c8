package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// httpShutdownTimeout is how long HTTP requests may go on after the last call: their answers are being sent.
const httpShutdownTimeout = 5 * time.Second

// auditTimeout is how long the last audit records may take to be stored.
const auditTimeout = 5 * time.Second

// Run serves until ctx is done, Close is called or a port fails. Then it stops everything in order: health and
// readiness, Config.Drain, streams, HTTP, gRPC. Calls may go on for Settings.ShutdownTimeout before they are cancelled.
// It returns nil when it was asked to stop.
func (s *Server) Run(ctx context.Context) error {
	done, err := s.begin()
	if err != nil {
		return err
	}
	defer close(done)
	var wg sync.WaitGroup
	failed := make(chan error, 3)
	wg.Go(func() {
		if err := s.grpc.Serve(s.gate.Listener(s.grpcListener)); err != nil {
			failed <- fmt.Errorf("serve gRPC: %w", err)
		}
	})
	wg.Go(func() {
		if err := s.inner.Serve(s.inProcess); err != nil {
			failed <- fmt.Errorf("serve gRPC to HTTP: %w", err)
		}
	})
	wg.Go(func() {
		if err := s.serveHTTP(); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("serve HTTP: %w", err)
		}
	})
	watching, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	wg.Go(func() { s.auth.Run(watching) })
	s.objects.Start(ctx)
	setHealth(s.health, healthpb.HealthCheckResponse_SERVING)
	s.phase.set(phaseServing)
	s.log.InfoContext(ctx, "server is ready", "grpc", s.GRPCAddr(), "http", s.HTTPAddr(), "tls", s.cfg.TLS.Enabled())

	select {
	case <-ctx.Done():
	case <-s.closing:
	case err = <-failed:
	}
	s.shutdown(context.WithoutCancel(ctx))
	stopWatching()
	wg.Wait()
	s.handlers.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTimeout)
	defer cancel()
	return errors.Join(err, s.trail.Close(), s.objects.Close(last))
}

func (s *Server) begin() (chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.grpc == nil || s.done != nil {
		return nil, errors.New("run server: it is not open, or has run already")
	}
	s.done = make(chan struct{})
	return s.done, nil
}

// shutdown stops everything in order. It returns when no call is left.
func (s *Server) shutdown(ctx context.Context) {
	started := time.Now()
	timeout := s.settings.Load().ShutdownTimeout
	s.log.InfoContext(ctx, "server is stopping", "timeout", timeout)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	s.phase.set(phaseStopping)
	s.health.Shutdown()
	if s.cfg.Drain != nil {
		s.cfg.Drain(ctx)
	}
	s.cancelStreams(errStopping)
	answered := s.stopHTTP(ctx)
	s.stopGRPC(ctx)
	s.cancelCalls(errStopping)
	answered()
	s.log.InfoContext(ctx, "server has stopped", "duration", time.Since(started))
}

// stopHTTP accepts no more connections. The function that it returns is called when no call is left, and waits for the
// last answers.
func (s *Server) stopHTTP(ctx context.Context) (answered func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- s.http.Shutdown(ctx) }()
	return func() {
		defer cancel()
		defer time.AfterFunc(httpShutdownTimeout, cancel).Stop()
		if err := <-done; err != nil {
			s.log.WarnContext(ctx, "HTTP requests were cut off", "error", err)
			_ = s.http.Close() // a connection that does not close is left to the system
		}
		_ = s.conn.Close() // the same for the process's own
	}
}

// stopGRPC waits for the calls, cancels those that are left when ctx is done, and cuts off those that do not answer
// even then. It waits for the handlers in any case.
func (s *Server) stopGRPC(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		var both sync.WaitGroup
		both.Go(s.grpc.GracefulStop)
		both.Go(s.inner.GracefulStop)
		both.Wait()
	}()
	select {
	case <-done:
		return
	case <-ctx.Done():
	}
	s.log.WarnContext(ctx, "calls are cancelled: they did not end in time")
	s.cancelCalls(errStopping)
	select {
	case <-done:
	case <-time.After(cleanupTimeout):
		s.grpc.Stop()
		s.inner.Stop()
		<-done
	}
}

// Close ends Run and waits for it until ctx is done; without a Run it closes the ports.
func (s *Server) Close(ctx context.Context) error {
	s.closeOnce.Do(func() { close(s.closing) })
	done, err := s.abandon()
	if err != nil {
		return fmt.Errorf("close server: %w", err)
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close server: %w", ctx.Err())
	}
}

// abandon returns a channel that is closed when Run has returned. Where Run was not called, it cannot be called any
// more.
func (s *Server) abandon() (done chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done == nil {
		s.done = make(chan struct{})
		close(s.done)
		if s.grpc != nil {
			err = errors.Join(s.conn.Close(), s.inProcess.Close(), s.grpcListener.Close(), s.httpListener.Close())
		}
	}
	return s.done, err
}
