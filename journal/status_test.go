package journal_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/journal"
)

// The metrics of all clusters are asked for at once, and their status: they do not wait for the disk of one.
func TestTheStatusIsThereWhileTheDiskHangs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	facts := filepath.Join(dir, "0000000000000001.json")
	must(t, syscall.Mkfifo(facts, 0o600))
	j := journal.New(journal.Config{Dir: dir})
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { j.Run(ctx) })
	hangs, err := os.OpenFile(facts, os.O_WRONLY, 0) // once it is read
	must(t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if s := j.Status(); s.Bytes != 0 || s.Waiting != 0 || s.Revision != 0 {
			t.Errorf("it is %+v", s)
		}
	}()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the disk is waited for")
	}
	must(t, hangs.Close())
	cancel()
	run.Wait()
}

// A leader whose clock was ahead has said that all is complete up to a time that is still to come. What the next one
// does not know to be durable has an age all the same.
func TestTheRecoveryPointAgesBehindALeaderWhoseClockWasAhead(t *testing.T) {
	p := newPlace("s3")
	inBubble(t, func(t *testing.T) {
		time.Sleep(30 * time.Minute) // each bubble begins at the same time
		j := lead(t, inTurn(fakeMember{current: at(9), delivered: 9}), t.TempDir(), []*place{p})
		time.Sleep(10 * time.Second)
		j.stop()
	})
	inBubble(t, func(t *testing.T) {
		began := time.Now()
		m := fakeMember{delivered: 10, pause: 5 * time.Second, current: func() (int64, error) {
			switch since := time.Since(began); {
			case since < 5500*time.Millisecond: // later than it delivers that
				return 9, nil
			case since < time.Minute:
				return 10, nil
			}
			return 0, errors.New("it has no leader")
		}}
		j := lead(t, inTurn(m), t.TempDir(), []*place{p})
		defer p.away.Store(false)
		check := func(after, disk, stored time.Duration) {
			time.Sleep(after - time.Since(began))
			s := j.Status()
			for what, want := range map[string]struct{ got, most time.Duration }{
				"the disk":    {time.Since(s.Complete), disk},
				"the backend": {time.Since(s.Stores[0].Complete), stored},
			} {
				if want.got < max(0, want.most-time.Second) || want.got > want.most {
					t.Errorf("%s after the start, all is complete on %s up to %s ago", after, what, want.got)
				}
			}
		}
		check(time.Second, time.Second, time.Second)
		p.away.Store(true)
		check(50*time.Second, time.Second, 45*time.Second) // revision 10 came after five and a half
		check(3*time.Minute, 2*time.Minute+time.Second, 175*time.Second)
	})
}
