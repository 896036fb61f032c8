package daemon

import (
	"context"
	"sync"
)

// uses counts the calls that use a cluster, so that its connections are closed after the last of them. The zero value
// is ready for use.
type uses struct {
	mu      sync.Mutex
	n       int
	retired chan struct{} // closed with the last call; nil while the cluster is served
}

// Use counts a call until its context is done. It returns false when the cluster is not served any more.
func (u *uses) Use(ctx context.Context) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.retired != nil {
		return false
	}
	u.n++
	// The context of a call ends with it, even if the handler forgets it: no use can be forgotten.
	context.AfterFunc(ctx, u.done)
	return true
}

func (u *uses) done() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n--; u.n == 0 && u.retired != nil {
		close(u.retired)
	}
}

// retire lets no further call in, and returns a channel that is closed when the last one has ended. It is called once.
func (u *uses) retire() <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.retired = make(chan struct{})
	if u.n == 0 {
		close(u.retired)
	}
	return u.retired
}
