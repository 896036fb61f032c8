package s3

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/storage/driver"
)

// Sweep aborts the unfinished uploads of writers that died. On a server that does not list them, a lifecycle rule must.
func (s *Store) Sweep(ctx context.Context, prefix string, opts repository.SweepOptions) (n int64, err error) {
	c, err := s.open(ctx)
	if err != nil {
		return 0, err
	}
	left, err := s.unfinished(ctx, c, prefix, opts)
	if err != nil {
		return 0, err
	}
	for _, u := range left {
		removed, err := s.sweepUpload(ctx, c, u, opts)
		if err != nil {
			return n, err
		}
		if removed {
			n++
		}
	}
	return n, nil
}

// maxSwept is how many uploads are swept at once.
const maxSwept = 10_000

// unfinished lists the uploads that may be swept. All of them are listed first: markers of pages are uploads, too.
func (s *Store) unfinished(
	ctx context.Context, c *connection, prefix string, opts repository.SweepOptions,
) ([]types.MultipartUpload, error) {
	var left []types.MultipartUpload
	in := &s3.ListMultipartUploadsInput{Bucket: aws.String(s.bucket), Prefix: aws.String(s.key(prefix))}
	seen := pages{of: "ListMultipartUploads"}
	for {
		page, err := c.client.ListMultipartUploads(ctx, in)
		if isUnknownOperation(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		for _, u := range page.Uploads {
			if s.mayBeSwept(u, prefix, opts) {
				left = append(left, u)
			}
		}
		key, id := page.NextKeyMarker, page.NextUploadIdMarker
		switch {
		case !aws.ToBool(page.IsTruncated):
			return left, nil
		case len(left) >= maxSwept:
			return left, nil // the next sweep takes the others
		case aws.ToString(key) == "":
			return nil, badAnswer("ListMultipartUploads: the server says that there are more, and not how to get them")
		}
		if err := seen.turn(*key+"\n"+aws.ToString(id), *key); err != nil {
			return nil, err
		}
		in.KeyMarker, in.UploadIdMarker = key, id
	}
}

// isUnknownOperation reports whether a server has refused a request because it does not know the operation. 400 is also
// the answer to credentials that have expired, and those have codes of their own.
func isUnknownOperation(err error) bool {
	code, status := apiError(err)
	switch status {
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	case http.StatusBadRequest:
		switch code {
		case "InvalidRequest", "InvalidArgument", "InvalidURI", "MethodNotAllowed", "NotImplemented":
			return true
		}
		return isVague(code)
	}
	return false
}

// mayBeSwept reports whether an upload is one of this program that began long ago. One whose key, id or time the server
// does not give is left alone.
func (s *Store) mayBeSwept(u types.MultipartUpload, prefix string, opts repository.SweepOptions) bool {
	name, below := strings.CutPrefix(aws.ToString(u.Key), s.key(prefix))
	return below && !strings.Contains(name, "/") && driver.Swept(prefix+name, opts) &&
		aws.ToString(u.UploadId) != "" && u.Initiated != nil && u.Initiated.Before(opts.OlderThan)
}

// sweepUpload aborts an upload, unless something was written to it lately.
func (s *Store) sweepUpload(
	ctx context.Context, c *connection, u types.MultipartUpload, opts repository.SweepOptions,
) (bool, error) {
	last, err := s.lastPart(ctx, c, u)
	if err == nil && !last.Before(opts.OlderThan) {
		return false, nil
	}
	if err == nil && !opts.DryRun {
		_, err = c.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
			Bucket: aws.String(s.bucket), Key: u.Key, UploadId: u.UploadId,
		})
	}
	if code, _ := apiError(err); code == "NoSuchUpload" || isUnknownOperation(err) {
		return false, nil // it has ended meanwhile, or nobody can say
	}
	return err == nil, err
}

// lastPart returns when something was last written to an upload.
func (s *Store) lastPart(ctx context.Context, c *connection, u types.MultipartUpload) (time.Time, error) {
	last := aws.ToTime(u.Initiated)
	in := &s3.ListPartsInput{Bucket: aws.String(s.bucket), Key: u.Key, UploadId: u.UploadId}
	seen := pages{of: "ListParts"}
	for {
		page, err := c.client.ListParts(ctx, in)
		if err != nil {
			return last, err
		}
		for _, p := range page.Parts {
			if p.LastModified == nil {
				return last, badAnswer("ListParts: the server does not give the time of a part")
			}
			if p.LastModified.After(last) {
				last = *p.LastModified
			}
		}
		next := aws.ToString(page.NextPartNumberMarker)
		switch {
		case !aws.ToBool(page.IsTruncated):
			return last, nil
		case next == "":
			return last, badAnswer("ListParts: the server says that there are more parts, and not how to get them")
		}
		if err := seen.turn(next, fmt.Sprintf("%010s", next)); err != nil {
			return last, err
		}
		in.PartNumberMarker = &next
	}
}
