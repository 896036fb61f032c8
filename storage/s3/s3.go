package s3

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"

	"github.com/snapshotd/snapshotd/storage/driver"
)

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
	s := &Store{bucket: bucket, prefix: loc.Prefix, params: loc.Params, opts: opts}
	return s, s.checkPlace()
}

// URI implements [driver.Store].
func (s *Store) URI(key string) string {
	u := url.URL{Scheme: "s3", Host: s.bucket, Path: "/" + s.key(key)}
	return u.String()
}

// key returns the key in the bucket.
func (s *Store) key(key string) string { return s.prefix + key }

// maxKey is how many bytes S3 lets a key have.
const maxKey = 1024

func (s *Store) checkKey(key string) error {
	if n := len(s.key(key)); n > maxKey {
		return driver.Invalid("the key has %d bytes; S3 takes %d", n, maxKey)
	}
	return nil
}

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
