package cli_test

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/internal/cli"
	"github.com/snapshotd/snapshotd/internal/etcd/drill"
	"github.com/snapshotd/snapshotd/internal/testenv"
)

// beSnapshotd makes this program snapshotd, for commands that name it by its path.
const beSnapshotd = "SNAPSHOTD_TEST_IS_SNAPSHOTD"

func TestMain(m *testing.M) {
	// A drill starts this program once more, without its environment.
	if os.Getenv(beSnapshotd) != "" || len(os.Args) > 1 && os.Args[1] == drill.Verb {
		snapshotd()
	}
	testenv.RunWaitingOnDisk(m)
}

// snapshotd does the same as main.
func snapshotd() {
	syscall.Umask(0o077)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(cli.Run(ctx, cli.System{Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv, Now: time.Now}, os.Args[1:]))
}
