package s3_test

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/storage"
)

// What is stored is tagged and locked, in one request and in parts, and the server keeps what is locked: a version of
// it cannot be deleted, and what says that it deletes or replaces the object leaves the version there.
func TestObjectLockAndTags(t *testing.T) {
	t.Parallel()
	server := testenv.StartVersionedS3(t)
	const name = "locked"
	_, err := server.Client().CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(name), ObjectLockEnabledForBucket: aws.Bool(true)})
	if err != nil {
		t.Fatal(err)
	}
	back := bucket{server, name}.backend(t, server.Addr(), "", func(c *storage.Config) {
		c.URL += "&object_lock_mode=compliance&object_lock_days=3&tags=team=ops,kind=etcd%20snapshot"
	})
	for key, size := range map[string]int{"default/small.json": 10, "default/large.db": 9 * mib} {
		before := time.Now()
		if err := put(t.Context(), back, key, size); err != nil {
			t.Fatal(err)
		}
		o, err := back.Stat(t.Context(), key)
		want := before.AddDate(0, 0, 3)
		if err != nil || o.LockedUntil.Before(want.Add(-time.Second)) || o.LockedUntil.After(want.Add(time.Hour)) {
			t.Errorf("%s: locked until %v, %v; want %v", key, o.LockedUntil, err, want)
		}
		tags, err := server.Client().GetObjectTagging(t.Context(), &s3.GetObjectTaggingInput{Bucket: aws.String(name), Key: aws.String(key)})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, tag := range tags.TagSet {
			got[*tag.Key] = *tag.Value
		}
		if len(got) != 2 || got["team"] != "ops" || got["kind"] != "etcd snapshot" {
			t.Errorf("%s: tags %v", key, got)
		}
		head, err := server.Client().HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String(name), Key: aws.String(key)})
		if err != nil || head.ObjectLockMode != types.ObjectLockModeCompliance || aws.ToString(head.VersionId) == "" {
			t.Fatalf("%s: %+v, %v", key, head, err)
		}
		version := &s3.DeleteObjectInput{Bucket: aws.String(name), Key: aws.String(key), VersionId: head.VersionId}
		if _, err := server.Client().DeleteObject(t.Context(), version); err == nil {
			t.Errorf("%s: the server deletes what is locked", key)
		}
		if err := put(t.Context(), back, key, 5); err != nil {
			t.Errorf("%s: replacing it: %v", key, err)
		}
		if err := back.Delete(t.Context(), key); err != nil {
			t.Errorf("%s: deleting it: %v", key, err)
		}
		old := &s3.HeadObjectInput{Bucket: aws.String(name), Key: aws.String(key), VersionId: head.VersionId}
		if kept, err := server.Client().HeadObject(t.Context(), old); err != nil || aws.ToInt64(kept.ContentLength) != int64(size) {
			t.Errorf("%s: the locked version: %+v, %v", key, kept, err)
		}
	}
}

func TestUploadOptionsThatAreWrong(t *testing.T) {
	for params, want := range map[string]string{
		"object_lock_mode=governance":                    "needed together",
		"object_lock_days=3":                             "needed together",
		"object_lock_mode=forever&object_lock_days=3":    "allowed: governance, compliance",
		"object_lock_mode=governance&object_lock_days=0": "allowed: 1 to 36500",
		"object_lock_mode=governance&object_lock_days=3&request_checksum_calculation=when_required": "needs the checksums",
		"storage_class=DEEP_ARCHIVE": "cannot be read at once",
		"storage_class=a%20b":        "not the name of a storage class",
		"tags=ops":                   "not KEY=VALUE",
		"tags=a=1,a=2":               "twice",
		"tags=a=1,b=1,c=1,d=1,e=1,f=1,g=1,h=1,i=1,j=1,k=1": "S3 takes 10",
	} {
		_, err := storage.New(storage.Config{Name: "one", URL: "s3://backups?region=x&" + params})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", params, err, want)
		}
	}
	good := "s3://backups?region=x&storage_class=STANDARD_IA&tags=a=1,b=&object_lock_mode=GOVERNANCE&object_lock_days=30"
	if _, err := storage.New(storage.Config{Name: "one", URL: good}); err != nil {
		t.Error(err)
	}
}
