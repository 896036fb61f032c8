package s3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage/driver"
)

// Stat implements [driver.Store].
func (s *Store) Stat(ctx context.Context, key string) (repository.Object, error) {
	c, err := s.open(ctx)
	if err != nil {
		return repository.Object{}, err
	}
	head, err := s.head(ctx, c, key)
	if err != nil {
		return repository.Object{}, err
	}
	return repository.Object{
		Key: key, Size: aws.ToInt64(head.ContentLength), ModTime: aws.ToTime(head.LastModified),
		LockedUntil: lockedUntil(head),
	}, nil
}

// head asks for an object's metadata. A refusal is explained, see [Store.reason].
func (s *Store) head(ctx context.Context, c *connection, key string) (*s3.HeadObjectOutput, error) {
	if err := s.checkKey(key); err != nil {
		return nil, err
	}
	head, err := s.headObject(ctx, c, key)
	if err == nil {
		return head, nil
	}
	if err = s.reason(ctx, c, key, err); errors.Is(err, errHidden) { // or it has been stored meanwhile
		if head, again := s.headObject(ctx, c, key); again == nil {
			return head, nil
		}
	}
	return nil, err
}

// headObject asks for an object's metadata, with its length. Proxies that may compress answers leave the length out.
func (s *Store) headObject(ctx context.Context, c *connection, key string) (*s3.HeadObjectOutput, error) {
	in := &s3.HeadObjectInput{Bucket: aws.String(s.bucket), Key: aws.String(s.key(key))}
	head, err := c.client.HeadObject(ctx, in)
	if err == nil && head.ContentLength == nil {
		head.ContentLength, err = s.measure(ctx, c, key, head.ETag)
	}
	return head, err
}

// measure takes the length of an object from the answer to a request for its first byte.
func (s *Store) measure(ctx context.Context, c *connection, key string, etag *string) (*int64, error) {
	first := driver.Extent{Length: 1}
	out, err := c.client.GetObject(ctx, &s3.GetObjectInput{
		Bucket: aws.String(s.bucket), Key: aws.String(s.key(key)), Range: aws.String(header(first)),
	}, unchecked(first))
	if _, status := apiError(err); status == http.StatusRequestedRangeNotSatisfiable {
		return aws.Int64(0), nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Body.Close() }()
	size := out.ContentLength // of a server that has given all of it
	if out.ContentRange != nil {
		var total int64
		if _, err := fmt.Sscanf(*out.ContentRange, "bytes 0-0/%d", &total); err == nil {
			size = &total
		}
	}
	switch {
	case !sameETag(out.ETag, etag):
		return nil, &replacedError{}
	case size == nil || *size < 1:
		return nil, badAnswer("HeadObject: the server gives no length, and GetObject %.60q", aws.ToString(out.ContentRange))
	}
	return size, nil
}

// reason returns why an object cannot be had. The answer to a HEAD has no body that would tell an object that does not
// exist from a bucket that does not, or a wrong key from a missing permission; so the object's first byte is asked for.
// An object is said not to exist only when the server has said so of the object, or the bucket was seen.
func (s *Store) reason(ctx context.Context, c *connection, key string, err error) error {
	code, status := apiError(err)
	if status >= http.StatusBadRequest && status < http.StatusInternalServerError && isVague(code) {
		err = s.ask(ctx, c, key, err)
		code, status = apiError(err)
	}
	switch {
	case code == "NoSuchKey":
		return snapshot.ErrNotFound
	case status != http.StatusNotFound || !isVague(code):
		return err
	}
	_, berr := c.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: aws.String(s.bucket)})
	if _, status := apiError(berr); status == http.StatusNotFound {
		return &bucketError{s.bucket, berr}
	}
	return cmp.Or(berr, snapshot.ErrNotFound)
}

// errHidden is that a server denies an object that it has: some proxies answer a HEAD so that they do not pass on. The
// object is not gone.
var errHidden = badAnswer("the server says that there is no such object (404), and GetObject gives it")

// ask asks for the first byte of an object and returns the server's words, or the error that it gave before.
func (s *Store) ask(ctx context.Context, c *connection, key string, before error) error {
	first := driver.Extent{Length: 1}
	out, err := c.client.GetObject(ctx, &s3.GetObjectInput{
		Bucket: aws.String(s.bucket), Key: aws.String(s.key(key)), Range: aws.String(header(first)),
	}, unchecked(first))
	switch _, status := apiError(err); {
	case err == nil:
		err = out.Body.Close()
	case status == http.StatusRequestedRangeNotSatisfiable:
		err = nil // the object is there, and empty
	default:
		return err
	}
	if _, status := apiError(before); status == http.StatusNotFound {
		return errHidden
	}
	return errors.Join(before, err)
}

// bucketError is that there is no such bucket: nothing is known of its objects.
type bucketError struct {
	bucket string
	err    error
}

func (e *bucketError) Error() string { return "the bucket " + e.bucket + " does not exist" }
func (e *bucketError) Unwrap() error { return e.err }

// farFuture stands for a lock without an end.
var farFuture = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// lockedUntil returns until when the bucket's object lock keeps an object; a legal hold has no end.
func lockedUntil(head *s3.HeadObjectOutput) time.Time {
	if head.ObjectLockLegalHoldStatus == types.ObjectLockLegalHoldStatusOn {
		return farFuture
	}
	return aws.ToTime(head.ObjectLockRetainUntilDate)
}

// Delete is a HEAD, a DELETE and a HEAD: in a bucket with versions, deleting an object that is not there would leave a
// marker, and not every server that says that it has deleted an object has.
func (s *Store) Delete(ctx context.Context, key string) error {
	c, err := s.open(ctx)
	if err != nil {
		return err
	}
	before, err := s.head(ctx, c, key)
	if err == nil {
		in := &s3.DeleteObjectInput{Bucket: aws.String(s.bucket), Key: aws.String(s.key(key))}
		if _, err = c.client.DeleteObject(ctx, in); err != nil {
			err = s.reason(ctx, c, key, err)
		} else {
			err = s.gone(ctx, c, key, before)
		}
	}
	if errors.Is(err, snapshot.ErrNotFound) {
		return nil
	}
	return err
}

// gone looks whether an object that was deleted is not there any more. Another one may have taken its place meanwhile.
func (s *Store) gone(ctx context.Context, c *connection, key string, before *s3.HeadObjectOutput) error {
	for n := 1; ; n++ {
		after, err := s.occupant(ctx, c, key)
		if err != nil || after == nil {
			return err
		}
		if !sameETag(after.ETag, before.ETag) || after.Metadata[putMark] != before.Metadata[putMark] ||
			!aws.ToTime(after.LastModified).Equal(aws.ToTime(before.LastModified)) {
			return nil
		}
		if n == looks {
			return &answerError{"DeleteObject: the server said that it has deleted the object, and still has it", hintNotDeleted}
		}
		if err := pause(ctx, lookPause<<(n-1)); err != nil {
			return err
		}
	}
}

const hintNotDeleted = "look at the server's log, and at what protects its objects or holds answers back (caches, " +
	"replicas)"
