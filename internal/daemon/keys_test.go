package daemon

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/snapshotd/snapshotd/internal/config"
)

func newRecipient(t *testing.T) string {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id.Recipient().String()
}

func TestRecipientsOfTheConfigurationAndItsFile(t *testing.T) {
	if r, err := recipientsOf(config.Encryption{}); err != nil || len(r.Names()) != 0 {
		t.Errorf("without encryption: %q, %v", r.Names(), err)
	}
	one, two := newRecipient(t), newRecipient(t)
	file := filepath.Join(t.TempDir(), "recipients")
	cfg := config.Encryption{Recipients: []string{one}, RecipientsFile: file}
	for _, content := range []string{"", "# nobody\n", "rubbish\n"} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := recipientsOf(cfg); err == nil || !strings.Contains(err.Error(), "--encryption-recipients-file") {
			t.Errorf("%q: %q, %v", content, r.Names(), err)
		}
	}
	if err := os.WriteFile(file, []byte(two+"\n"+one+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err := recipientsOf(cfg); err != nil || !slices.Equal(r.Names(), []string{one, two}) {
		t.Errorf("%q, %v", r.Names(), err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := recipientsOf(cfg); err == nil {
		t.Error("no error without the file")
	}
}
