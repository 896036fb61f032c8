package s3

import (
	"context"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/storage/driver"
)

// Sweep aborts the unfinished uploads of writers that died. A server that has no listing of them has none to sweep.
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

// unfinished lists the uploads that may be swept. All of them are listed first: markers of pages are uploads, too.
func (s *Store) unfinished(ctx context.Context, c *connection, prefix string, opts repository.SweepOptions) ([]types.MultipartUpload, error) {
	var left []types.MultipartUpload
	pages := s3.NewListMultipartUploadsPaginator(c.client, &s3.ListMultipartUploadsInput{
		Bucket: aws.String(s.bucket), Prefix: aws.String(s.key(prefix)),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if code, _ := apiError(err); code == "NotImplemented" {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		for _, u := range page.Uploads {
			name, below := strings.CutPrefix(aws.ToString(u.Key), s.key(prefix))
			if below && !strings.Contains(name, "/") && driver.Swept(prefix+name, opts) && aws.ToTime(u.Initiated).Before(opts.OlderThan) {
				left = append(left, u)
			}
		}
	}
	return left, nil
}

// sweepUpload aborts an upload, unless something was written to it lately.
func (s *Store) sweepUpload(ctx context.Context, c *connection, u types.MultipartUpload, opts repository.SweepOptions) (bool, error) {
	last, err := s.lastPart(ctx, c, u)
	if err == nil && !last.Before(opts.OlderThan) {
		return false, nil
	}
	if err == nil && !opts.DryRun {
		_, err = c.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
			Bucket: aws.String(s.bucket), Key: u.Key, UploadId: u.UploadId,
		})
	}
	if code, _ := apiError(err); code == "NoSuchUpload" {
		return false, nil // it has ended meanwhile
	}
	return err == nil, err
}

// lastPart returns when something was last written to an upload.
func (s *Store) lastPart(ctx context.Context, c *connection, u types.MultipartUpload) (time.Time, error) {
	last := aws.ToTime(u.Initiated)
	pages := s3.NewListPartsPaginator(c.client, &s3.ListPartsInput{
		Bucket: aws.String(s.bucket), Key: u.Key, UploadId: u.UploadId,
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return last, err
		}
		for _, p := range page.Parts {
			if t := aws.ToTime(p.LastModified); t.After(last) {
				last = t
			}
		}
	}
	return last, nil
}
