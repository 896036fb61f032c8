package s3

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage/driver"
)

const (
	// partSize is the size of an upload's parts, as long as partCount of them are enough.
	partSize = 8 << 20
	// partCount leaves some of S3's limit of 10,000: the size is a hint.
	partCount = 9000
	// uploads is how many parts of an object are on their way at once. One more is being filled, so this, and not the
	// size of the database, is the memory that an upload takes. Three took 17 MiB more and gained nothing on loopback.
	uploads = 2
	// abortTimeout is how long it may take to remove the parts of an upload that failed.
	abortTimeout = 15 * time.Second
	// putMark is the metadata in which an object carries the mark of the call that stored it.
	putMark = "snapshotd-put"
)

// Put uploads in one request, or, from partSize on, in parts. Nothing is visible before the last request, which is sent
// only after src has ended well.
func (s *Store) Put(ctx context.Context, key string, src *driver.Source, opts repository.PutOptions) error {
	c, err := s.open(ctx)
	if err != nil {
		return err
	}
	mark := rand.Text()
	in := &transfermanager.UploadObjectInput{
		Bucket: aws.String(s.bucket), Key: aws.String(s.key(key)), Body: src,
		ContentType: aws.String(opts.ContentType), Metadata: map[string]string{putMark: mark},
	}
	if opts.IfAbsent {
		in.IfNoneMatch = aws.String("*")
	}
	c.upload.apply(in, time.Now())
	_, err = c.uploader(partSizeFor(opts.SizeHint)).UploadObject(ctx, in)
	if err == nil || src.Err() != nil {
		return err
	}
	if s.committed(ctx, c, key, mark, err) {
		return nil
	}
	_, status := apiError(err)
	switch {
	case ctx.Err() != nil:
		return ctx.Err() // whatever it led to
	case opts.IfAbsent && status == http.StatusPreconditionFailed:
		return snapshot.ErrExists
	default:
		return err
	}
}

// uploader returns a manager for one upload. Without a timeout of its own, the abort of an upload would run on the
// context that was cancelled, and leave the parts.
func (c *connection) uploader(part int64) *transfermanager.Client {
	return transfermanager.New(c.client, func(o *transfermanager.Options) {
		o.PartSizeBytes = part
		o.MultipartUploadThreshold = partSize
		o.Concurrency = uploads
		o.FailTimeout = abortTimeout
		o.RequestChecksumCalculation = c.checksums // the manager does not take it from the client
	})
}

// partSizeFor returns the size of the parts of an object of at most hint bytes.
func partSizeFor(hint int64) int64 {
	const mib = 1 << 20
	size := max(partSize, (hint+partCount-1)/partCount)
	return (size + mib - 1) / mib * mib
}

// committed finds out whether an upload whose last answer was lost, or was the answer to its repetition, has taken
// place: then the object carries the mark of this call.
func (s *Store) committed(ctx context.Context, c *connection, key, mark string, err error) bool {
	code, status := apiError(err)
	refused := status >= 400 && status < 500 && status != http.StatusPreconditionFailed && code != "NoSuchUpload"
	e, ok := errors.AsType[*net.OpError](err)
	down := ok && e.Op == "dial" // there is nobody to ask
	if refused || down || ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	head, err := c.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String(s.bucket), Key: aws.String(s.key(key))})
	return err == nil && head.Metadata[putMark] == mark
}
