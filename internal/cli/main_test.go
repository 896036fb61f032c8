package cli_test

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/snapshotd/snapshotd/internal/cli"
)

// beSnapshotd makes this program snapshotd, for commands that name it by its path.
const beSnapshotd = "SNAPSHOTD_TEST_IS_SNAPSHOTD"

func TestMain(m *testing.M) {
	if os.Getenv(beSnapshotd) != "" {
		snapshotd()
	}
	testscript.Main(m, map[string]func(){"snapshotd": snapshotd})
}

// snapshotd does the same as main.
func snapshotd() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(cli.Run(ctx, cli.System{Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv, Now: time.Now}, os.Args[1:]))
}
