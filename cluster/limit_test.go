package cluster_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/snapshot"
)

// countingLimiter counts the bytes that pass; wait, if there is one, is called each time.
type countingLimiter struct {
	mu    sync.Mutex
	bytes int64
	wait  func(context.Context) error
}

func (l *countingLimiter) Wait(ctx context.Context, bytes int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bytes += int64(bytes)
	if l.wait == nil {
		return nil
	}
	return l.wait(ctx)
}

func TestStreamLimitSeesEveryByteAndTheWatchdogDoesNotMind(t *testing.T) {
	t.Parallel()
	const watchdog = time.Second
	longer := time.After(watchdog + watchdog/2) // than etcd itself may be silent
	l := &countingLimiter{wait: func(ctx context.Context) error {
		select {
		case <-longer:
			longer = closed()
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}}
	f := newFixture(t, func(cfg *cluster.Config) { cfg.Watchdog, cfg.StreamLimit = watchdog, l })
	s := f.mustSave(t)
	const trailer = 32
	if l.bytes != s.DBSize+trailer {
		t.Errorf("%d bytes passed of a database of %d", l.bytes, s.DBSize)
	}
}

// closed returns a channel that never keeps anybody waiting.
func closed() <-chan time.Time {
	c := make(chan time.Time)
	close(c)
	return c
}

func TestSaveIsCancelledWhileTheLimitHoldsItUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	l := &countingLimiter{wait: func(ctx context.Context) error {
		cancel()
		<-ctx.Done()
		return context.Cause(ctx)
	}}
	f := newFixture(t, func(cfg *cluster.Config) { cfg.StreamLimit = l })
	if _, err := f.Save(ctx, cluster.SaveRequest{}); snapshot.ReasonOf(err) != snapshot.ReasonCancelled {
		t.Errorf("Save: %v", err)
	}
	for name := range f.backends {
		if got := f.files(t, name); len(got) > 0 {
			t.Errorf("left on %s: %q", name, got)
		}
	}
}

// An etcd that is defragmented while the limit holds its read transaction open does not answer until that has ended.
func TestASaveSaysThatTheLimitWasLifted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &countingLimiter{wait: func(ctx context.Context) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}}
		f := newFixture(t, func(cfg *cluster.Config) { cfg.StreamLimit = l })
		f.source.open = func(s *cluster.Stream) (*cluster.Stream, error) {
			s.Answers = func(ctx context.Context) error {
				<-ctx.Done()
				return context.Cause(ctx)
			}
			return s, nil
		}
		res, err := f.Save(t.Context(), cluster.SaveRequest{})
		if err != nil || res.Snapshot.State() != snapshot.StateReady {
			t.Fatalf("Save: %v", err)
		}
		if len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], "stream_limit was lifted, because member http://stored stopped answering") {
			t.Errorf("warnings %q", res.Warnings)
		}
	})
}
