package s3

import (
	"cmp"
	"context"
	"iter"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/snapshotd/snapshotd/repository"
)

// pageSize is how many names a page of a listing has at most, when the server does not say.
const pageSize = 1000

// List asks for pages of 1,000, one after the other. A page that does not say how it goes on, or says less of an object
// than the protocol demands, is an error: the names behind it would be lost, and nobody would know.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[repository.Object, error] {
	return func(yield func(repository.Object, error) bool) {
		for page, err := range s.pages(ctx, prefix) {
			if err != nil {
				yield(repository.Object{}, err)
				return
			}
			for _, listed := range page.Contents {
				o, ok, err := s.object(listed, prefix)
				if err != nil {
					yield(repository.Object{}, err)
					return
				}
				if ok && !yield(o, nil) {
					return
				}
			}
		}
	}
}

// Folders implements [driver.FolderLister].
func (s *Store) Folders(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for page, err := range s.pages(ctx, prefix) {
			if err != nil {
				yield("", err)
				return
			}
			for _, common := range page.CommonPrefixes {
				name := strings.TrimPrefix(aws.ToString(common.Prefix), s.key(prefix))
				if !yield(strings.TrimSuffix(name, "/"), nil) {
					return
				}
			}
		}
	}
}

// pages yields the pages of a listing. An error is the last.
func (s *Store) pages(ctx context.Context, prefix string) iter.Seq2[*s3.ListObjectsV2Output, error] {
	return func(yield func(*s3.ListObjectsV2Output, error) bool) {
		c, err := s.open(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		in := &s3.ListObjectsV2Input{
			Bucket: aws.String(s.bucket), Prefix: aws.String(s.key(prefix)), Delimiter: aws.String("/"),
		}
		for {
			page, err := c.client.ListObjectsV2(ctx, in)
			if err == nil {
				err = nextPage(in, page)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(page, nil) || in.ContinuationToken == nil {
				return
			}
		}
	}
}

// nextPage makes a request one for the page that follows, without a token when there is none.
func nextPage(in *s3.ListObjectsV2Input, page *s3.ListObjectsV2Output) error {
	token := aws.ToString(page.NextContinuationToken)
	names, most := len(page.Contents)+len(page.CommonPrefixes), cmp.Or(int(aws.ToInt32(page.MaxKeys)), pageSize)
	switch {
	case page.IsTruncated == nil && token == "" && names >= most:
		return badAnswer("ListObjectsV2: the server does not say whether there are more names (no IsTruncated)")
	case aws.ToBool(page.IsTruncated) && token == "":
		return badAnswer("ListObjectsV2: the server says that there are more names, and not how to get them (no token)")
	case token != "" && token == aws.ToString(in.ContinuationToken):
		return badAnswer("ListObjectsV2: the server gives the same page again and again")
	}
	in.ContinuationToken = nil
	if token != "" {
		in.ContinuationToken = &token
	}
	return nil
}

// object returns an object as it is listed; ok is false for one that is deeper, and for the empty object that some
// tools make for a directory.
func (s *Store) object(listed types.Object, prefix string) (o repository.Object, ok bool, err error) {
	full := aws.ToString(listed.Key)
	name, below := strings.CutPrefix(full, s.key(prefix))
	switch {
	case !below:
		return o, false, badAnswer("ListObjectsV2: the server gives %.300q, which was not asked for", full)
	case name == "" || strings.Contains(name, "/"):
		return o, false, nil
	case listed.Size == nil || *listed.Size < 0 || listed.LastModified == nil:
		return o, false, badAnswer("ListObjectsV2: the server does not give the size and time of %.300q", full)
	}
	return repository.Object{Key: prefix + name, Size: *listed.Size, ModTime: *listed.LastModified}, true, nil
}
