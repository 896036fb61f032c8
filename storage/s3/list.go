package s3

import (
	"context"
	"iter"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/snapshotd/snapshotd/repository"
)

// List asks for pages of 1,000, one after the other.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[repository.Object, error] {
	return func(yield func(repository.Object, error) bool) {
		c, err := s.open(ctx)
		if err != nil {
			yield(repository.Object{}, err)
			return
		}
		pages := s3.NewListObjectsV2Paginator(c.client, &s3.ListObjectsV2Input{
			Bucket: aws.String(s.bucket), Prefix: aws.String(s.key(prefix)), Delimiter: aws.String("/"),
		})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(repository.Object{}, err)
				return
			}
			for _, o := range page.Contents {
				key, ok := strings.CutPrefix(aws.ToString(o.Key), s.prefix)
				if !ok || key == "" || strings.HasSuffix(key, "/") {
					continue // the empty object that some tools make for a directory
				}
				if !yield(repository.Object{Key: key, Size: aws.ToInt64(o.Size), ModTime: aws.ToTime(o.LastModified)}, nil) {
					return
				}
			}
		}
	}
}
