package storage

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// retryAfter is when a backend that did not answer may be back.
const retryAfter = 10 * time.Second

// explain returns an error as the domain knows it: what was tried, on what, what kind of error it is, and what can be done
// about it. What broke the caller's reader stays as it is.
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
		Reason: v.reason, Backend: b.name, Message: fmt.Sprintf("backend %q: %s", b.name, at),
		Hint: v.hint, Retry: v.retry, Err: &cause{text: v.text, err: err},
	}
}

// cause is an error in few words, with all of it behind them.
type cause struct {
	text string
	err  error
}

func (c *cause) Error() string { return c.text }
func (c *cause) Unwrap() error { return c.err }

// verdict is what there is to say of an error.
type verdict struct {
	reason snapshot.Reason
	text   string
	hint   string
	retry  time.Duration
}

func (b *Backend) classify(ctx context.Context, err error) verdict {
	text := plain(err)
	unavailable := verdict{snapshot.ReasonBackendUnavailable, text, "", retryAfter}
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Cause(ctx))) {
		return verdict{reason: snapshot.ReasonCancelled, text: context.Cause(ctx).Error()}
	}
	switch {
	case errors.Is(err, snapshot.ErrNotFound):
		return verdict{reason: snapshot.ReasonBackendNotFound, text: text}
	case errors.Is(err, snapshot.ErrExists):
		return verdict{reason: snapshot.ReasonBackendUnavailable, text: text}
	}
	if _, ok := errors.AsType[*rootError](err); ok {
		return verdict{snapshot.ReasonBackendNotFound, text, "mount or create it, or correct the URL; it is not created by itself", 0}
	}
	if _, ok := errors.AsType[*bucketError](err); ok {
		return verdict{snapshot.ReasonBackendNotFound, text, hintNoBucket, 0}
	}
	if _, ok := errors.AsType[*stallError](err); ok {
		unavailable.hint = "the server or the network to it is stuck"
		return unavailable
	}
	if _, ok := errors.AsType[*hungError](err); ok {
		unavailable.hint = "the file system hangs; check the disk, or the server that it is mounted from"
		return unavailable
	}
	if _, ok := errors.AsType[*replacedError](err); ok {
		unavailable.text, unavailable.hint = replacedText, "read it again"
		return unavailable
	}
	if e, ok := errors.AsType[*configError](err); ok {
		return verdict{snapshot.ReasonBackendUnavailable, text, e.hint, retryAfter}
	}
	if strings.Contains(text, "checksum did not match") { // the SDK has no other name for it
		return verdict{snapshot.ReasonChecksumMismatch, text, "what the server gave is not what was stored there: this copy is damaged; use another backend's or another snapshot", retryAfter}
	}
	if v, ok := unsigned(err); ok {
		return v
	}
	if code, status := apiError(err); code != "" || status >= http.StatusMultipleChoices {
		return answered(code, status, text)
	}
	if v, ok := byErrno(err, text); ok {
		return v
	}
	unavailable.hint = hintTLS(err)
	return unavailable
}

// byErrno classifies what the operating system said.
func byErrno(err error, text string) (verdict, bool) {
	errno, ok := errors.AsType[syscall.Errno](err)
	if !ok {
		return verdict{}, false
	}
	switch errno {
	case syscall.ENOSPC, syscall.EDQUOT:
		return verdict{snapshot.ReasonNoSpace, text, "free space there, or a quota is used up", time.Minute}, true
	case syscall.EACCES, syscall.EPERM, syscall.EROFS:
		return verdict{snapshot.ReasonBackendAccessDenied, text, "the service's user needs to read, write and search there", 0}, true
	case syscall.ECONNREFUSED:
		return verdict{snapshot.ReasonBackendUnavailable, text, "nothing listens there; check that the server runs, and the endpoint", retryAfter}, true
	default:
		return verdict{snapshot.ReasonBackendUnavailable, text, "", retryAfter}, true
	}
}
