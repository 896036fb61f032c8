package testenv

import (
	"crypto/rand"
	"encoding/base64"
	"path/filepath"
	"testing"
)

// KMSKey is the name of the key that the KMS of [StartMinIO] has.
const KMSKey = "snapshotd-test"

// StartMinIO starts a server that ends with the test. It has two things that versitygw does not have: a KMS, and
// sessions by STS at the same address. It takes minutes to build once.
func StartMinIO(tb testing.TB) *S3 {
	tb.Helper()
	root, key := tb.TempDir(), make([]byte, 32)
	_, _ = rand.Read(key)
	s := &S3{
		tb: tb, binary: Tool(tb, "minio", "github.com/minio/minio"),
		root: root, data: filepath.Join(root, "data"), addr: freeAddr(tb), health: "/minio/health/ready",
	}
	s.mkdir(s.data)
	s.newUser = (*S3).session
	s.args = []string{"server", "--quiet", "--address", s.addr, s.data}
	s.env = []string{
		"MINIO_ROOT_USER=" + s3Keys.AccessKeyID, "MINIO_ROOT_PASSWORD=" + s3Keys.SecretAccessKey, "MINIO_BROWSER=off",
		"MINIO_UPDATE=off",
		"MINIO_KMS_SECRET_KEY=" + KMSKey + ":" + base64.StdEncoding.EncodeToString(key),
	}
	s.run()
	return s
}
