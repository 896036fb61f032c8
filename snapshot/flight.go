package snapshot

import (
	"context"
	"fmt"
)

// flight is the save that runs in this process. A repeated request waits for its outcome.
type flight struct {
	requestID string
	name      string // of the snapshot, once it has one; guarded by the cluster's mutex
	done      chan struct{}
	res       SaveResult
	err       error
}

// takeOff begins a save, or returns the one under way that has the same request id. Any other one is an error.
func (c *Cluster) takeOff(requestID string) (f *flight, joined bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flight == nil {
		c.flight = &flight{requestID: requestID, done: make(chan struct{})}
		return c.flight, false, nil
	}
	if requestID != "" && c.flight.requestID == requestID {
		return c.flight, true, nil
	}
	return nil, false, c.saveInProgress("on this replica")
}

// land ends a save.
func (c *Cluster) land(f *flight, res SaveResult, err error) {
	f.res, f.err = res, err
	c.mu.Lock()
	c.flight = nil
	c.mu.Unlock()
	close(f.done)
	c.wakeRepair()
}

// wakeRepair gives the token that there may be something to repair.
func (c *Cluster) wakeRepair() {
	select {
	case c.landed <- struct{}{}:
	default:
	}
}

// wait returns the outcome of a save that somebody else's call runs.
func (f *flight) wait(ctx context.Context) (SaveResult, error) {
	select {
	case <-f.done:
		return f.res, f.err
	case <-ctx.Done():
		return SaveResult{}, cancelled(ctx, "wait for the save with the same request id")
	}
}

func (c *Cluster) saveInProgress(where string) error {
	return &Error{
		Reason:  ReasonSaveInProgress,
		Message: fmt.Sprintf("cluster %q is being saved already, %s", c.cfg.Name, where),
		Hint:    "one save per cluster runs at a time; wait for it, or for its lease to run out if its replica has died",
		Retry:   retryAfter(ReasonSaveInProgress),
	}
}

// cancelled returns the error for a call whose context is done.
func cancelled(ctx context.Context, what string) error {
	return &Error{Reason: ReasonCancelled, Message: what, Err: context.Cause(ctx)}
}

// isSaving reports whether this process is saving or repairing the snapshot of that name.
func (c *Cluster) isSaving(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flight != nil && c.flight.name == name || name != "" && c.copying == name
}
