package server_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// leastAttacks is how many attacks the log has at least.
const leastAttacks = 120

var attackRow = regexp.MustCompile("^\\| (\\d+) \\| (.+) \\| (.+) \\| `(\\./[a-z0-9/]+) (Test[A-Za-z0-9_]+)` \\|$")

// TestEveryAttackNamesATestThatExists reads docs/attacks.md.
func TestEveryAttackNamesATestThatExists(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "docs", "attacks.md"))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]string{} // the text of a package's tests
	n, seen := 0, map[string]bool{}
	for line := range strings.Lines(string(doc)) {
		line = strings.TrimSuffix(line, "\n")
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| # ") {
			continue
		}
		row := attackRow.FindStringSubmatch(line)
		n++
		if row == nil || row[1] != fmt.Sprint(n) {
			t.Errorf("row %d has another form: %s", n, line)
			continue
		}
		if seen[row[2]+row[5]] {
			t.Errorf("row %d is there twice: %s", n, line)
		}
		seen[row[2]+row[5]] = true
		if _, ok := tests[row[4]]; !ok {
			tests[row[4]] = testsOf(t, filepath.Join("..", row[4]))
		}
		if !strings.Contains(tests[row[4]], "\nfunc "+row[5]+"(t *testing.T) {") {
			t.Errorf("row %d: %s has no test %s", n, row[4], row[5])
		}
	}
	if n < leastAttacks {
		t.Errorf("there are %d attacks", n)
	}
}

func testsOf(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(text)
	}
	return b.String()
}
