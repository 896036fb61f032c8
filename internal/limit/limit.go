// Package limit slows down transfers, to a rate that can be changed while it is in use.
package limit

import (
	"context"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/internal/backoff"
)

// Min is the lowest rate, in bytes per second. Below it, a save would take hours, and a change of the rate be felt
// late.
const Min = 64 << 10

// slice is how many bytes may pass at once, and how many are waited for at a time.
const slice = Min

// Limit is a rate that several goroutines share, in the order in which they come.
type Limit struct {
	mu    sync.Mutex
	rate  float64   // bytes per second; 0 is no limit
	spare float64   // bytes that could pass at once at that time; below 0, bytes that wait already
	at    time.Time // of spare
}

// New returns a limit; see Set.
func New(bytesPerSecond int64) *Limit {
	l := &Limit{}
	l.Set(bytesPerSecond)
	return l
}

// Set changes the rate, to none when it is 0. Who waits already goes on waiting, for a second at most if nobody else
// does.
func (l *Limit) Set(bytesPerSecond int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance()
	l.rate = 0
	if bytesPerSecond > 0 {
		l.rate = float64(max(bytesPerSecond, Min))
	}
}

// Wait returns when as many bytes may pass, or with the cause of ctx when it ends before.
func (l *Limit) Wait(ctx context.Context, bytes int) error {
	for ; bytes > 0; bytes -= slice {
		n := min(bytes, slice)
		if d := l.take(n); d > 0 {
			if err := backoff.Wait(ctx, d); err != nil {
				l.take(-n) // they do not pass
				return err
			}
		}
	}
	return nil
}

// take counts bytes and returns how long they have to wait.
func (l *Limit) take(bytes int) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance()
	if l.rate == 0 {
		return 0
	}
	l.spare -= float64(bytes)
	return time.Duration(max(0, -l.spare) / l.rate * float64(time.Second))
}

// advance adds the bytes that the rate has allowed since it was last called. l.mu is held.
func (l *Limit) advance() {
	now := time.Now()
	l.spare += now.Sub(l.at).Seconds() * l.rate
	if l.rate == 0 || l.spare > slice {
		l.spare = slice
	}
	l.at = now
}
