package reading

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// A Limiter slows down the reading of etcd.
type Limiter interface {
	// Wait returns when this many bytes may pass, or with the cause of ctx when it ends before.
	Wait(ctx context.Context, bytes int) error
}

// Unlimited lets everything pass.
type Unlimited struct{}

// Wait implements [Limiter].
func (Unlimited) Wait(context.Context, int) error { return nil }

// Fetch is the copy of a member's stream: the database and, in its last 32 bytes, the sha256 of it.
type Fetch struct {
	Stream   io.ReadCloser // Close may be called at any time, also more than once, and ends a Read under way
	Endpoint string        // of the member, for errors
	Watchdog time.Duration // how long the member may send no byte
	Limit    Limiter       // of the bytes that are read
	Taken    func(bytes int64)

	// Answers is optional. It returns nil when the member answers, and why it does not when ctx ends before it has.
	// Without it the limit is never lifted.
	Answers func(ctx context.Context) error
}

// Fetched is the result of a [Fetch].
type Fetched struct {
	Size   int64  // of the database
	SHA256 string // of the database, hex
	Lifted error  // why the limit was lifted before the end; nil when it was not. It is set also beside an error
}

// Run copies the stream to the spool and verifies its checksum. A watchdog ends it when the member sends no bytes. The
// caller closes the stream.
func (f *Fetch) Run(ctx context.Context, to io.Writer) (got Fetched, err error) {
	// Reads of the stream end when its own context does; this one must end them too.
	stop := context.AfterFunc(ctx, func() { _ = f.Stream.Close() })
	defer stop()
	ctx, bark := context.WithCancelCause(ctx)
	defer bark(nil)
	limit := newPause(ctx, f.Limit, f.Answers)
	defer func() { got.Lifted = limit.end() }()
	watchdog := time.AfterFunc(f.Watchdog, func() {
		bark(snapshot.ReasonEtcdUnavailable.New("read the snapshot of %s: it sent no bytes for %s", f.Endpoint, f.Watchdog).
			Advise("the member hangs or the network drops its bytes; save again to try another member, and check this one"))
		_ = f.Stream.Close()
	})
	defer watchdog.Stop()

	check := repository.NewTrailer()
	// etcd's messages of 32 KiB are collected before they are hashed and spooled.
	buf, giveBack := repository.Borrow()
	defer giveBack()
	n := 0
	for {
		m, err := f.Stream.Read(buf[n:])
		n += m
		if m > 0 {
			watchdog.Reset(f.Watchdog)
		}
		if n == len(buf) || err != nil && n > 0 {
			watchdog.Stop() // the spool's disk and the limit may be slow; only etcd is watched
			_, _ = check.Write(buf[:n])
			if _, err := to.Write(buf[:n]); err != nil {
				return got, err
			}
			f.Taken(int64(n))
			if err := limit.wait(ctx, n); err != nil {
				return got, err
			}
			n = 0
			watchdog.Reset(f.Watchdog)
		}
		// The end of the stream counts before the end of the call: all bytes are there, and they are right or wrong.
		switch {
		case errors.Is(err, io.EOF):
			got.Size, got.SHA256, err = check.Verify()
			return got, err
		case context.Cause(ctx) != nil:
			return got, context.Cause(ctx)
		case err != nil:
			return got, err
		}
	}
}
