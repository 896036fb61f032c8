package storage

import (
	"context"
	"errors"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"gocloud.dev/blob"

	"github.com/snapshotd/snapshotd/snapshot"
)

func (s *s3Store) stat(ctx context.Context, key string) (snapshot.Object, error) {
	conn, err := s.open(ctx)
	if err != nil {
		return snapshot.Object{}, err
	}
	attrs, err := conn.bucket.Attributes(ctx, s.key(key))
	if err != nil {
		return snapshot.Object{}, s.missing(ctx, conn, err)
	}
	o := snapshot.Object{Key: key, Size: attrs.Size, ModTime: attrs.ModTime}
	var head s3.HeadObjectOutput
	if attrs.As(&head) {
		o.LockedUntil = lockedUntil(&head)
	}
	return o, nil
}

// farFuture stands for a lock without an end.
var farFuture = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// lockedUntil returns until when the bucket's object lock keeps an object; a legal hold has no end.
func lockedUntil(head *s3.HeadObjectOutput) time.Time {
	if head.ObjectLockLegalHoldStatus == types.ObjectLockLegalHoldStatusOn {
		return farFuture
	}
	return aws.ToTime(head.ObjectLockRetainUntilDate)
}

// remove is a HEAD and a DELETE.
func (s *s3Store) remove(ctx context.Context, key string) error {
	conn, err := s.open(ctx)
	if err != nil {
		return err
	}
	if err := conn.bucket.Delete(ctx, s.key(key)); err != nil {
		if err := s.missing(ctx, conn, err); !errors.Is(err, snapshot.ErrNotFound) {
			return err
		}
	}
	return nil
}

// list asks for pages of 1,000, one after the other.
func (s *s3Store) list(ctx context.Context, prefix string) iter.Seq2[snapshot.Object, error] {
	return func(yield func(snapshot.Object, error) bool) {
		conn, err := s.open(ctx)
		if err != nil {
			yield(snapshot.Object{}, err)
			return
		}
		objects := conn.bucket.List(&blob.ListOptions{Prefix: s.key(prefix), Delimiter: "/"})
		for {
			o, err := objects.Next(ctx)
			if err == io.EOF { //nolint:errorlint // the end is io.EOF itself; wrapped, it is a connection that broke
				return
			}
			if err != nil {
				yield(snapshot.Object{}, err)
				return
			}
			key, ok := strings.CutPrefix(o.Key, s.loc.prefix)
			if !ok || o.IsDir || strings.HasSuffix(key, "/") || key == "" {
				continue // below the prefix, or the empty object that some tools make for a directory
			}
			if !yield(snapshot.Object{Key: key, Size: o.Size, ModTime: o.ModTime}, nil) {
				return
			}
		}
	}
}
