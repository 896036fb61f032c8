// Command snapshotd keeps etcd recoverable: it runs the service, and talks to one.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/snapshotd/snapshotd/internal/cli"
)

func main() {
	// Files and directories are their owner's alone, those that libraries make, too. With some umasks, the program could
	// not even open its own files.
	syscall.Umask(0o077)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(cli.Run(ctx, cli.System{Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv, Now: time.Now}, os.Args[1:]))
}
