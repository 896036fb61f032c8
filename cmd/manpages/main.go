// Command manpages writes the manual pages of snapshotd into a directory: one for the program, and one for each of its
// commands, made of their help texts.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/snapshotd/snapshotd/internal/cli"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: manpages DIRECTORY VERSION")
		os.Exit(2)
	}
	silent := cli.System{
		Stdout: os.Stdout, Stderr: os.Stderr, Getenv: func(string) string { return "" }, Now: time.Now,
	}
	if err := writeAll(cli.Root(silent), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// writeAll writes the pages of a command and of all below it.
func writeAll(cmd *cobra.Command, dir, version string) error {
	path := filepath.Join(dir, name(cmd)+".1")
	if err := os.WriteFile(path, page(cmd, version), 0o644); err != nil { //nolint:gosec // for everyone to read
		return fmt.Errorf("write a manual page: %w", err)
	}
	for _, sub := range documented(cmd) {
		if err := writeAll(sub, dir, version); err != nil {
			return err
		}
	}
	return nil
}
