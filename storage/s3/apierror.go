package s3

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/snapshotd/snapshotd/storage/stall"
)

// requestError is an error of a request, with the features of S3 that the request has made use of: a server that lacks
// one of them says so in words of its own.
type requestError struct {
	error
	trailer     bool // a checksum that follows the body
	conditional bool // If-None-Match
	later       bool // a part after the first
	bucketHost  bool // the host of the endpoint may have the bucket in it already
}

func (e *requestError) Unwrap() error { return e.error }

// apiError returns the code and HTTP status with which a server answered; empty and 0 when it did not, or when its
// answer breaks the protocol.
func apiError(err error) (code string, status int) {
	if _, invalid := errors.AsType[*answerError](err); invalid {
		return "", 0
	}
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		code = e.ErrorCode()
	}
	if e, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && e.Response != nil && e.Response.Response != nil {
		status = e.HTTPStatusCode()
	}
	return code, status
}

// isWrongSum reports whether bytes do not have the checksum that came with them. The SDK has no type for it.
func isWrongSum(err error) bool { return strings.Contains(err.Error(), "checksum did not match") }

func isStall(err error) bool {
	_, stalled := errors.AsType[*stall.Error](err)
	return stalled
}

// isVague reports whether a code says no more than the status that it came with.
func isVague(code string) bool {
	switch code {
	case "", "NotFound", "Forbidden", "BadRequest", "UnknownError":
		return true
	}
	return false
}

// operations returns the name of the operation that failed, for the beginning of a message, and the innermost one that
// it asked for, which is nil when there was none.
func operations(err error) (op string, asked *smithy.OperationError) {
	outer, ok := errors.AsType[*smithy.OperationError](err)
	if !ok {
		return "", nil
	}
	for e, ok := outer, true; ok; e, ok = errors.AsType[*smithy.OperationError](e.Err) {
		if e != outer {
			asked = e
		}
	}
	return outer.OperationName + ": ", asked
}

// plain returns an error in its own words, without the layers of the SDK: they repeat one another, and the address with
// all its parameters.
func plain(err error) string {
	op := ""
	if e, ok := errors.AsType[*smithy.OperationError](err); ok {
		op = e.OperationName + ": "
	}
	_, status := apiError(err)
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		text := e.ErrorCode()
		if status != 0 {
			text = fmt.Sprintf("%d %s", status, text)
		}
		if msg := e.ErrorMessage(); msg != "" && msg != e.ErrorCode() {
			text += ": " + msg
		}
		return op + text
	}
	if status >= http.StatusMultipleChoices {
		return op + fmt.Sprintf("%d %s", status, http.StatusText(status))
	}
	for {
		inner := peel(err)
		if inner == nil && op != "" && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) {
			return op + "the connection broke off (" + err.Error() + ")"
		}
		if inner == nil {
			return op + err.Error()
		}
		err = inner
	}
}

// peel takes off one layer that says nothing, or nothing new.
func peel(err error) error {
	//nolint:errorlint // one layer after the other is the point
	switch e := err.(type) {
	case *url.Error:
		return e.Err
	case *smithyhttp.RequestSendError:
		return e.Err
	case interface { // the three kinds of the SDK's response error; there may have been no response
		HTTPStatusCode() int
		Unwrap() error
	}:
		return e.Unwrap()
	case *smithy.OperationError:
		return e.Err
	case *smithy.CanceledError:
		return e.Err
	case *retry.MaxAttemptsError:
		return e.Err
	case *requestError:
		return e.error
	case transfermanager.MultipartUploadError:
		return errors.Unwrap(e)
	case interface{ Unwrap() []error }: // the SDK joins an error with the one that it may not be tried again
		if all := e.Unwrap(); len(all) > 0 {
			return all[0]
		}
	}
	return nil
}
