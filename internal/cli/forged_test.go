package cli_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// placed puts data as a snapshot without a manifest into a directory of its own, and returns its URL.
func placed(t *testing.T, data []byte) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "default")
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "forged.db"), data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return "file://" + filepath.Dir(dir)
}

func TestForgedDatabaseIsAnErrorOfVerifyAndRestore(t *testing.T) {
	whole := testenv.Stored(t, 0).Data
	for _, f := range testenv.Forgeries() {
		from := placed(t, testenv.Forge(t, whole, f.Bucket, f.Key, f.Value))
		data := filepath.Join(t.TempDir(), "data")
		for _, args := range [][]string{
			{"verify", "forged", "--from", from, "--level", "drill"},
			{"restore", "forged", "--from", from, "--data-dir", data},
		} {
			if r := run(t.Context(), nil, args...); r.code != 4 || !strings.Contains(r.stderr, f.Says) {
				t.Errorf("%s: %s: exit code %d: %s%s, want 4 and %q", f.Name, args[0], r.code, r.stdout, r.stderr, f.Says)
			}
		}
	}
}

func TestAlarmsAreTold(t *testing.T) {
	const alarm, means = "NOSPACE 8e9e05c52164694d", "refuses writes until `etcdctl alarm disarm`"
	from := placed(t, testenv.Alarmed(t, testenv.Stored(t, 0).Data, alarm))
	target := func() string { return filepath.Join(t.TempDir(), "data") }
	for _, tc := range []struct {
		args []string
		says []string
	}{
		{[]string{"verify", "forged", "--from", from, "--level", "structure"}, []string{alarm, means}},
		{[]string{"verify", "forged", "--from", from, "--level", "drill"}, []string{"disarmed   " + alarm, means}},
		{[]string{"restore", "forged", "--from", from, "--data-dir", target()}, []string{alarm, means}},
		{[]string{"restore", "forged", "--from", from, "--data-dir", target(), "--disarm"}, []string{alarm + ": left out"}},
	} {
		r := run(t.Context(), nil, tc.args...)
		if r.code != 0 || slices.ContainsFunc(tc.says, func(s string) bool { return !strings.Contains(r.stdout, s) }) {
			t.Errorf("%v: exit code %d: %s%s, want %q", tc.args, r.code, r.stdout, r.stderr, tc.says)
		}
	}
}
