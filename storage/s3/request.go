package s3

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// features are those that a server was found to lack. The client does without them from then on.
type features struct {
	noExpect atomic.Bool // Expect: 100-continue
	noRange  atomic.Bool // parts of objects
}

// requestNotes leaves out headers that the server is known not to take, and notes with an error which features of S3
// its request made use of.
type requestNotes struct {
	features   *features
	bucketHost bool
}

// ID implements [middleware.FinalizeMiddleware].
func (n *requestNotes) ID() string { return "snapshotd:RequestNotes" }

// HandleFinalize implements [middleware.FinalizeMiddleware]. It is called for each attempt, before the request is
// signed.
func (n *requestNotes) HandleFinalize(
	ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler,
) (out middleware.FinalizeOutput, metadata middleware.Metadata, err error) {
	req, ok := in.Request.(*smithyhttp.Request)
	if !ok {
		return next.HandleFinalize(ctx, in)
	}
	if n.features.noExpect.Load() {
		req.Header.Del("Expect")
	}
	out, metadata, err = next.HandleFinalize(ctx, in)
	if err == nil {
		return out, metadata, nil
	}
	if _, status := apiError(err); status == http.StatusExpectationFailed {
		n.features.noExpect.Store(true)
	}
	part := req.URL.Query().Get("partNumber")
	return out, metadata, &requestError{
		error: err, trailer: req.Header.Get("X-Amz-Trailer") != "", conditional: req.Header.Get("If-None-Match") != "",
		later: part != "" && part != "1", bucketHost: n.bucketHost,
	}
}

// addChecks adds the checks of this package to the stack of an operation.
func addChecks(n *requestNotes) func(*middleware.Stack) error {
	return func(stack *middleware.Stack) error {
		if err := stack.Finalize.Insert(n, "Retry", middleware.After); err != nil {
			return err
		}
		return stack.Deserialize.Add(answerCheck{}, middleware.After) // it has the answer before all others
	}
}

// retryer repeats a request when the server asks for that, or when a conditional one met another one, and does not
// repeat one that stalled: the server had its time.
type retryer struct{ aws.Retryer }

// RetryDelay implements [aws.Retryer].
func (r retryer) RetryDelay(attempt int, err error) (time.Duration, error) {
	d, err := r.Retryer.RetryDelay(attempt, err)
	return min(d, longestPause), err
}

// IsErrorRetryable implements [aws.Retryer].
func (r retryer) IsErrorRetryable(err error) bool {
	req, ok := errors.AsType[*requestError](err)
	conditional := ok && req.conditional
	switch code, status := apiError(err); {
	case isStall(err):
		return false
	case status == http.StatusExpectationFailed: // the header is left out then
		return true
	case status == http.StatusConflict && (conditional || code == "OperationAborted"): // not all servers give a code
		return true
	}
	return r.Retryer.IsErrorRetryable(err)
}
