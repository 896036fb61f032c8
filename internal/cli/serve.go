package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/snapshotd/snapshotd/internal/cli/command"
	"github.com/snapshotd/snapshotd/internal/cli/exit"
	"github.com/snapshotd/snapshotd/internal/cli/flagvalue"
	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/daemon"
)

type serveOptions struct {
	config *config.Flags
	dev    bool
}

func newServe(sys System) *cobra.Command {
	var opts serveOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the service",
		Long: `Run the service: gRPC for the commands and other programs; HTTP for Prometheus and probes, for the
API as JSON, and for the console, which is at / in a browser. It stops on SIGINT and SIGTERM, and
gives calls that are under way time to end. On SIGHUP, and when a file of its configuration has changed,
it applies clusters, rules of access, limits and some other keys; the log names what waits for a restart.

A setting without its flag is taken from a variable, SNAPSHOTD_LISTEN_GRPC for --listen-grpc and so
on, then from the file that --config names, then from the defaults. Commas separate the values of a
list in a variable (%2C is a comma in a URL), but SNAPSHOTD_SCHEDULE is one schedule. One cluster fits
into flags; several need the file. "snapshotd config check" prints the values that would be in effect.`,
		Example: `  snapshotd serve --dev
  snapshotd serve --config /etc/snapshotd/snapshotd.yaml
  snapshotd serve --etcd-endpoints https://10.0.0.1:2379,https://10.0.0.2:2379 \
      --etcd-cacert ca.crt --etcd-cert client.crt --etcd-key client.key \
      --backend local=file:///var/backups/etcd \
      --backend 's3=s3://backups?region=eu-central-1&prefix=production/'`,
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := flagvalue.FromEnvironment(cmd.Flags(), sys.Getenv, "dev"); err != nil {
				return err
			}
			return runServe(cmd.Context(), sys, opts)
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().BoolVar(&opts.dev, "dev", false,
		"try it: with an etcd of its own, a directory as backend, and a first snapshot")
	opts.config = config.AddFlags(cmd.Flags())
	return cmd
}

func runServe(ctx context.Context, sys System, opts serveOptions) error {
	load := func() (*config.Config, error) {
		return config.Load(config.Source{Flags: opts.config, Getenv: sys.Getenv, Dev: opts.dev})
	}
	cfg, err := load()
	if err != nil {
		return err
	}
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	svc, err := daemon.New(daemon.Config{
		Config: cfg, Dev: opts.dev, Version: Version().Version, Log: sys.Stderr, Reload: reload, Load: load,
	})
	if err != nil {
		return err
	}
	if err := svc.Open(ctx); err != nil {
		return err
	}
	run := svc.Run
	if opts.dev {
		run = func(ctx context.Context) error { return serveDev(ctx, sys, cfg, svc) }
	}
	if err := run(ctx); err != nil {
		return exit.Failed(err)
	}
	return nil
}

// serveDev serves, and takes the first steps as any client would. It ends when these fail.
func serveDev(ctx context.Context, sys System, cfg *config.Config, svc *daemon.Service) error {
	serving, stop := context.WithCancel(ctx)
	defer stop()
	first := make(chan error, 1)
	go func() {
		err := firstSteps(serving, sys, cfg, svc.GRPCAddr(), svc.HTTPAddr())
		if err != nil {
			stop()
		}
		first <- err
	}()
	err := svc.Run(serving)
	stop()
	if ferr := <-first; ctx.Err() == nil {
		err = errors.Join(ferr, err)
	}
	return err
}
