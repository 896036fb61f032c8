package s3

import (
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"iter"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/snapshotd/snapshotd/repository"
)

// pageSize is how many names a page of a listing has at most, when the server does not say.
const pageSize = 1000

// maxEmptyPages is how many pages without a new name may follow each other: AWS has some where many objects were
// deleted.
const maxEmptyPages = 1000

// pages follows a listing from page to page, and finds out when it does not come nearer to its end.
type pages struct {
	of    string // the operation
	last  string // the greatest name so far
	empty int    // pages since then
	ended bool   // the last page said that there are no more, and gave a token all the same

	// A token that was here before makes a circle. One of them is remembered, a later one after twice as many pages: a
	// circle of any length comes back to it.
	token       string
	steps, next int
}

// turn takes the token for the next page, and the greatest name on this one.
func (p *pages) turn(token, greatest string) error {
	if token == p.token {
		return badAnswer("%s: the server gives the same page again and again", p.of)
	}
	if p.steps++; p.steps >= p.next {
		p.token, p.steps, p.next = token, 0, max(1, 2*p.next)
	}
	p.empty++
	if greatest > p.last {
		p.last, p.empty = greatest, 0
	}
	if p.empty > maxEmptyPages {
		return badAnswer("%s: the server gave %d pages without a new name, and says that there are more", p.of, p.empty)
	}
	return nil
}

// List asks for pages of 1,000, one after the other. A page that does not say how it goes on, or says less of an object
// than the protocol demands, is an error: the names behind it would be lost, and nobody would know.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[repository.Object, error] {
	return func(yield func(repository.Object, error) bool) {
		for page, err := range s.listPages(ctx, prefix) {
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
		for page, err := range s.listPages(ctx, prefix) {
			if err != nil {
				yield("", err)
				return
			}
			for _, common := range page.CommonPrefixes {
				name, below := strings.CutPrefix(aws.ToString(common.Prefix), s.key(prefix))
				name = strings.TrimSuffix(name, "/")
				if below && name != "" && !yield(name, nil) {
					return
				}
			}
		}
	}
}

// listPages yields the pages of a listing. An error is the last.
func (s *Store) listPages(ctx context.Context, prefix string) iter.Seq2[*s3.ListObjectsV2Output, error] {
	return func(yield func(*s3.ListObjectsV2Output, error) bool) {
		c, err := s.open(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		in := &s3.ListObjectsV2Input{
			Bucket: aws.String(s.bucket), Prefix: aws.String(s.key(prefix)), Delimiter: aws.String("/"),
		}
		seen := pages{of: "ListObjectsV2"}
		for {
			page, err := c.listPage(ctx, in)
			if seen.ended && (isRefused(err) || err == nil && greatest(page) <= seen.last) {
				return // it had said so; the token leads nowhere
			}
			if err == nil {
				err = seen.after(in, page)
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

func isRefused(err error) bool {
	_, status := apiError(err)
	return status == http.StatusBadRequest
}

// listPage asks for a page. XML cannot hold all characters that keys can: with one of those, the page is asked for
// again with its names in the form of a URL.
func (c *connection) listPage(ctx context.Context, in *s3.ListObjectsV2Input) (*s3.ListObjectsV2Output, error) {
	page, err := c.client.ListObjectsV2(ctx, in)
	if _, broken := errors.AsType[*xml.SyntaxError](err); broken && in.EncodingType == "" {
		in.EncodingType = types.EncodingTypeUrl
		page, err = c.client.ListObjectsV2(ctx, in)
	}
	if _, broken := errors.AsType[*xml.SyntaxError](err); broken {
		return nil, &answerError{plain(err), "the listing is cut off, or a key in it has characters that XML cannot hold: " +
			"remove that object, and look at the proxies before the server"}
	}
	if err != nil || page.EncodingType != types.EncodingTypeUrl {
		return page, err
	}
	names := []*string{page.Prefix}
	for i := range page.Contents {
		names = append(names, page.Contents[i].Key)
	}
	for i := range page.CommonPrefixes {
		names = append(names, page.CommonPrefixes[i].Prefix)
	}
	for _, name := range names {
		if name == nil {
			continue
		}
		if *name, err = url.QueryUnescape(*name); err != nil {
			return nil, badAnswer("ListObjectsV2: the server says that names are in the form of a URL: %v", err)
		}
	}
	return page, nil
}

// greatest returns the greatest name on a page.
func greatest(page *s3.ListObjectsV2Output) (name string) {
	for _, o := range page.Contents {
		name = max(name, aws.ToString(o.Key))
	}
	for _, c := range page.CommonPrefixes {
		name = max(name, aws.ToString(c.Prefix))
	}
	return name
}

// after makes a request one for the page that follows, without a token when there is none.
func (p *pages) after(in *s3.ListObjectsV2Input, page *s3.ListObjectsV2Output) error {
	token := aws.ToString(page.NextContinuationToken)
	names, most := len(page.Contents)+len(page.CommonPrefixes), cmp.Or(int(aws.ToInt32(page.MaxKeys)), pageSize)
	of := strings.Trim(aws.ToString(page.Prefix), "/")
	switch {
	case page.IsTruncated == nil && token == "" && (names >= most || page.Name == nil && page.KeyCount == nil):
		return badAnswer("ListObjectsV2: the server does not say whether there are more names (no IsTruncated)")
	case int(aws.ToInt32(page.KeyCount)) > names:
		return badAnswer("ListObjectsV2: the server says that it gives %d names, and gives %d", *page.KeyCount, names)
	case aws.ToBool(page.IsTruncated) && token == "":
		return badAnswer("ListObjectsV2: the server says that there are more names, and not how to get them (no token)")
	case names == 0 && of != "" && of != strings.Trim(*in.Prefix, "/"): // a cache that does not look at parameters
		return badAnswer("ListObjectsV2: the server lists %.300q, which was not asked for", of)
	}
	in.ContinuationToken = nil
	if token == "" {
		return nil
	}
	in.ContinuationToken = &token
	p.ended = page.IsTruncated != nil && !*page.IsTruncated
	return p.turn(token, greatest(page))
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
