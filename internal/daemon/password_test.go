package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/internal/config"
)

func TestPasswordFromAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("hunter 2 \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := password(config.Etcd{PasswordFile: file}); err != nil || p != "hunter 2 " {
		t.Errorf("got %q, %v", p, err)
	}
	if p, err := password(config.Etcd{Password: "x"}); err != nil || p != "x" {
		t.Errorf("got %q, %v", p, err)
	}
	if err := os.WriteFile(file, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{file, "does-not-exist"} {
		if _, err := password(config.Etcd{PasswordFile: f}); err == nil ||
			!strings.Contains(err.Error(), "--etcd-password-file") {
			t.Errorf("%s: got error %v", f, err)
		}
	}
}
