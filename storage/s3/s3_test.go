package s3_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/conformance"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage"
	s3store "github.com/snapshotd/snapshotd/storage/s3"
)

func TestMain(m *testing.M) {
	for _, e := range append(testenv.S3Env(), "AWS_CA_BUNDLE=") { // the machine's CAs are read for each backend
		name, value, _ := strings.Cut(e, "=")
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	s3store.SetLongestPause(10 * time.Millisecond)
	testenv.RunWaiting(m)
}

// bucket is a bucket of its own on a real server.
type bucket struct {
	*testenv.S3
	name string
}

var buckets atomic.Int64

func newBucket(server *testenv.S3) bucket {
	name := fmt.Sprintf("backups-%d", buckets.Add(1))
	server.MakeBucket(name)
	return bucket{server, name}
}

// backend returns a backend in the bucket, at the address of the server or of a proxy.
func (b bucket) backend(t *testing.T, addr, prefix string, edit ...func(*storage.Config)) *storage.Backend {
	t.Helper()
	cfg := storage.Config{Name: "s3", URL: b.URLAt(addr, b.name, prefix)}
	for _, e := range edit {
		e(&cfg)
	}
	back, err := storage.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = back.Close(t.Context()) })
	return back
}

// uploads returns the keys of unfinished uploads.
func (b bucket) uploads(t *testing.T) []string {
	t.Helper()
	out, err := b.Client().ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: aws.String(b.name)})
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, u := range out.Uploads {
		keys = append(keys, aws.ToString(u.Key))
	}
	return keys
}

// abandon begins an upload, of one part, that nobody ends.
func (b bucket) abandon(t *testing.T, key string) {
	t.Helper()
	up, err := b.Client().CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: aws.String(b.name), Key: aws.String(key)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Client().UploadPart(t.Context(), &s3.UploadPartInput{
		Bucket: aws.String(b.name), Key: aws.String(key), UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader("half"),
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (b bucket) subject(t *testing.T, prefix string) conformance.Subject {
	t.Helper()
	return conformance.Subject{
		Backend:   b.backend(t, b.Addr(), prefix),
		Leftovers: b.uploads,
		Plant:     func(t *testing.T, key string) { t.Helper(); b.abandon(t, prefix+key) },
		Stock: func(t *testing.T, keys []string) {
			t.Helper()
			for _, key := range keys {
				b.plant(t, prefix+key)
			}
		},
		Vanish: b.remove,
	}
}

// remove empties the bucket and removes it.
func (b bucket) remove(t *testing.T) {
	t.Helper()
	out, err := b.Client().ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(b.name)})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range out.Contents {
		if _, err := b.Client().DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String(b.name), Key: o.Key}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Client().DeleteBucket(t.Context(), &s3.DeleteBucketInput{Bucket: aws.String(b.name)}); err != nil {
		t.Fatal(err)
	}
}

// The other tests of this package have no prefix.
func TestBucketKeepsThePromises(t *testing.T) {
	t.Parallel()
	server := testenv.SharedS3(t)
	conformance.Run(t, func(t *testing.T) conformance.Subject { return newBucket(server).subject(t, "some/where/") })
}

func TestFoldersAreThoseOfTheRoot(t *testing.T) {
	t.Parallel()
	server := testenv.SharedS3(t)
	w := newBucket(server)
	all := w.backend(t, server.Addr(), "")
	for _, key := range []string{"etcd/a/x.db", "etcd/a/y.db", "etcd/b/deeper/x.db", "etcd/x.db", "beside/x.db"} {
		if err := all.Put(t.Context(), key, strings.NewReader("x"), repository.PutOptions{ContentType: "x/y"}); err != nil {
			t.Fatal(err)
		}
	}
	b := w.backend(t, server.Addr(), "etcd/")
	if got, err := b.Folders(t.Context(), 10); err != nil || !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("folders are %q, %v", got, err)
	}
	if got, err := b.Folders(t.Context(), 1); err != nil || !slices.Equal(got, []string{"a"}) {
		t.Errorf("of one at most: %q, %v", got, err)
	}
}

// A server that knows the checksum of what was stored gives it with what it has now.
func TestObjectThatTheServerHasDamaged(t *testing.T) {
	t.Parallel()
	b := newBucket(testenv.SharedS3(t))
	back := b.backend(t, b.Addr(), "")
	if err := put(t.Context(), back, "default/x.db", 1000); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(b.Dir(), b.name, "default", "x.db")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[500] ^= 1
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := back.Get(t.Context(), "default/x.db", repository.Range{})
	if err == nil {
		_, err = io.Copy(io.Discard, r)
		_ = r.Close()
	}
	if snapshot.ReasonOf(err) != snapshot.ReasonChecksumMismatch {
		t.Errorf("reading it: %v", err)
	}
}

func TestMetadataOfK3sInABucket(t *testing.T) {
	t.Parallel()
	server := testenv.SharedS3(t)
	b := newBucket(server).backend(t, server.Addr(), "folder")
	if err := put(t.Context(), b, ".metadata/one", 3); err != nil {
		t.Fatal(err)
	}
	r, err := b.Metadata(t.Context(), "one")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); len(got) != 3 || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	_ = r.Close()
	if _, err := b.Metadata(t.Context(), "two"); !errors.Is(err, snapshot.ErrNotFound) {
		t.Errorf("of another: %v", err)
	}
}
