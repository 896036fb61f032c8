package schedule_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snapshotd/snapshotd/internal/schedule"
)

const interval = 10 * time.Minute

// always leads until ctx is done.
func always(ctx context.Context, lead func(context.Context, schedule.Term)) error {
	lead(ctx, newMemory().newTerm())
	return ctx.Err()
}

// start runs a loop and returns the function that stops it and waits for it.
// every is an interval that does not change.
func every(d time.Duration) func() time.Duration { return func() time.Duration { return d } }

func start(t *testing.T, cfg schedule.Config) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		schedule.New(cfg).Run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

func TestReconcilesWhenElectedAndOnAnInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var at []time.Duration
		stop := start(t, schedule.Config{Interval: every(interval), Lead: always, Reconcile: func(context.Context) error {
			at = append(at, time.Since(begin))
			return nil
		}})
		time.Sleep(5 * interval)
		stop()
		if len(at) < 5 || len(at) > 6 || at[0] != 0 {
			t.Fatalf("reconciled at %v", at)
		}
		for i, d := range at[1:] {
			if gap := d - at[i]; gap < interval*94/100 || gap > interval*106/100 {
				t.Errorf("gap %d is %v, want about %v", i, gap, interval)
			}
		}
	})
}

func TestGoesOnAfterAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		stop := start(t, schedule.Config{Interval: every(interval), Lead: always, Reconcile: func(context.Context) error {
			n++
			return errors.New("bucket is down")
		}})
		time.Sleep(3*interval + interval/2)
		stop()
		if n < 3 {
			t.Errorf("reconciled %d times", n)
		}
	})
}

func TestStandsForElectionAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		elections := 0
		reconciled := make(chan struct{})
		stop := start(t, schedule.Config{
			Interval:  every(interval),
			Reconcile: func(context.Context) error { close(reconciled); return nil },
			Lead: func(ctx context.Context, lead func(context.Context, schedule.Term)) error {
				if elections++; elections < 3 {
					return errors.New("etcd has no leader")
				}
				return always(ctx, lead)
			},
		})
		<-reconciled
		stop()
	})
}

func TestLeadershipThatEndsEndsReconcile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var leading []bool
		resign := make(chan context.CancelFunc, 1)
		reconciling := make(chan struct{})
		var cause error
		first := true
		stop := start(t, schedule.Config{
			Interval: every(interval),
			Leading:  func(_ context.Context, l bool) { leading = append(leading, l) },
			Lead: func(ctx context.Context, lead func(context.Context, schedule.Term)) error {
				if !first {
					<-ctx.Done()
					return ctx.Err()
				}
				first = false
				ctx, cancel := context.WithCancel(ctx)
				resign <- cancel
				lead(ctx, newMemory().newTerm())
				return nil
			},
			Reconcile: func(ctx context.Context) error {
				close(reconciling)
				<-ctx.Done()
				cause = ctx.Err()
				return ctx.Err()
			},
		})
		<-reconciling
		(<-resign)()
		synctest.Wait()
		stop()
		if !errors.Is(cause, context.Canceled) || !slices.Equal(leading, []bool{false, true, false}) {
			t.Errorf("reconcile ended with %v, leading was %v", cause, leading)
		}
	})
}

func TestRepairsAfterAReconcileWhenDueAndWhenAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var at []time.Duration
		wake := make(chan struct{}, 1)
		stop := start(t, schedule.Config{
			Interval: every(interval), Lead: always, Wake: wake,
			Reconcile: func(context.Context) error { return nil },
			Repair: func(context.Context) (time.Time, error) {
				at = append(at, time.Since(begin))
				switch len(at) {
				case 1:
					return begin.Add(time.Minute), nil
				case 2:
					return time.Time{}, errors.New("the catalog is down")
				default:
					return time.Time{}, nil
				}
			},
		})
		time.Sleep(5 * time.Minute)
		wake <- struct{}{}
		time.Sleep(10 * time.Minute)
		stop()
		want := []time.Duration{0, time.Minute, 90 * time.Second, 5 * time.Minute}
		if len(at) != 5 || !slices.Equal(at[:4], want) || at[4] < interval*94/100 || at[4] > interval*106/100 {
			t.Errorf("repaired at %v, want %v and with the next reconcile", at, want)
		}
	})
}

// A replica does its own work while another one leads, and leaves it to its work as the leader once it leads.
func TestOwnWorkIsDoneWhileAnotherReplicaLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec, err := schedule.ParseSpec("@every 1h", "")
		if err != nil {
			t.Fatal(err)
		}
		var own, led, repaired, scrubbed atomic.Int32
		elect := make(chan struct{})
		stop := start(t, schedule.Config{
			Interval: every(interval),
			Lead: func(ctx context.Context, lead func(context.Context, schedule.Term)) error {
				select {
				case <-elect:
					return always(ctx, lead)
				case <-ctx.Done():
					return ctx.Err()
				}
			},
			Reconcile: func(context.Context) error { led.Add(1); return nil },
			Own: &schedule.Own{
				Reconcile: func(context.Context) error { own.Add(1); return nil },
				Repair:    func(context.Context) (time.Time, error) { repaired.Add(1); return time.Time{}, nil },
				Scrubs:    []schedule.Schedule{{Name: "@scrub", Spec: spec, Do: func(context.Context) error { scrubbed.Add(1); return nil }}},
			},
		})
		time.Sleep(3*time.Hour + interval/2)
		if own.Load() < 15 || repaired.Load() < 15 || scrubbed.Load() != 3 || led.Load() != 0 {
			t.Errorf("own work %d, repairs %d, scrubs %d, work of the leader %d", own.Load(), repaired.Load(), scrubbed.Load(), led.Load())
		}
		close(elect)
		synctest.Wait()
		before := own.Load() + scrubbed.Load()
		time.Sleep(3 * time.Hour)
		if own.Load()+scrubbed.Load() != before || led.Load() < 15 {
			t.Errorf("own work went on while it led, or it did not lead: %d, %d", own.Load()+scrubbed.Load()-before, led.Load())
		}
		stop()
	})
}
