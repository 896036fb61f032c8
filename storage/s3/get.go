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
	if err := s.checkKey(key); err != nil {
		return nil, err
	}
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

// getObject is Get; closing the object cancels ctx.
func (s *Store) getObject(
	ctx context.Context, cancel context.CancelFunc, c *connection, key string, x driver.Extent,
) (io.ReadCloser, error) {
	in := s3.GetObjectInput{Bucket: aws.String(s.bucket), Key: aws.String(s.key(key))}
	out, err := c.client.GetObject(ctx, first(in, x), unchecked(x))
	if _, status := apiError(err); status == http.StatusRequestedRangeNotSatisfiable && x != driver.Whole {
		return s.nearEnd(ctx, cancel, c, key, x, err)
	}
	if err != nil {
		return nil, s.reason(ctx, c, key, err)
	}
	if x != driver.Whole && out.ContentRange == nil {
		return c.cutOut(ctx, cancel, out, x)
	}
	at, end, err := answeredRange(out, x)
	if err == nil && out.ContentLength == nil {
		end, err = s.length(ctx, c, key, out.ETag)
	}
	if err != nil {
		return nil, errors.Join(err, out.Body.Close())
	}
	if end-at <= readPart || c.features.noRange.Load() {
		length := func() (int64, error) { return s.length(ctx, c, key, out.ETag) }
		return &object{&summedBody{ReadCloser: whole(out.Body, end-at), length: length}, cancel}, nil
	}
	in.IfMatch = out.ETag
	open := func(ctx context.Context, x driver.Extent) (io.ReadCloser, error) { return c.getPart(ctx, in, x) }
	return newPartReader(ctx, cancel, out.Body, at, end, open), nil
}

// nearEnd reads an extent that a server has refused. All of it may be behind the end; but some servers also refuse one
// that only goes on behind it.
func (s *Store) nearEnd(
	ctx context.Context, cancel context.CancelFunc, c *connection, key string, x driver.Extent, refusal error,
) (io.ReadCloser, error) {
	head, err := s.head(ctx, c, key)
	if err != nil {
		return nil, err
	}
	left := aws.ToInt64(head.ContentLength) - x.Offset
	switch {
	case left <= 0:
		return &object{http.NoBody, cancel}, nil
	case x.Length >= 0 && x.Length <= left:
		return nil, refusal
	}
	return s.getObject(ctx, cancel, c, key, driver.Extent{Offset: x.Offset, Length: left})
}

// length asks for the length of an object that came without one.
func (s *Store) length(ctx context.Context, c *connection, key string, etag *string) (int64, error) {
	head, err := s.head(ctx, c, key)
	switch {
	case err != nil:
		return 0, err
	case !sameETag(head.ETag, etag):
		return 0, &replacedError{}
	}
	return aws.ToInt64(head.ContentLength), nil
}

// whole returns a body that is an error unless it has this many bytes; any number of them when it is 0, which is not
// known then.
func whole(body io.ReadCloser, size int64) io.ReadCloser {
	if size == 0 {
		return body
	}
	return &exactBody{ReadCloser: body, left: size}
}

// exactBody is a body whose length is known from elsewhere in the answer.
type exactBody struct {
	io.ReadCloser
	left int64
}

