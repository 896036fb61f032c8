package restore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/snapshotd/snapshotd/internal/disk"
	"github.com/snapshotd/snapshotd/snapshot"
)

// checkTargets refuses directories that are not empty, or in one another: nothing is ever overwritten.
func checkTargets(o Options) error {
	apart := o.WALDir != ""
	if apart {
		inData, err := below(o.DataDir, o.WALDir)
		if err != nil {
			return err
		}
		inWAL, err := below(o.WALDir, o.DataDir)
		switch {
		case err != nil:
			return err
		case inData == ".":
			return fmt.Errorf("--wal-dir: %s is the data directory; name another one, or leave it out", o.WALDir)
		case inWAL != "":
			return fmt.Errorf("--wal-dir: the data directory %s is in %s; name another one", o.DataDir, o.WALDir)
		}
		apart = inData == "" // otherwise it is made with the data directory
	}
	if err := checkTarget("--data-dir", o.DataDir); err != nil || !apart {
		return err
	}
	if err := checkTarget("--wal-dir", o.WALDir); err != nil {
		return err
	}
	dir := workParent(o.WALDir)
	free, err := disk.Free(dir)
	switch {
	case err != nil:
		return fmt.Errorf("--wal-dir: measure the free space of %s: %w", dir, err)
	case free < snapshot.MemberRoom:
		return snapshot.ReasonNoSpace.New("--wal-dir: %d bytes are needed for a WAL, and %s has %d free",
			snapshot.MemberRoom, dir, free).
			Final().Advise("free space there, or name a directory on another disk")
	}
	return nil
}

// workParent returns the directory in which a target is made, and so the disk that must have room for it: the target
// itself when it exists, as it may be a mount point, or else the directory above it.
func workParent(target string) string {
	target = filepath.Clean(target)
	if _, err := os.Stat(target); err != nil {
		return filepath.Dir(target)
	}
	return target
}

func checkTarget(what, dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return checkParent(what, dir)
	case err != nil:
		return fmt.Errorf("%s: %w", what, err)
	case slices.ContainsFunc(entries, holds):
		return fmt.Errorf("%s: %s is not empty, and nothing is overwritten; move it away or name another directory",
			what, dir)
	}
	return writable(what, filepath.Clean(dir))
}

// writable returns an error when nothing can be made in a directory: a dry run must find that out, too.
func writable(what, dir string) error {
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		err = &os.PathError{Op: "write to", Path: dir, Err: err}
		if hint := disk.Denied(err); hint != "" {
			return fmt.Errorf("%s: %w (%s)", what, err, hint)
		}
		return fmt.Errorf("%s: %w; name a directory that can be written to", what, err)
	}
	return nil
}

// holds reports whether a directory with such an entry counts as not empty. Leftovers of an interrupted restore, and
// those of making a file system, do not count.
func holds(e os.DirEntry) bool {
	return e.Name() != "lost+found" && !strings.HasPrefix(e.Name(), workPrefix)
}

// checkParent returns an error when a directory that is missing cannot be made.
func checkParent(what, dir string) error {
	dir = filepath.Clean(dir)
	if _, err := os.Lstat(dir); err == nil {
		return fmt.Errorf("%s: %s is a symbolic link to a missing directory; make that directory first", what, dir)
	}
	if _, err := os.Stat(filepath.Dir(dir)); err != nil {
		return fmt.Errorf("%s: %w; make the directory above it first", what, err)
	}
	return writable(what, filepath.Dir(dir))
}

// below returns the relative path of a directory inside another one: "." when they are the same, "" when it is not
// inside.
func below(above, dir string) (string, error) {
	a, err := resolved(above)
	if err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	d, err := resolved(dir)
	if err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	rel, err := filepath.Rel(a, d)
	if err != nil || !filepath.IsLocal(rel) {
		return "", nil //nolint:nilerr // there is no way from one to the other
	}
	return rel, nil
}

// resolved returns the path of a directory without symbolic links, also of one that does not exist yet.
func resolved(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real, nil
	}
	if parent, err := filepath.EvalSymlinks(filepath.Dir(dir)); err == nil {
		return filepath.Join(parent, filepath.Base(dir)), nil
	}
	return dir, nil
}

// workPrefix begins the name of a work directory inside the target. A work directory beside a target has the target's
// name before it.
const workPrefix = ".restoring-"

// makeWork makes a work directory from which a rename into the target is one step: inside a target that exists, which
// may be a mount point, and beside it otherwise. Work directories of dead restores are removed; a restore that lives
// holds the lock of its own.
func makeWork(target string) (work string, done func(), err error) {
	parent, prefix := workParent(target), workPrefix
	if target = filepath.Clean(target); parent != target {
		prefix = "." + filepath.Base(target) + workPrefix
	}
	removeDead(parent, prefix)
	work, err = os.MkdirTemp(parent, prefix+"*")
	if err != nil {
		return "", nil, fmt.Errorf("restore: %w", err)
	}
	f, err := lock(work)
	if err != nil {
		return "", nil, fmt.Errorf("restore: lock %s: %w", work, err)
	}
	return work, func() {
		_ = os.RemoveAll(work)
		_ = f.Close()
	}, nil
}

func removeDead(parent, prefix string) {
	entries, _ := os.ReadDir(parent)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		dir := filepath.Join(parent, e.Name())
		if f, err := lock(dir); err == nil {
			_ = os.RemoveAll(dir)
			_ = f.Close()
		}
	}
}

func lock(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := disk.Lock(f); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
