//go:build e2e

package e2e

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// kmsWorld is a server with a KMS, and a service's access to it: a role's session, by keys in a file. One bucket has
// object lock, the other one has not.
type kmsWorld struct {
	*world
	client   *s3.Client
	env      []string
	kms, sse string // backend URLs
	setKey   func(secret string)
	secret   string
}

func newKMSWorld(t *testing.T) *kmsWorld {
	t.Helper()
	w := &kmsWorld{world: &world{etcd: testenv.StartCluster(t, 1), s3: testenv.StartMinIO(t), bucket: "kms"}}
	w.client = w.s3.Client()
	w.s3.MakeBucket("sse")
	if _, err := w.client.CreateBucket(t.Context(),
		&s3.CreateBucketInput{Bucket: aws.String("kms"), ObjectLockEnabledForBucket: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	keys, err := w.s3.Credentials().Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "credentials")
	w.secret = keys.SecretAccessKey
	w.setKey = func(secret string) {
		replaceFile(t, file, fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n",
			keys.AccessKeyID, secret))
	}
	w.setKey(w.secret)
	w.env = []string{
		"AWS_SHARED_CREDENTIALS_FILE=" + file, "AWS_ENDPOINT_URL_STS=http://" + w.s3.Addr(), "AWS_EC2_METADATA_DISABLED=true",
	}
	role := "&role=arn:aws:iam::1:role/backup"
	w.kms = w.s3URL("") + role + "&ssetype=aws:kms&kmskeyid=" + testenv.KMSKey +
		"&tags=team=ops&storage_class=STANDARD&object_lock_mode=governance&object_lock_days=1"
	w.sse = w.s3.URL("sse", "etcd") + role + "&ssetype=AES256"
	eventually(t, "the server gives sessions", func() bool {
		cmd := exec.Command(program(t, ""), "list", "--from", w.sse)
		cmd.Env = append(os.Environ(), w.env...)
		out, _ := cmd.CombinedOutput()
		return !strings.Contains(string(out), "not initialized")
	})
	return w
}

// serve starts a service whose retention keeps the newest snapshot, if it has one.
func (w *kmsWorld) serve(t *testing.T, retention string) *service {
	t.Helper()
	config := writeConfig(t, `
clusters:
  - name: default
    etcd: {endpoints: [%q]}
    retention: {%s}
    backends:
      - {name: kms, url: %q}
      - {name: sse, url: %q}
`, w.etcd.Endpoints()[0], retention, w.kms, w.sse)
	return start(t, options{env: w.env}, "--config", config)
}

// head returns the server's description of a snapshot's object.
func (w *kmsWorld) head(t *testing.T, bucket, object string) *s3.HeadObjectOutput {
	t.Helper()
	head, err := w.client.HeadObject(t.Context(), &s3.HeadObjectInput{
		Bucket: &bucket, Key: aws.String("etcd/default/" + object), PartNumber: aws.Int32(1),
	})
	if err != nil {
		t.Fatal(err)
	}
	return head
}

// TestSealedByTheServer stores in a server with a KMS, under a role's session, with lock, tags and class, while the
// keys behind the role are replaced in their file.
func TestSealedByTheServer(t *testing.T) {
	w := newKMSWorld(t)
	s := w.serve(t, "")
	name := s.save()
	for bucket, want := range map[string]string{"kms": "aws:kms", "sse": "AES256"} {
		for _, suffix := range []string{".db.zst", ".json"} {
			head := w.head(t, bucket, name+suffix)
			if string(head.ServerSideEncryption) != want || bucket == "kms" &&
				(!strings.HasSuffix(aws.ToString(head.SSEKMSKeyId), testenv.KMSKey) ||
					string(head.ObjectLockMode) != "GOVERNANCE" || head.ObjectLockRetainUntilDate == nil) {
				t.Errorf("%s in %s: %q by %q, lock %q", suffix, bucket, head.ServerSideEncryption, aws.ToString(head.SSEKMSKeyId),
					head.ObjectLockMode)
			}
		}
	}
	tags, err := w.client.GetObjectTagging(t.Context(), &s3.GetObjectTaggingInput{
		Bucket: aws.String("kms"), Key: aws.String("etcd/default/" + name + ".db.zst"),
	})
	if err != nil || len(tags.TagSet) != 1 || *tags.TagSet[0].Key != "team" {
		t.Errorf("tags: %+v, %v", tags, err)
	}
	s.must("verify", name, "--level", "drill", "--backend", "kms")
	w.restores(t, w.env, w.kms, name)

	w.setKey("wrong")
	if r := s.run("save"); r.code != 1 || !strings.Contains(r.stderr, "AccessDenied") &&
		!strings.Contains(r.stderr, "SignatureDoesNotMatch") {
		t.Errorf("with wrong keys in the file: exit code %d: %s", r.code, r.stderr)
	}
	w.setKey(w.secret)
	s.save()

	if r := s.run("delete", name, "--backend", "kms"); r.code != 1 || !strings.Contains(r.stderr, "lock") {
		t.Errorf("delete under lock: exit code %d: %s", r.code, r.stderr)
	}
	s.must("delete", name, "--backend", "sse")
	s.must("verify", name)
}

