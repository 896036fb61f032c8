package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/snapshotd/snapshotd/internal/disk"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage/driver"
	"github.com/snapshotd/snapshotd/storage/stall"
)

// explain returns an error as the domain knows it: what was tried, on what, what kind of error it is, and what can be
// done about it. An error of the caller's reader stays as it is.
func (b *Backend) explain(ctx context.Context, op, key string, err error) error {
	if v, ok := errors.AsType[*verbatim](err); ok {
		return v.error
	}
	v := b.classify(ctx, err)
	at := op
	if key != "" {
		at += " " + key
	}
	return &snapshot.Error{
		Reason: v.Reason, Backend: b.name, Message: fmt.Sprintf("backend %q: %s", b.name, at),
		Hint: v.Hint, Retry: v.Retry, Err: &cause{text: v.Text, err: err},
	}
}

// verbatim is an error of the caller's reader, which is passed on as it is.
type verbatim struct{ error }

func (v *verbatim) Unwrap() error { return v.error }

// cause is an error in few words, with all of it behind them.
type cause struct {
	text string
	err  error
}

func (c *cause) Error() string { return c.text }
func (c *cause) Unwrap() error { return c.err }

// classify tells first the errors that all kinds have, then those of the kind, then those of the operating system.
func (b *Backend) classify(ctx context.Context, err error) driver.Verdict {
	if isEnd(ctx, err) {
		return driver.Verdict{Reason: snapshot.ReasonCancelled, Text: context.Cause(ctx).Error()}
	}
	v := b.kind.Explain(err)
	switch {
	case errors.Is(err, snapshot.ErrNotFound):
		return driver.Verdict{Reason: snapshot.ReasonObjectNotFound, Text: v.Text}
	case errors.Is(err, snapshot.ErrExists):
		return driver.Verdict{Reason: snapshot.ReasonObjectExists, Text: v.Text}
	}
	if e, ok := errors.AsType[*driver.InvalidError](err); ok {
		return driver.Verdict{Reason: snapshot.ReasonInvalidArgument, Text: e.Error()}
	}
	if _, ok := errors.AsType[*orderError](err); ok {
		return driver.Unavailable(v.Text, "look at the caches before the server; one that never lists keys in the order of "+
			"their bytes cannot be used")
	}
	if e, ok := errors.AsType[*stall.Error](err); ok {
		return driver.Unavailable(v.Text, e.Hint)
	}
	if v.Reason != "" {
		return v
	}
	return byErrno(err, v.Text)
}

// isEnd reports whether an error is that the context has ended.
func isEnd(ctx context.Context, err error) bool {
	return ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, context.Cause(ctx)))
}

// byErrno classifies by the error of the operating system, if there is one.
func byErrno(err error, text string) driver.Verdict {
	errno, _ := errors.AsType[syscall.Errno](err)
	switch errno {
	case syscall.ENOSPC, syscall.EDQUOT:
		return driver.NoSpace(text)
	case syscall.EACCES, syscall.EPERM, syscall.EROFS:
		return driver.Denied(text, cmp.Or(disk.Denied(err), "the service's user needs to read, write and search there"))
	case syscall.ENAMETOOLONG, syscall.EILSEQ:
		const hint = "the file system does not take such a name"
		return driver.Verdict{Reason: snapshot.ReasonInvalidArgument, Text: text, Hint: hint}
	case syscall.ECONNREFUSED:
		return driver.Unavailable(text, "nothing listens there; check that the server runs, and the endpoint")
	default:
		return driver.Unavailable(text, "")
	}
}
