//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// documented returns a block of JSON of docs/security.md by its name.
func documented(t *testing.T, name string) string {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join(testenv.Root(), "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(doc), "\n```json "+name+"\n")
	block, _, closed := strings.Cut(rest, "\n```\n")
	if !found || !closed {
		t.Fatalf("docs/security.md has no policy %q", name)
	}
	return block
}

// TestTheLeastPolicies runs the service with the policies of docs/security.md, on both servers: all that it is to do
// works, and all that it is not to do is refused.
func TestTheLeastPolicies(t *testing.T) {
	for server, begin := range map[string]func(testing.TB) *testenv.S3{
		"versitygw": testenv.StartVersionedS3, "minio": testenv.StartMinIO,
	} {
		t.Run(server, func(t *testing.T) {
			store := begin(t)
			store.MakeBucket("other")
			t.Run("least", func(t *testing.T) {
				makeBucket(t, store, false)
				user := store.User("backups", documented(t, "least"))
				least(t, store, user)
				removeBucket(t, store)
			})
			t.Run("add-only", func(t *testing.T) {
				makeBucket(t, store, true)
				user := store.User("backups", documented(t, "add-only"))
				addOnly(t, store, user)
			})
		})
	}
}

func makeBucket(t *testing.T, store *testenv.S3, lock bool) {
	t.Helper()
	_, err := store.Client().CreateBucket(t.Context(), &s3.CreateBucketInput{
		Bucket: aws.String("backups"), ObjectLockEnabledForBucket: aws.Bool(lock),
	})
	if err != nil {
		t.Fatal(err)
	}
}

// removeBucket removes the bucket with all that is in it.
func removeBucket(t *testing.T, store *testenv.S3) {
	t.Helper()
	client, bucket := store.Client(), aws.String("backups")
	page, err := client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: bucket})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range page.Contents {
		if _, err := client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: bucket, Key: o.Key}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.DeleteBucket(t.Context(), &s3.DeleteBucketInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
}

// serveAs starts a service that stores with the keys of a user, its audit records as well.
func serveAs(t *testing.T, user *testenv.User, url string) *service {
	t.Helper()
	etcd := testenv.StartCluster(t, 1) // its catalog knows no other store
	config := writeConfig(t, `
audit_url: %q
audit_required: true
clusters:
  - name: default
    etcd: {endpoints: [%q]}
    retention: {keep_last: 1, on_demand: true}
    backends: [{name: s3, url: %q}]
`, strings.Replace(url, "prefix=etcd", "prefix=etcd/audit", 1), etcd.Endpoints()[0], url)
	return start(t, options{env: user.Env()}, "--config", config)
}

func least(t *testing.T, store *testenv.S3, user *testenv.User) {
	s := serveAs(t, user, store.URL("backups", "etcd"))
	older, newer := s.save(), s.save()
	s.mustReconcileUnchanged()
	s.must("verify", newer, "--level", "drill")
	(&world{}).restores(t, user.Env(), store.URL("backups", "etcd"), newer)
	s.must("update", newer, "--label", "a=b")
	s.must("prune")
	if got := s.locations(); len(got) != 1 || got[newer] == "" {
		t.Errorf("after prune of %s there are %v", older, got)
	}
	s.must("delete", newer)
	if got := s.locations(); len(got) != 0 {
		t.Errorf("after delete there are %v", got)
	}
	refusesOthers(t, user)
}