// TestPruneWaitsForTheBucketsLock: retention wants to remove an object that a lock protects. Prune says so and exits 3,
// and the object is removed when the lock is over.
func TestPruneWaitsForTheBucketsLock(t *testing.T) {
	w := newKMSWorld(t)
	s := w.serve(t, "keep_last: 1, on_demand: true")
	older, newer := s.save(), s.save()
	for _, args := range [][]string{{"prune", "--dry-run"}, {"prune"}, {"prune"}} {
		r := s.run(args...)
		if r.code != 3 || !strings.Contains(r.stdout, older+" is locked until ") || strings.Count(r.stdout, " stays ") != 2 ||
			strings.Count(r.stdout, "  locked  ") != 1 || strings.Contains(r.stdout, "failed") {
			t.Errorf("%v: exit code %d:\n%s%s", args, r.code, r.stdout, r.stderr)
		}
	}
	if got := s.locations(); got[older] != "READY: kms READY" || got[newer] != "READY: kms READY, sse READY" {
		t.Errorf("after it there are %v", got)
	}
	s.must("verify", older)
	s.mustReconcileUnchanged()

	w.shortenLock(t, older+".db.zst")
	eventually(t, "the lock is over", func() bool { return !strings.Contains(s.run("prune").stdout, "locked") })
	if got := s.locations(); len(got) != 1 || got[newer] == "" {
		t.Errorf("when the lock is over there are %v", got)
	}
	if keys := w.objects(t); len(keys) != 2 {
		t.Errorf("the bucket has %q", keys)
	}
}

// mustReconcileUnchanged reconciles and finds nothing to do.
func (s *service) mustReconcileUnchanged() {
	s.t.Helper()
	rec, r := s.reconcile()
	if r.code != 0 {
		s.t.Fatalf("reconcile: exit code %d: %s", r.code, r.stderr)
	}
	for _, b := range rec.Backends {
		if b.Added+b.Updated+b.Removed+b.Repaired+b.Swept+b.Foreign > 0 {
			s.t.Errorf("reconcile found something to do: %+v", b)
		}
	}
}

// shortenLock lets the lock of an object end in a moment, with the right to bypass governance.
func (w *kmsWorld) shortenLock(t *testing.T, object string) {
	t.Helper()
	_, err := w.client.PutObjectRetention(t.Context(), &s3.PutObjectRetentionInput{
		Bucket: aws.String("kms"), Key: aws.String("etcd/default/" + object), BypassGovernanceRetention: aws.Bool(true),
		Retention: &types.ObjectLockRetention{
			Mode: types.ObjectLockRetentionModeGovernance, RetainUntilDate: aws.Time(time.Now().Add(2 * time.Second)),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestPartsEncryptedByTheServer uploads in parts that the KMS encrypts, and reads them back in parts.
func TestPartsEncryptedByTheServer(t *testing.T) {
	w := newKMSWorld(t)
	client := w.etcd.Client(t)
	value := make([]byte, 1<<20)
	for i := range 30 {
		_, _ = rand.Read(value) // nothing compresses it
		if _, err := client.Put(t.Context(), fmt.Sprintf("/random/%02d", i), string(value)); err != nil {
			t.Fatal(err)
		}
	}
	s := w.serve(t, "")
	name := s.save()
	for bucket, want := range map[string]string{"kms": "aws:kms", "sse": "AES256"} {
		head := w.head(t, bucket, name+".db.zst")
		if string(head.ServerSideEncryption) != want || aws.ToInt32(head.PartsCount) < 4 {
			t.Errorf("%s: encrypted by %q, in %d parts", bucket, head.ServerSideEncryption, aws.ToInt32(head.PartsCount))
		}
		s.must("verify", name, "--level", "checksum", "--backend", bucket)
	}
	w.restores(t, w.env, w.kms, name)
}

// restores restores a snapshot with the environment of the service.
func (w *world) restores(t *testing.T, env []string, from, name string) {
	t.Helper()
	data := filepath.Join(t.TempDir(), "restored")
	cmd := exec.Command(program(t, ""), "restore", name, "--from", from, "--data-dir", data)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("restore: %v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(data, "member", "snap", "db")); err != nil {
		t.Error(err)
	}
}
