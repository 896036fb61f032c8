package storage_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage"
)

// Keys in a file are read again when the file changes, without a restart; a file that is broken for a moment changes nothing.
func TestCredentialsFileThatChanges(t *testing.T) {
	b := newBucket(testenv.StartS3(t))
	good, err := b.Credentials().Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "credentials")
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(file+".new", []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	keys := func(id, secret string) {
		t.Helper()
		write("[backup]\naws_access_key_id = " + id + "\naws_secret_access_key = " + secret + "\n")
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")

	keys(good.AccessKeyID, "old"+good.SecretAccessKey)
	back := b.backend(t, b.Addr(), "", func(c *storage.Config) { c.URL, c.Credentials = c.URL+"&profile=backup", nil })
	for range 2 {
		err := put(t.Context(), back, "default/x.db", 10)
		if snapshot.ReasonOf(err) != snapshot.ReasonBackendAccessDenied || strings.Contains(err.Error(), good.SecretAccessKey) {
			t.Fatalf("with keys that are not known: %v", err)
		}
	}
	keys(good.AccessKeyID, good.SecretAccessKey)
	if err := put(t.Context(), back, "default/x.db", 10); err != nil {
		t.Fatalf("with the keys of the changed file: %v", err)
	}
	write("[bac")
	if err := put(t.Context(), back, "default/y.db", 10); err != nil {
		t.Errorf("with a file that is half written: %v", err)
	}
	keys(good.AccessKeyID, "older"+good.SecretAccessKey)
	if err := put(t.Context(), back, "default/z.db", 10); snapshot.ReasonOf(err) != snapshot.ReasonBackendAccessDenied {
		t.Errorf("with a secret that is not known any more: %v", err)
	}
	keys("OLDER"+good.AccessKeyID, "older"+good.SecretAccessKey)
	if err := put(t.Context(), back, "default/z.db", 10); snapshot.ReasonOf(err) != snapshot.ReasonBackendAccessDenied {
		t.Errorf("with keys that are not known any more: %v", err)
	}
}
