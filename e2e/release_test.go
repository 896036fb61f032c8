//go:build e2e

package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// GoReleaser's own types take the configuration, strictly. How it would build, the Makefile shows, too.
func TestTheReleaseIsOneThatGoReleaserReads(t *testing.T) {
	reader := testenv.Tool(t, "goreleaser", "github.com/snapshotd/snapshotd/tools/goreleaser")
	out, err := exec.CommandContext(t.Context(), reader, filepath.Join(testenv.Root(), ".goreleaser.yaml")).Output()
	if err != nil {
		t.Fatalf("GoReleaser does not take the configuration: %v\n%s", err, out)
	}
	var project struct {
		Builds []struct {
			Main                       string
			Goos, Goarch, Env, Ldflags []string
		}
		NFPMs []struct{ Formats []string } `json:"nfpms"`
	}
	decode(t, string(out), &project)
	if len(project.Builds) != 1 || len(project.NFPMs) != 1 {
		t.Fatalf("there are %+v", project)
	}
	b := project.Builds[0]
	got := strings.Join([]string{b.Main, strings.Join(b.Goos, "+"), strings.Join(b.Goarch, "+"), strings.Join(b.Env, "+"),
		strings.Join(project.NFPMs[0].Formats, "+")}, " ")
	if want := "./cmd/snapshotd linux amd64+arm64 CGO_ENABLED=0 deb+rpm"; got != want {
		t.Errorf("the release is %q, want %q", got, want)
	}
	// The linker sets the variables that "snapshotd version" prints; it would ignore others.
	flags := strings.Join(b.Ldflags, " ")
	flags = strings.NewReplacer("{{ .Tag }}", "v1.2.3", "{{ .FullCommit }}", "0123abc").Replace(flags)
	path := filepath.Join(t.TempDir(), "snapshotd")
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags", flags, "-o", path, b.Main)
	build.Dir = testenv.Root()
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	if out, err = exec.CommandContext(t.Context(), path, "version", "--output", "json").Output(); err != nil {
		t.Fatal(err)
	}
	var version struct{ Version, Commit string }
	decode(t, string(out), &version)
	if version.Version != "v1.2.3" || version.Commit != "0123abc" {
		t.Errorf("the program says that it is %+v", version)
	}
}
