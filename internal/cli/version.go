package cli

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/snapshotd/snapshotd/internal/cli/command"
	"github.com/snapshotd/snapshotd/internal/cli/output"
)

// Set by the linker in releases:
// -ldflags "-X github.com/snapshotd/snapshotd/internal/cli.version=v1.2.3 -X ….commit=…".
var (
	version string
	commit  string
)

// Build describes this program.
type Build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"` // with "-dirty" when it was built from changed files; empty when not known
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// Version returns the values of the linker, or of Go's build information.
func Version() Build {
	b := Build{Version: version, Commit: commit, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	if b.Version == "" {
		b.Version = "(devel)"
	}
	if b.Commit == "" {
		settings := map[string]string{}
		for _, s := range info.Settings {
			settings[s.Key] = s.Value
		}
		b.Commit = settings["vcs.revision"]
		if settings["vcs.modified"] == "true" {
			b.Commit += "-dirty"
		}
	}
	return b
}

func newVersion(sys System) *cobra.Command {
	var format output.Format
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  command.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return runVersion(sys, format) },
	}
	format.AddFlag(cmd)
	return cmd
}

func runVersion(sys System, format output.Format) error {
	b := Version()
	switch format {
	case output.FormatJSON:
		enc := json.NewEncoder(sys.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(b)
	case output.FormatYAML:
		return yaml.NewEncoder(sys.Stdout).Encode(b)
	}
	_, err := fmt.Fprint(sys.Stdout, b.text())
	return err
}

func (b Build) text() string {
	return fmt.Sprintf("snapshotd %s\ncommit %s\n%s %s\n", b.Version, output.OrDash(b.Commit), b.Go, b.Platform)
}
