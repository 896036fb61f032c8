package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/internal/config"
)

// TestACheckIsAmongTheAuditRecords: there is no other way to try whether records can be stored, where none is removed.
func TestACheckIsAmongTheAuditRecords(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	all := Check(t.Context(), &config.Config{NodeName: "node-1", AuditURL: config.URL("file://" + dir)})
	if failed, text := failures(all); len(all) != 1 || len(failed) > 0 {
		t.Errorf("%+v\n%s", all, text)
	}
	found, err := filepath.Glob(filepath.Join(dir, "*", "*-node-1-*-000001.jsonl"))
	if err != nil || len(found) != 1 {
		t.Fatalf("there are %q: %v", found, err)
	}
	if content, err := os.ReadFile(found[0]); err != nil || strings.Count(string(content), "\n") != 1 || !strings.Contains(string(content), `"operation":"Check"`) {
		t.Errorf("the record is %s, %v", content, err)
	}
	all = Check(t.Context(), &config.Config{NodeName: "node-1", AuditURL: config.URL("file://" + filepath.Join(dir, "missing"))})
	if failed, text := failures(all); len(failed) != 1 || failed[0] != "audit records: store a record" || !strings.Contains(text, "missing") {
		t.Errorf("without the directory: %q %s", failed, text)
	}
}
