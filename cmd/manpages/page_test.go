package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/snapshotd/snapshotd/internal/cli"
)

func root() *cobra.Command {
	var out bytes.Buffer
	return cli.Root(cli.System{Stdout: &out, Stderr: &out, Getenv: func(string) string { return "" }, Now: time.Now})
}

func TestEachCommandHasAPage(t *testing.T) {
	dir := t.TempDir()
	if err := writeAll(root(), dir, "v1.2.3"); err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{"snapshotd", "snapshotd-serve", "snapshotd-config-check", "snapshotd-token-create"} {
		if _, err := os.Stat(filepath.Join(dir, page+".1")); err != nil {
			t.Error(err)
		}
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(pages) < 20 {
		t.Fatalf("there are %d pages, %v", len(pages), err)
	}
	for _, path := range pages {
		checkPage(t, path)
	}
}

// The requests that the pages are made of; everything else at the beginning of a line would be swallowed.
var request = regexp.MustCompile(`^\.(TH|SH|PP|TP|nf|fi)\b`)

// The escapes that the pages are made of.
var known = regexp.MustCompile(`\\(e|-|&|fB|fP|\(dq|\[u[0-9A-F]{4}\])`)

func checkPage(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(path, "drill") {
		t.Errorf("%s is of a hidden command", path)
	}
	for _, section := range []string{"NAME", "SYNOPSIS", "DESCRIPTION", "SEE ALSO"} {
		if !strings.Contains(string(b), ".SH \""+section+"\"\n") {
			t.Errorf("%s has no section %s", path, section)
		}
	}
	for line := range strings.Lines(string(b)) {
		if line[0] == '\'' || line[0] == '.' && !request.MatchString(line) {
			t.Errorf("%s: the line %q is no text and no known request", path, line)
		}
		if rest := known.ReplaceAllString(line, ""); strings.Contains(rest, `\`) {
			t.Errorf("%s: the line %q has an escape that is not known", path, line)
		}
	}
}

func TestAPageSaysWhatTheHelpSays(t *testing.T) {
	cmd, _, err := root().Find([]string{"restore"})
	if err != nil {
		t.Fatal(err)
	}
	got := string(page(cmd, "v1.2.3"))
	for _, want := range []string{
		`.TH "SNAPSHOTD\-RESTORE" "1" "" "snapshotd v1.2.3"`, `snapshotd\-restore \- `, `\fB\-\-data\-dir `, "snapshotd(1)",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the page has no %q:\n%s", want, got)
		}
	}
}

func TestTextCannotBecomeARequest(t *testing.T) {
	cmd := &cobra.Command{Use: "x", Short: "Do", Long: ".so /etc/passwd\n'br\n\n  .indented… \\fBa", Run: func(*cobra.Command, []string) {}}
	want := ".SH \"DESCRIPTION\"\n\\&.so /etc/passwd\n\\&'br\n.PP\n.nf\n  .indented\\[u2026] \\efBa\n.fi\n"
	if got := string(page(cmd, "")); !strings.Contains(got, want) {
		t.Errorf("got %s", got)
	}
}

// groff itself looks at the pages, where there is one.
func TestGroffHasNoComplaint(t *testing.T) {
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("there is no groff (Debian's package groff-base)")
	}
	dir := t.TempDir()
	if err := writeAll(root(), dir, "v1.2.3"); err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"-man", "-Tutf8", "-ww", "-z"}, pages...)
	if out, err := exec.CommandContext(t.Context(), groff, args...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("groff: %v\n%s", err, out)
	}
}
