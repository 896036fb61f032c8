package s3

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/snapshotd/snapshotd/snapshot"
)

const (
	// putMark is the metadata in which an object carries the mark of the call that stored it.
	putMark = "snapshotd-put"
	// looks is how often an object is looked for that should be there: some servers show it a moment later.
	looks     = 4
	lookPause = 200 * time.Millisecond
	// lookTimeout is how long it may take, also when the caller has gone.
	lookTimeout = 15 * time.Second
)

// upload is an upload whose end is to be proved.
type upload struct {
	key    string
	mark   string
	etag   string // as the server answered; empty when its answer was lost
	size   int64
	absent bool                 // the object must not replace another one
	before *s3.HeadObjectOutput // the object that it replaces; nil without one
}

// occupant returns the object under a key; nil when there is none, or no bucket.
func (s *Store) occupant(ctx context.Context, c *connection, key string) (*s3.HeadObjectOutput, error) {
	if err := s.checkKey(key); err != nil {
		return nil, err
	}
	head, err := s.headObject(ctx, c, key)
	if err == nil {
		return head, nil
	}
	if _, status := apiError(err); status == http.StatusNotFound {
		return nil, nil //nolint:nilnil // none is an answer
	}
	return nil, s.reason(ctx, c, key, err)
}

// confirmed is occupant for a caller that must not be wrong when there is none: the object is asked for then, too.
func (s *Store) confirmed(ctx context.Context, c *connection, key string) (*s3.HeadObjectOutput, error) {
	head, err := s.head(ctx, c, key)
	if errors.Is(err, snapshot.ErrNotFound) {
		return nil, nil //nolint:nilnil // none is an answer
	}
	return head, err
}

// mayBeStored reports whether an upload that failed may have taken place all the same: its last answer was lost, broke
// the protocol, or was the answer to a repetition.
func mayBeStored(ctx context.Context, err error) bool {
	code, status := apiError(err)
	refused := status >= 400 && status < 500 && status != http.StatusPreconditionFailed && code != "NoSuchUpload"
	e, ok := errors.AsType[*net.OpError](err)
	down := ok && (e.Op == "dial" || e.Op == "proxyconnect") // there is nobody to ask
	cancelled := ctx.Err() != nil && errors.Is(err, context.Canceled)
	return !refused && !down && !cancelled
}

// verify looks until the object of an upload is there, whole: the server has said that it is.
func (s *Store) verify(ctx context.Context, c *connection, up *upload) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTimeout)
	defer cancel()
	for n := 1; ; n++ {
		head, err := s.occupant(ctx, c, up.key)
		if err != nil {
			if up.before == nil { // a put that fails leaves nothing that may be its object
				s.discard(ctx, c, up.key)
			}
			return err
		}
		err = up.compare(head)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, snapshot.ErrExists):
			return err
		case n == looks:
			if up.isOurs(head) { // and it is not whole
				s.discard(ctx, c, up.key)
			}
			return err
		}
		if err := pause(ctx, lookPause<<(n-1)); err != nil {
			return err
		}
	}
}

// stored reports whether an upload whose answer was lost has taken place.
func (s *Store) stored(ctx context.Context, c *connection, up *upload) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTimeout)
	defer cancel()
	head, err := s.occupant(ctx, c, up.key)
	if err != nil || !up.isOurs(head) {
		return false
	}
	if up.compare(head) != nil {
		s.discard(ctx, c, up.key)
		return false
	}
	return true
}

// isOurs reports whether an object is the one that was uploaded: it has the mark of the call, or, from a server that
// keeps no metadata, the ETag of its answer.
func (up *upload) isOurs(head *s3.HeadObjectOutput) bool {
	if head == nil {
		return false
	}
	mark := head.Metadata[putMark]
	return mark == up.mark || mark == "" && up.etag != "" && sameETag(head.ETag, &up.etag)
}

// compare returns why an object does not prove that the upload has taken place. One with the mark of another call, that
// was not there before, does: it has taken the place of ours.
func (up *upload) compare(head *s3.HeadObjectOutput) error {
	switch {
	case head == nil:
		return unproved("has none")
	case up.isOurs(head):
		if size := aws.ToInt64(head.ContentLength); size != up.size {
			return unproved("has %d bytes of %d", size, up.size)
		}
		return nil
	case up.before != nil && head.Metadata[putMark] == up.before.Metadata[putMark] && sameETag(head.ETag, up.before.ETag):
		return unproved("still has the one before it")
	case head.Metadata[putMark] == "":
		return unproved("has another one")
	case up.absent:
		return snapshot.ErrExists
	}
	return nil
}

// sameETag compares without the quotes, which some servers leave out in some of their answers, and without the mark of
// a proxy that may change how the body is encoded.
func sameETag(a, b *string) bool {
	bare := func(etag *string) string { return strings.Trim(strings.TrimPrefix(aws.ToString(etag), "W/"), `"`) }
	return bare(a) == bare(b)
}

// discard removes an object that is not whole. Reconcile removes it later if that fails.
func (s *Store) discard(ctx context.Context, c *connection, key string) {
	_, _ = c.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String(s.bucket), Key: aws.String(s.key(key))})
}
