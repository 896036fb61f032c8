package drill_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/snapshotd/snapshotd/internal/etcd/drill"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	"github.com/snapshotd/snapshotd/repository"
)

// A drill never forces its files to the disk, which a live etcd may share. A pipe cannot be synced: when the call
// succeeds, nothing is synced.
func TestDrillNeverSyncs(t *testing.T) {
	if _, err := os.Stat("/proc/sys/kernel/seccomp/actions_avail"); err != nil {
		t.Skipf("this kernel takes no filter of system calls: %v", err)
	}
	if out, err := exec.CommandContext(t.Context(), os.Args[0], syncAfterDrill).CombinedOutput(); err != nil {
		t.Errorf("a sync after a drill: %v: %s", err, out)
	}
}

// A full disk, or one that may not be written, says nothing about the snapshot.
func TestDrillOnABadMachineDoesNotBlameTheSnapshot(t *testing.T) {
	res, err := drill.Run(t.Context(), drill.Options{File: filepath.Join(t.TempDir(), "not-there.db"), Revision: 1})
	if err == nil {
		t.Errorf("a snapshot that is not there: %+v", res)
	}
	if os.Getuid() != 0 {
		t.Skip("a full disk is made with a mount, which needs root")
	}
	e := embedded.StartEtcd(t)
	c := e.Client(t)
	fill(t, c)
	s := save(t, e, c)
	db, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	small := t.TempDir()
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, fmt.Sprint("size=", len(db)+64<<10)); err != nil {
		t.Skipf("mount a small disk: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(small, 0) })
	s.file = filepath.Join(small, "snapshot.db")
	if err := os.WriteFile(s.file, db, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = drill.Run(t.Context(), drill.Options{File: s.file, Revision: s.revision})
	if err == nil || errors.Is(err, repository.ErrNotRestorable) || !strings.Contains(err.Error(), "no space") {
		t.Errorf("on a full disk: %v", err)
	}
}
