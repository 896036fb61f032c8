package s3

import (
	"context"
	"crypto/rand"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage/driver"
)

const (
	// partSize is the size of an upload's parts, as long as the server takes so many of them.
	partSize = 8 << 20
	// uploads is how many parts of an object are on their way at once. One more is being filled, so this, and not the
	// size of the database, is the memory that an upload takes. Three took 17 MiB more and gained nothing on loopback.
	uploads = 2
	// abortTimeout is how long it may take to remove the parts of an upload that failed.
	abortTimeout = 15 * time.Second
)

// Put uploads in one request, or, from partSize on, in parts. Nothing is visible before the last request, which is sent
// only after src has ended well. The object is looked at before and after: an upload counts only when it is there then.
func (s *Store) Put(ctx context.Context, key string, src *driver.Source, opts repository.PutOptions) error {
	c, err := s.open(ctx)
	if err != nil {
		return err
	}
	look := s.confirmed
	if opts.IfAbsent && s.conditional() { // the server itself looks, too
		look = s.occupant
	}
	before, err := look(ctx, c, key)
	switch {
	case err != nil:
		return err
	case before != nil && opts.IfAbsent:
		return snapshot.ErrExists
	}
	up := &upload{key: key, mark: rand.Text(), before: before, absent: opts.IfAbsent}
	in := &transfermanager.UploadObjectInput{
		Bucket: aws.String(s.bucket), Key: aws.String(s.key(key)), Body: src,
		ContentType: aws.String(opts.ContentType), Metadata: map[string]string{putMark: up.mark},
	}
	if opts.IfAbsent && s.conditional() {
		in.IfNoneMatch = aws.String("*")
	}
	c.upload.apply(in, time.Now())
	out, err := c.uploader(opts).UploadObject(ctx, in)
	if err == nil {
		up.etag = aws.ToString(out.ETag)
	}
	return s.ended(ctx, c, up, src, err)
}

// ended tells what has become of an upload that has ended with an error, or without one.
func (s *Store) ended(ctx context.Context, c *connection, up *upload, src *driver.Source, err error) error {
	up.size = src.Size()
	switch {
	case err == nil:
		return s.verify(ctx, c, up)
	case src.Err() == nil && mayBeStored(ctx, err) && s.stored(ctx, c, up):
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	if _, status := apiError(err); up.absent && status == http.StatusPreconditionFailed {
		return snapshot.ErrExists
	}
	return err
}

// conditional reports whether the server knows If-None-Match, as far as the URL says.
func (s *Store) conditional() bool {
	return !s.params.Has(conditionalParam) || s.isSet(conditionalParam)
}

// uploader returns a manager for one upload. Without a timeout of its own, the abort of an upload would run on the
// context that was cancelled, and leave the parts.
func (c *connection) uploader(opts repository.PutOptions) *transfermanager.Client {
	return transfermanager.New(c.client, func(o *transfermanager.Options) {
		o.PartSizeBytes = partSizeFor(opts.SizeHint, c.upload.maxParts)
		o.ObjectProgressListeners.Register(acknowledged(opts.Took))
		o.MultipartUploadThreshold = partSize
		o.MaxUploadParts = c.upload.maxParts
		o.Concurrency = uploads
		o.FailTimeout = abortTimeout
		o.RequestChecksumCalculation = c.checksums // the manager does not take it from the client
	})
}

// acknowledged is told of the bytes in requests that the server has answered.
type acknowledged func(bytes int64)

func (a acknowledged) OnObjectBytesTransferred(_ context.Context, ev *transfermanager.ObjectBytesTransferredEvent) {
	a(ev.BytesTransferred)
}

// partSizeFor returns the size of the parts of an object of at most hint bytes. A tenth of the parts is left: the size
// is a hint.
func partSizeFor(hint, maxParts int64) int64 {
	const mib = 1 << 20
	parts := max(1, maxParts*9/10)
	size := max(partSize, (hint+parts-1)/parts)
	return (size + mib - 1) / mib * mib
}
