package restore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// checkTargets refuses directories that hold something, or one another: nothing is ever overwritten.
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
	return checkTarget("--wal-dir", o.WALDir)
}

func checkTarget(what, dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return fmt.Errorf("%s: %w", what, err)
	case len(entries) > 0:
		return fmt.Errorf("%s: %s is not empty, and nothing is overwritten; move it away or name another directory", what, dir)
	}
	if _, err := os.Stat(filepath.Dir(filepath.Clean(dir))); err != nil {
		return fmt.Errorf("%s: %w; make the directory above it first", what, err)
	}
	return nil
}

// below returns the path of dir as seen from another directory that it is in, "." when it is that one, and "" when it is not
// in it.
func below(above, dir string) (string, error) {
	a, err := filepath.Abs(above)
	if err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	d, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	rel, err := filepath.Rel(a, d)
	if err != nil || !filepath.IsLocal(rel) {
		return "", nil //nolint:nilerr // there is no way from one to the other
	}
	return rel, nil
}

// workSuffix is between the name of a data directory and what makes a working directory beside it unique.
const workSuffix = ".restoring-"

// makeWork makes a working directory beside a directory that is to be, where a rename is one step, and removes those that
// dead restores have left. Whoever lives holds a lock on his own.
func makeWork(target string) (work string, done func(), err error) {
	target = filepath.Clean(target)
	pattern := "." + filepath.Base(target) + workSuffix
	old, _ := filepath.Glob(filepath.Join(filepath.Dir(target), pattern+"*"))
	for _, dir := range old {
		if f, err := lock(dir); err == nil {
			_ = os.RemoveAll(dir)
			_ = f.Close()
		}
	}
	work, err = os.MkdirTemp(filepath.Dir(target), pattern)
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

func lock(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
