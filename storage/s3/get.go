package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/snapshotd/snapshotd/storage/driver"
)

// readPart is how much of a large object one request reads, and with it the size of an object from which on several do.
const readPart = 8 << 20

// Get asks for the whole object; when it turns out to be large, this request is the first part, and others take the
// rest. A range asks for its first part and learns from the answer how much there is.
func (s *Store) Get(ctx context.Context, key string, x driver.Extent) (io.ReadCloser, error) {
	c, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	r, err := s.getObject(ctx, cancel, c, key, x)
	if err != nil {
		cancel()
	}
	return r, err
}

// getObject is Get; closing what it returns cancels ctx.
func (s *Store) getObject(ctx context.Context, cancel context.CancelFunc, c *connection, key string, x driver.Extent) (io.ReadCloser, error) {
	in := s3.GetObjectInput{Bucket: aws.String(s.bucket), Key: aws.String(s.key(key))}
	out, err := c.client.GetObject(ctx, first(in, x), unchecked(x))
	if _, status := apiError(err); status == http.StatusRequestedRangeNotSatisfiable {
		return &object{http.NoBody, cancel}, nil // all of it is behind the end
	}
	if err != nil {
		return nil, s.missing(ctx, c, err)
	}
	at, end, err := answeredRange(out, x)
	switch {
	case err == nil && (end-at <= readPart || x == driver.Whole && out.ETag == nil):
		return &object{out.Body, cancel}, nil
	case err == nil && out.ETag == nil:
		err = errors.New("the server gives no ETag, without which an object cannot be read in parts")
	}
	if err != nil {
		return nil, errors.Join(err, out.Body.Close())
	}
	in.IfMatch = out.ETag
	return newPartReader(ctx, cancel, out.Body, at, end, func(ctx context.Context, x driver.Extent) (io.ReadCloser, error) {
		return c.getPart(ctx, in, x)
	}), nil
}

// object is one that a single request reads.
type object struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (o *object) Close() error {
	defer o.cancel()
	return o.ReadCloser.Close()
}

// first returns the first request for an extent.
func first(in s3.GetObjectInput, x driver.Extent) *s3.GetObjectInput {
	if x != driver.Whole {
		if x.Length < 0 || x.Length > readPart {
			x.Length = readPart
		}
		in.Range = aws.String(header(x))
	}
	return &in
}

// getPart reads a part of the object with the ETag of in, and of no other that has taken its place.
func (c *connection) getPart(ctx context.Context, in s3.GetObjectInput, x driver.Extent) (io.ReadCloser, error) {
	in.Range = aws.String(header(x))
	out, err := c.client.GetObject(ctx, &in, unchecked(x))
	if _, status := apiError(err); status == http.StatusPreconditionFailed || status == http.StatusNotFound {
		return nil, &replacedError{err}
	}
	if err != nil {
		return nil, err
	}
	at, end, err := answeredRange(out, x)
	switch {
	case err != nil:
	case aws.ToString(out.ETag) != *in.IfMatch: // a server that does not know If-Match
		err = &replacedError{}
	case end != at+x.Length:
		err = &replacedError{}
	default:
		return out.Body, nil
	}
	return nil, errors.Join(err, out.Body.Close())
}

// replacedError is that an object is not any more what it was when its first part was read.
type replacedError struct{ err error }

const replacedText = "the object was replaced or removed while it was read"

func (e *replacedError) Error() string { return replacedText }
func (e *replacedError) Unwrap() error { return e.err }

// header returns the Range header of a request.
func header(x driver.Extent) string {
	if x.Length < 0 {
		return fmt.Sprintf("bytes=%d-", x.Offset)
	}
	return fmt.Sprintf("bytes=%d-%d", x.Offset, x.Offset+x.Length-1)
}

// unchecked leaves the checksum that a server may give with a part to the caller: it may be that of the whole object.
func unchecked(x driver.Extent) func(*s3.Options) {
	return func(o *s3.Options) {
		if x != driver.Whole {
			o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		}
	}
}

// answeredRange returns from where to where the extent goes that was asked for, now that it is known what there is; to
// 0 when the server does not say how much that is.
func answeredRange(out *s3.GetObjectOutput, x driver.Extent) (at, end int64, err error) {
	if x == driver.Whole {
		return 0, max(0, aws.ToInt64(out.ContentLength)), nil
	}
	if out.ContentRange == nil && aws.ToInt64(out.ContentLength) == 0 {
		return x.Offset, x.Offset, nil // there is no part of nothing
	}
	var last, total int64
	text := aws.ToString(out.ContentRange)
	if _, err := fmt.Sscanf(text, "bytes %d-%d/%d", &at, &last, &total); err != nil || at != x.Offset || last < at || last >= total {
		return 0, 0, fmt.Errorf("the server does not give parts of objects: it was asked for %s and answered %q", header(x), strings.TrimSpace(text))
	}
	end = total
	if x.Length >= 0 {
		end = min(end, x.Offset+x.Length)
	}
	if last+1 < min(end, at+readPart) {
		return 0, 0, fmt.Errorf("the server gave %q where %s was asked for", text, header(x))
	}
	return at, end, nil
}