func (b *exactBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		var more [1]byte
		n, err := b.ReadCloser.Read(more[:])
		if n > 0 {
			return 0, badAnswer("GetObject: the server gives more bytes than it said")
		}
		return 0, err
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	if b.left -= int64(n); err == io.EOF && b.left > 0 { // wrapped, it is something else
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// summedBody is a body with a checksum, which half of an object does not have either: only when the server says that
// the object has as many bytes as it gave is a wrong checksum that of the object.
type summedBody struct {
	io.ReadCloser
	n      int64
	length func() (int64, error)
}

func (b *summedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n += int64(n)
	if err == nil || !isWrongSum(err) {
		return n, err
	}
	size, lerr := b.length()
	switch {
	case lerr != nil:
		return n, lerr
	case size != b.n:
		return n, badAnswer("GetObject: the server gave %d bytes of an object of which it says that it has %d", b.n, size)
	}
	return n, err
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

// cutOut takes an extent out of the whole object, with which a server answers that does not know Range.
func (c *connection) cutOut(
	ctx context.Context, cancel context.CancelFunc, out *s3.GetObjectOutput, x driver.Extent,
) (io.ReadCloser, error) {
	if aws.ToInt64(out.ContentLength) > 0 {
		c.features.noRange.Store(true)
	}
	err := skip(ctx, out.Body, x.Offset)
	if err != nil && err != io.EOF { //nolint:errorlint // wrapped, it is another error
		return nil, errors.Join(err, out.Body.Close())
	}
	body := out.Body
	if x.Length >= 0 {
		body = within(body, x.Length)
	}
	return &object{body, cancel}, nil
}

// skip reads n bytes and drops them. It is io.EOF when there are fewer.
func skip(ctx context.Context, r io.Reader, n int64) error {
	_, err := io.CopyN(io.Discard, r, n)
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
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
	if x != driver.Whole {
		in.Range = aws.String(header(x))
	}
	etag := in.IfMatch
	if strings.HasPrefix(aws.ToString(etag), "W/") { // a proxy made it so; If-Match would never hold
		in.IfMatch = nil
	}
	out, err := c.client.GetObject(ctx, &in, unchecked(x))
	if _, status := apiError(err); status == http.StatusPreconditionFailed || status == http.StatusNotFound {
		return nil, &replacedError{err}
	}
	if err != nil {
		return nil, err
	}
	if err = c.checkPart(out, *etag, x); err != nil {
		return nil, errors.Join(err, out.Body.Close())
	}
	return out.Body, nil
}

// checkPart refuses a part of another object: not all servers know If-Match.
func (c *connection) checkPart(out *s3.GetObjectOutput, etag string, x driver.Extent) error {
	if !sameETag(out.ETag, &etag) {
		return &replacedError{}
	}
	if x == driver.Whole {
		return nil
	}
	if out.ContentRange == nil {
		c.features.noRange.Store(true)
		return &noRangeError{}
	}
	at, end, err := answeredRange(out, x)
	if err == nil && end != at+x.Length {
		return &replacedError{}
	}
	return err
}

// replacedError is that an object is not any more the one whose first part was read.
type replacedError struct{ err error }

const replacedText = "the object was replaced or removed while it was read"

func (e *replacedError) Error() string { return replacedText }
func (e *replacedError) Unwrap() error { return e.err }

// noRangeError is that the server gave the whole object for a part.
type noRangeError struct{}

func (*noRangeError) Error() string { return "the server does not give parts of objects" }

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

// answeredRange returns where the extent that was asked for begins and ends, now that the size of the object is known.
// The end of a whole object is 0 when the server does not say it.
func answeredRange(out *s3.GetObjectOutput, x driver.Extent) (at, end int64, err error) {
	if x == driver.Whole {
		if out.ContentRange != nil {
			return 0, 0, badAnswer("the server gave a part (%.60q) of an object that was asked for whole", *out.ContentRange)
		}
		return 0, max(0, aws.ToInt64(out.ContentLength)), nil
	}
	var last, total int64
	text := strings.TrimSpace(aws.ToString(out.ContentRange))
	_, err = fmt.Sscanf(text, "bytes %d-%d/%d", &at, &last, &total)
	if err != nil || at != x.Offset || last < at || last >= total {
		return 0, 0, badAnswer("the server gave %.60q where %s was asked for", text, header(x))
	}
	end = total
	if x.Length >= 0 {
		end = min(end, x.Offset+x.Length)
	}
	if last+1 < min(end, at+readPart) {
		return 0, 0, badAnswer("the server gave %.60q where %s was asked for", text, header(x))
	}
	return at, end, nil
}
