package storage

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/snapshotd/snapshotd/snapshot"
)

const (
	// partSize is the size of an upload's parts, as long as partCount of them are enough.
	partSize = 8 << 20
	// partCount leaves some of S3's limit of 10,000: the size is a hint.
	partCount = 9000
	// uploads is how many parts of an object are on their way at once. One more is being filled, so this, and not the
	// size of the database, is what memory an upload takes. Three took 17 MiB more and gained nothing on
	// loopback.
	uploads = 2
	// abortTimeout is how long it may take to remove the parts of an upload that failed.
	abortTimeout = 15 * time.Second
	// putMark is the metadata in which an object carries the mark of the call that stored it.
	putMark = "snapshotd-put"
)

// put uploads in one request, or, from partSize on, in parts. Nothing is visible before the last request, which is sent
// only after src has ended well.
func (s *s3Store) put(ctx context.Context, key string, src *source, opts snapshot.PutOptions) error {
	conn, err := s.open(ctx)
	if err != nil {
		return err
	}
	upload, cancel := context.WithCancel(ctx)
	defer cancel()
	mark := rand.Text()
	w, err := conn.bucket.NewWriter(upload, s.key(key), &blob.WriterOptions{
		ContentType: opts.ContentType, // without it, the first bytes are kept back to guess it
		IfNotExist:  opts.IfAbsent,
		Metadata:    map[string]string{putMark: mark},
		BeforeWrite: conn.uploader(partSizeFor(opts.SizeHint)),
	})
	if err != nil {
		return err
	}
	if err := src.copyTo(w); err != nil {
		cancel()              // before Close, which commits otherwise
		closeErr := w.Close() // waits until the parts are removed
		return uploadError(ctx, src, err, closeErr)
	}
	err = w.Close()
	if err == nil || s.committed(ctx, conn, key, mark, err) {
		return nil
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err() // whatever it led to
	case opts.IfAbsent && gcerrors.Code(err) == gcerrors.FailedPrecondition:
		return snapshot.ErrExists
	default:
		return err
	}
}

// uploadError chooses why an upload ended: the reader, the caller, or else what the server said, which closing the writer
// repeats.
func uploadError(ctx context.Context, src *source, err, closeErr error) error {
	if src.err != nil || ctx.Err() != nil || closeErr == nil || errors.Is(closeErr, context.Canceled) {
		return err
	}
	return closeErr
}

// uploader reaches for what gocloud.dev/blob has no option for: the abort of an upload would otherwise run on the context
// that was cancelled, and leave the parts. The manager's options cannot be changed, so it is replaced as a whole.
func (c *s3Conn) uploader(part int64) func(as func(any) bool) error {
	return func(as func(any) bool) error {
		var manager *transfermanager.Client
		var req *transfermanager.UploadObjectInput
		if !as(&manager) || !as(&req) {
			return errors.New("s3blob does not give its upload manager")
		}
		c.upload.apply(req, time.Now())
		*manager = *transfermanager.New(c.client, func(o *transfermanager.Options) {
			o.PartSizeBytes = part
			o.MultipartUploadThreshold = partSize
			o.Concurrency = uploads
			o.FailTimeout = abortTimeout
			o.RequestChecksumCalculation = c.checksums // the manager does not take it from the client
		})
		return nil
	}
}

// partSizeFor returns the size of the parts of an object of at most hint bytes.
func partSizeFor(hint int64) int64 {
	const mib = 1 << 20
	size := max(partSize, (hint+partCount-1)/partCount)
	return (size + mib - 1) / mib * mib
}

// committed finds out whether an upload whose last answer was lost, or was the answer to its repetition, has taken place:
// then the object carries the mark of this call.
func (s *s3Store) committed(ctx context.Context, conn *s3Conn, key, mark string, err error) bool {
	code, status := apiError(err)
	refused := status >= 400 && status < 500 && status != http.StatusPreconditionFailed && code != "NoSuchUpload"
	e, ok := errors.AsType[*net.OpError](err)
	down := ok && e.Op == "dial" // there is nobody to ask
	if refused || down || ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	attrs, err := conn.bucket.Attributes(ctx, s.key(key))
	return err == nil && attrs.Metadata[putMark] == mark
}
