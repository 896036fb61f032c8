package daemon

import (
	"context"
	"slices"
	"strings"
	"time"
)

// replace serves other clusters. The loops of those that are gone end before those of their successors begin, because
// both have one directory. One that does not stop keeps its own successor waiting, and no other cluster.
func (s *Service) replace(ctx context.Context, next, gone []*managed, unserved []unopened) {
	if slices.Equal(s.clusters, next) && sameUnopened(s.unopened, unserved) {
		return
	}
	for _, c := range gone {
		c.successor.Store(named(next, c.Name()))
		c.stop()
		// Nobody waits for it but awaitEnds, and that not for ever: a disk that hangs must not keep the reload.
		go c.end(ctx, s.log)
	}
	s.awaitEnds(ctx, gone) // so that calls of the successors meet no loops of theirs
	all := served(next)
	for _, u := range unserved {
		all = append(all, s.serve(ctx, u))
	}
	if err := s.server.SetClusters(all); err != nil {
		s.log.ErrorContext(ctx, "clusters not replaced", "error", err) // they were validated, and there is one at least
		return
	}
	before, unservedBefore := s.clusters, s.unopened
	s.clusters, s.unopened = next, unserved
	for _, c := range next {
		if !slices.Contains(before, c) {
			s.succeed(ctx, c, named(before, c.Name()))
		}
	}
	for _, c := range gone {
		s.forget(ctx, c)
		// Calls that began before may still use it, so its connections stay until the last of them has ended.
		s.retired.Go(func() { s.retire(ctx, c) })
	}
	s.tellUnopened(ctx, unservedBefore)
	s.boundMemory()
	s.tellStranded(ctx)
}

// awaitEnds waits until the loops of clusters have ended, but not for ever.
func (s *Service) awaitEnds(ctx context.Context, gone []*managed) {
	late, done := context.WithTimeout(context.WithoutCancel(ctx), s.stopTimeout)
	defer done()
	for _, c := range gone {
		select {
		case <-c.ended:
			continue
		case <-late.Done():
		}
		// Both may be true at once, and then it has ended.
		select {
		case <-c.ended:
		default:
			s.log.ErrorContext(ctx, "cluster does not stop; its change takes effect when it has, and the others are "+
				"not kept waiting", "cluster", c.Name(), "waited", s.stopTimeout)
		}
	}
}

// succeed starts a cluster when its predecessor has ended.
func (s *Service) succeed(ctx context.Context, c, before *managed) {
	ctx, c.stop = context.WithCancel(ctx)
	c.begun = make(chan struct{})
	begin := func() {
		defer close(c.begun)
		if before != nil {
			select {
			case <-before.ended:
			case <-ctx.Done():
			}
		}
		if ctx.Err() == nil {
			c.run(ctx, before)
			s.log.InfoContext(ctx, "cluster is in effect", "cluster", c.Name(), "backends", strings.Join(c.BackendNames(), ","))
		}
	}
	if before == nil {
		begin()
		return
	}
	c.after = before.ended
	select {
	case <-before.ended:
		begin()
	default:
		s.loops.Go(begin)
	}
}

// retire closes a cluster when its last call and its loops have ended. The server ends all calls before the service has
// ended; loops that do not end then are left to the end of the process.
func (s *Service) retire(ctx context.Context, c *managed) {
	<-c.uses.retire()
	select {
	case <-c.ended:
	case <-ctx.Done():
		select {
		case <-c.ended:
		case <-time.After(closeTimeout):
			s.log.WarnContext(ctx, "cluster does not stop; its connections are closed", "cluster", c.Name())
		}
	}
	c.closers.close(ctx, s.log)
}

// forget takes the metrics away that nothing keeps up any more.
func (s *Service) forget(ctx context.Context, c *managed) {
	c.certs.drop()
	successor := named(s.clusters, c.Name())
	if c.following != nil && (successor == nil || successor.following == nil) {
		s.telemetry.DropJournal(c.Name())
	}
	if successor == nil {
		s.telemetry.Forget(c.Name(), "")
		s.log.InfoContext(ctx, "cluster is removed", "cluster", c.Name())
		return
	}
	for _, sch := range slices.Concat(c.scrubs, c.schedules) {
		if !successor.runs(sch.Name) {
			s.telemetry.Forget(c.Name(), sch.Name)
		}
	}
}
