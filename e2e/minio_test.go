//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// TestSealedByTheServer stores in a server with a KMS, under a role's session, with lock, tags and class, while the keys behind
// the role are replaced in their file.
func TestSealedByTheServer(t *testing.T) {
	w := &world{etcd: testenv.StartCluster(t, 1), s3: testenv.StartMinIO(t), bucket: "kms"}
	client := w.s3.Client()
	w.s3.MakeBucket("sse")
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("kms"), ObjectLockEnabledForBucket: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	keys, err := w.s3.Credentials().Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "credentials")
	credentials := func(secret string) {
		replaceFile(t, file, fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", keys.AccessKeyID, secret))
	}
	credentials(keys.SecretAccessKey)
	env := []string{"AWS_SHARED_CREDENTIALS_FILE=" + file, "AWS_ENDPOINT_URL_STS=http://" + w.s3.Addr(), "AWS_EC2_METADATA_DISABLED=true"}
	role := "&role=arn:aws:iam::1:role/backup"
	kms := w.s3URL("") + role + "&ssetype=aws:kms&kmskeyid=" + testenv.KMSKey + "&tags=team=ops&storage_class=STANDARD&object_lock_mode=governance&object_lock_days=1"
	sse := w.s3.URL("sse", "etcd") + role + "&ssetype=AES256"
	s := start(t, options{env: env}, "--etcd-endpoints", w.etcd.Endpoints()[0], "--data-dir", t.TempDir(), "--node-name", "node-1",
		"--backend", "kms="+kms, "--backend", "sse="+sse)
	name := s.save()
	for bucket, want := range map[string]string{"kms": "aws:kms", "sse": "AES256"} {
		for _, suffix := range []string{".db.zst", ".json"} {
			head, err := client.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &bucket, Key: aws.String("etcd/default/" + name + suffix)})
			if err != nil {
				t.Fatal(err)
			}
			if string(head.ServerSideEncryption) != want || bucket == "kms" && (!strings.HasSuffix(aws.ToString(head.SSEKMSKeyId), testenv.KMSKey) ||
				string(head.ObjectLockMode) != "GOVERNANCE" || head.ObjectLockRetainUntilDate == nil) {
				t.Errorf("%s in %s: %q by %q, lock %q", suffix, bucket, head.ServerSideEncryption, aws.ToString(head.SSEKMSKeyId), head.ObjectLockMode)
			}
		}
	}
	tags, err := client.GetObjectTagging(t.Context(), &s3.GetObjectTaggingInput{Bucket: aws.String("kms"), Key: aws.String("etcd/default/" + name + ".db.zst")})
	if err != nil || len(tags.TagSet) != 1 || *tags.TagSet[0].Key != "team" {
		t.Errorf("tags: %+v, %v", tags, err)
	}
	s.must("verify", name, "--level", "drill", "--backend", "kms")
	w.restores(t, env, kms, name)

	credentials("wrong")
	if r := s.run("save"); r.code != 1 || !strings.Contains(r.stderr, "AccessDenied") && !strings.Contains(r.stderr, "SignatureDoesNotMatch") {
		t.Errorf("with wrong keys in the file: exit code %d: %s", r.code, r.stderr)
	}
	credentials(keys.SecretAccessKey)
	s.save()

	if r := s.run("delete", name, "--backend", "kms"); r.code != 1 || !strings.Contains(r.stderr, "lock") {
		t.Errorf("delete under lock: exit code %d: %s", r.code, r.stderr)
	}
	s.must("delete", name, "--backend", "sse")
	s.must("verify", name)
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
