package drill_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/snapshotd/snapshotd/internal/drill"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/snapshot"
)

// A full disk, or one that may not be written, says nothing about the snapshot.
func TestDrillOnABadMachineDoesNotBlameTheSnapshot(t *testing.T) {
	var out strings.Builder
	err := drill.Main(t.Context(), []string{filepath.Join(t.TempDir(), "not-there.db"), t.TempDir(), "1"}, &out)
	if err == nil {
		t.Errorf("a snapshot that is not there: %s", out.String())
	}
	if os.Getuid() != 0 {
		t.Skip("a full disk is made with a mount, which needs root")
	}
	small := t.TempDir()
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("mount a small disk: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(small, 0) })
	e := testenv.StartEtcd(t)
	c := e.Client(t)
	fill(t, c)
	s := save(t, e, c)
	_, err = drill.Run(t.Context(), drill.Options{File: s.file, Dir: small, Revision: s.revision})
	if err == nil || errors.Is(err, snapshot.ErrNotRestorable) || !strings.Contains(err.Error(), "no space") {
		t.Errorf("on a full disk: %v", err)
	}
}
