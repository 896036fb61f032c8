package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage/driver"
)

// Kind is that of buckets.
var Kind = driver.Kind{
	Backend: snapshot.BackendS3,
	Example: "s3://BUCKET?region=REGION",
	Params:  params,
	New:     func(loc driver.Location, opts driver.Options) (driver.Store, error) { return newStore(loc, opts) },
	Explain: explain,
}

// Store is a bucket, or the part of it below a prefix.
type Store struct {
	bucket string
	prefix string
	params url.Values
	opts   driver.Options

	mu   sync.Mutex
	conn *connection
}

func newStore(loc driver.Location, opts driver.Options) (*Store, error) {
	bucket := loc.URL.Host
	if bucket == "" {
		return nil, errors.New("its URL does not name a bucket; write it as s3://BUCKET?region=REGION")
	}
	if p := strings.Trim(loc.URL.Path, "/"); p != "" {
		return nil, fmt.Errorf("its URL has a path; write it as s3://%s?prefix=%s/", bucket, p)
	}
	if err := checkLock(loc.Params); err != nil {
		return nil, err
	}
	return &Store{bucket: bucket, prefix: loc.Prefix, params: loc.Params, opts: opts}, nil
}

// URI implements [driver.Store].
func (s *Store) URI(key string) string {
	u := url.URL{Scheme: "s3", Host: s.bucket, Path: "/" + s.key(key)}
	return u.String()
}

// key returns the key in the bucket.
func (s *Store) key(key string) string { return s.prefix + key }

// open returns the connection. One that could not be made is tried again with the next call.
func (s *Store) open(ctx context.Context) (*connection, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		c, err := s.connect(ctx)
		if err != nil {
			return nil, err
		}
		s.conn = c
	}
	return s.conn, nil
}

// Close closes the connections that are idle.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.http.CloseIdleConnections()
		s.conn = nil
	}
	return nil
}

// missing tells an object that does not exist from a bucket that does not: the answer to a HEAD has no body that would
// say. An object is said not to exist only when the bucket was seen.
func (s *Store) missing(ctx context.Context, c *connection, err error) error {
	code, status := apiError(err)
	switch {
	case status != http.StatusNotFound:
		return err
	case code == "NoSuchKey":
		return snapshot.ErrNotFound
	case code != "" && code != "NotFound" && code != "UnknownError":
		return err // something else was not found
	}
	if _, err := c.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: aws.String(s.bucket)}); err != nil {
		if _, status := apiError(err); status == http.StatusNotFound {
			return &bucketError{s.bucket, err}
		}
		return err
	}
	return snapshot.ErrNotFound
}

// bucketError is that there is no such bucket: nothing is known of its objects.
type bucketError struct {
	bucket string
	err    error
}

func (e *bucketError) Error() string { return "the bucket " + e.bucket + " does not exist" }
func (e *bucketError) Unwrap() error { return e.err }
