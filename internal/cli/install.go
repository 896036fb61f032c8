package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/snapshotd/snapshotd/internal/cli/exit"
)

func newInstall(sys System) *cobra.Command {
	return &cobra.Command{
		Use:   "install PATH",
		Short: "Copy this program to a file or into a directory",
		Long: `Copy this program to a file, or into a directory as "snapshotd". The image of the service has no shell
and no cp: an init container installs the program into a volume that others share, or a container into
a directory of its machine. A file that is there is replaced at once, also while it runs; it is never
seen in part. The directory must exist.`,
		Example: `  snapshotd install /shared
  docker run --rm --user 0 -v /usr/local/bin:/target IMAGE install /target`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return exit.Usagef("give one PATH: a file to make, or a directory")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := install(args[0])
			if err != nil {
				return fmt.Errorf("install %s: %w", args[0], err)
			}
			_, err = fmt.Fprintln(sys.Stdout, path)
			return err
		},
	}
}

// install copies this program and returns the path of the copy.
func install(path string) (string, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, "snapshotd")
	}
	self, err := os.Executable()
	if err != nil {
		return path, err
	}
	if sameFile(self, path) {
		return path, errors.New("it is this very program")
	}
	in, err := os.Open(self)
	if err != nil {
		return path, err
	}
	defer func() { _ = in.Close() }()
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return path, err
	}
	defer func() { _ = dir.Close() }()
	out, err := os.CreateTemp(filepath.Dir(path), ".snapshotd-*")
	if err != nil {
		return path, err
	}
	defer func() { _ = os.Remove(out.Name()) }() // it is gone when it was renamed
	if err := errors.Join(fill(out, in), out.Close()); err != nil {
		return path, err
	}
	if err := os.Rename(out.Name(), path); err != nil {
		return path, err
	}
	return path, dir.Sync()
}

// fill copies a program, durably, for all users.
func fill(out *os.File, in io.Reader) error {
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	if err := out.Chmod(0o755); err != nil {
		return err
	}
	return out.Sync()
}
