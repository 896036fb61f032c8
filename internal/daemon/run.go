package daemon

import (
	"context"
	"slices"
)

// Run serves until ctx is done, and then stops everything in order: readiness, leadership and loops, HTTP, gRPC, the
// connections, telemetry. It returns nil when it was asked to stop.
func (s *Service) Run(ctx context.Context) error {
	// The loops go on while the server drains: ctx ends the service, and drain ends them in their order.
	loops, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stopLoops = stop
	for _, c := range s.clusters {
		ctx, cancel := context.WithCancel(loops)
		c.stop = cancel
		c.run(ctx, nil)
	}
	s.loops.Go(func() { s.watchReloads(loops) })
	err := s.server.Run(ctx)
	s.close(ctx)
	return err
}

// drain ends the loops, and with them the leadership, while calls are still served.
func (s *Service) drain(ctx context.Context) {
	s.stopLoops()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.waitForLoops()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.log.WarnContext(ctx, "a reconcile does not end; calls are ended meanwhile, and the process ends after it")
	}
}

// waitForLoops waits for all loops, after they were told to stop, however long: what they use is closed afterwards. No
// cluster comes or goes after the reloads have ended.
func (s *Service) waitForLoops() {
	s.loops.Wait()
	for _, c := range s.clusters {
		c.loops.Wait()
	}
}

// close closes everything that was opened, the last first.
func (s *Service) close(ctx context.Context) {
	s.stopLoops()
	s.waitForLoops()
	// The server first: it ends the calls that retired clusters, and all others, still serve.
	for i := len(s.closers) - 1; i >= 0 && s.closers[i].name == "server"; i-- {
		only := s.closers[i:]
		only.close(ctx, s.log)
		s.closers = s.closers[:i]
	}
	s.retired.Wait()
	for _, c := range slices.Backward(s.clusters) {
		c.directory.close(ctx, s.log)
		c.closers.close(ctx, s.log)
	}
	s.clusters = nil
	s.closers.close(ctx, s.log)
}