func addOnly(t *testing.T, store *testenv.S3, user *testenv.User) {
	url := store.URL("backups", "etcd") + "&object_lock_mode=compliance&object_lock_days=30"
	s := serveAs(t, user, url)
	older, newer := s.save(), s.save()
	s.mustReconcileUnchanged()
	s.must("verify", newer, "--level", "drill")
	(&world{}).restores(t, user.Env(), url, older)
	s.must("update", newer, "--label", "a=b")
	for _, args := range [][]string{{"delete", older}, {"prune"}} {
		if r := s.run(args...); r.code == 0 {
			t.Errorf("%v: exit code 0: %s", args, r.stdout)
		} else if text := r.stdout + r.stderr; !strings.Contains(text, "lock") && !strings.Contains(text, "denied") {
			t.Errorf("%v says not why: %s", args, text)
		}
	}
	if got := s.locations(); len(got) != 2 {
		t.Errorf("after all there are %v", got)
	}
	s.must("verify", older)

	key := "etcd/default/" + older + ".db.zst"
	client, bucket := user.Client(), aws.String("backups")
	recordsStay(t, store, user)
	head, err := store.Client().HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: bucket, Key: aws.String(key)})
	if err != nil || head.VersionId == nil {
		t.Fatalf("the object is %+v, %v", head, err)
	}
	refused := func(what string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), "AccessDenied") {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err = client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: bucket, Key: aws.String(key)})
	refused("hiding an object behind a delete marker", err)
	_, err = client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: bucket, Key: aws.String(key), VersionId: head.VersionId})
	refused("deleting a version", err)
	_, err = client.PutObjectRetention(t.Context(), &s3.PutObjectRetentionInput{
		Bucket: bucket, Key: aws.String(key), VersionId: head.VersionId, Retention: &types.ObjectLockRetention{
			Mode: types.ObjectLockRetentionModeCompliance, RetainUntilDate: aws.Time(time.Now().Add(time.Minute)),
		},
	})
	if err == nil {
		t.Error("a lock was made shorter")
	}
	_, err = client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: bucket, Key: aws.String(key), Body: strings.NewReader("rubbish")})
	if err != nil {
		t.Errorf("a new version over the object: %v", err)
	}
	if r := s.run("verify", older); r.code != 4 {
		t.Errorf("verify of what was written over: exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	// The version before is still there, for the owner.
	old, err := store.Client().HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: bucket, Key: aws.String(key), VersionId: head.VersionId})
	if err != nil || aws.ToInt64(old.ContentLength) != aws.ToInt64(head.ContentLength) {
		t.Errorf("the version before is %+v, %v", old, err)
	}
	_, err = store.Client().DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: bucket, Key: aws.String(key), VersionId: head.VersionId})
	if err == nil {
		t.Error("the owner has deleted what is locked")
	}
	refusesOthers(t, user)
}

// recordsStay checks that calls were recorded as objects, and that neither the service's keys nor the owner's remove
// one.
func recordsStay(t *testing.T, store *testenv.S3, user *testenv.User) {
	t.Helper()
	ctx, bucket := t.Context(), aws.String("backups")
	page, err := store.Client().ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: bucket, Prefix: aws.String("etcd/audit/")})
	if err != nil || len(page.Versions) < 4 { // two saves begin and end
		t.Fatalf("%d audit records are stored, %v", len(page.Versions), err)
	}
	for _, v := range page.Versions {
		for who, client := range map[string]*s3.Client{"the service": user.Client(), "the owner": store.Client()} {
			_, err := client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: v.Key, VersionId: v.VersionId})
			if err == nil {
				t.Errorf("the keys of %s remove the record %s", who, aws.ToString(v.Key))
			}
		}
	}
}

// refusesOthers checks that a user is kept to the prefix of the bucket.
func refusesOthers(t *testing.T, user *testenv.User) {
	t.Helper()
	client, ctx := user.Client(), t.Context()
	for what, try := range map[string]func() error{
		"writing beside the prefix": func() error {
			_, err := client.PutObject(ctx, &s3.PutObjectInput{
				Bucket: aws.String("backups"), Key: aws.String("elsewhere"), Body: strings.NewReader("x"),
			})
			return err
		},
		"writing to another bucket": func() error {
			_, err := client.PutObject(ctx, &s3.PutObjectInput{
				Bucket: aws.String("other"), Key: aws.String("etcd/x"), Body: strings.NewReader("x"),
			})
			return err
		},
		"listing another bucket": func() error {
			_, err := client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String("other")})
			return err
		},
		"removing the bucket": func() error {
			_, err := client.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: aws.String("backups")})
			return err
		},
		"changing the policy": func() error {
			_, err := client.PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{
				Bucket: aws.String("backups"), Policy: aws.String(`{"Version":"2012-10-17","Statement":[]}`),
			})
			return err
		},
	} {
		if err := try(); err == nil || !strings.Contains(err.Error(), "AccessDenied") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
