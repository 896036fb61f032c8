package s3

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Stat implements [driver.Store].
func (s *Store) Stat(ctx context.Context, key string) (repository.Object, error) {
	c, err := s.open(ctx)
	if err != nil {
		return repository.Object{}, err
	}
	head, err := s.head(ctx, c, key)
	if err != nil {
		return repository.Object{}, err
	}
	return repository.Object{
		Key: key, Size: aws.ToInt64(head.ContentLength), ModTime: aws.ToTime(head.LastModified), LockedUntil: lockedUntil(head),
	}, nil
}

func (s *Store) head(ctx context.Context, c *connection, key string) (*s3.HeadObjectOutput, error) {
	head, err := c.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String(s.bucket), Key: aws.String(s.key(key))})
	if err != nil {
		return nil, s.missing(ctx, c, err)
	}
	return head, nil
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

// Delete is a HEAD and a DELETE: in a bucket with versions, deleting an object that is not there would leave a marker.
func (s *Store) Delete(ctx context.Context, key string) error {
	c, err := s.open(ctx)
	if err != nil {
		return err
	}
	if _, err = s.head(ctx, c, key); err == nil {
		_, err = c.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String(s.bucket), Key: aws.String(s.key(key))})
		err = s.missing(ctx, c, err)
	}
	if errors.Is(err, snapshot.ErrNotFound) {
		return nil
	}
	return err
}
