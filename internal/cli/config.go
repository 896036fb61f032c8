package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/snapshotd/snapshotd/internal/cli/command"
	"github.com/snapshotd/snapshotd/internal/cli/output"
	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/daemon"
)

func newConfig(sys System) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Look at the configuration",
		Args:  command.NoCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newConfigCheck(sys), newConfigInit(sys), newConfigSchema(sys))
	return cmd
}

func newConfigInit(sys System) *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "Print a configuration file with comments, to begin with",
		Example: `  snapshotd config init > /etc/snapshotd/snapshotd.yaml
  snapshotd config check --config /etc/snapshotd/snapshotd.yaml`,
		Args: command.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := sys.Stdout.Write(config.Example)
			return err
		},
	}
}

func newConfigSchema(sys System) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON schema of the configuration file",
		Long: `Print the JSON schema of the configuration file, by which editors complete keys and mark wrong ones. A file
in clusters_dir is a "cluster" of its definitions. "config check" checks more than the schema can say.`,
		Args: command.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			schema, err := config.Schema()
			if err != nil {
				return err
			}
			_, err = sys.Stdout.Write(schema)
			return err
		},
	}
}

func newConfigCheck(sys System) *cobra.Command {
	connect := false
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration, and what it names",
		Long: `Check the configuration that "serve" would have with the same flags, variables and file, and
print the values in effect, defaults included, with the origin of each, and the next runs of the
schedules, and which changes take effect without a restart. Secrets are not shown. Warnings are about
what is allowed and probably not meant. Nothing is connected to, and no file but the configuration is
read.

With --connect, ask every etcd and every backend for what the service will need, and print each
action and how it went, instead of the values: the status of each member, the beginning of a
snapshot, a key of the catalog that is written and removed; the marker and the list of a backend,
and objects that are written, read, read in part and deleted. It is done with a key and objects of
its own (10 MB), which are removed again; nothing else is touched, and no service is needed. A
record of the check is stored where audit_url is, and stays.

Exits 2 and names all problems when the configuration is wrong, and 1 when something that was asked
with --connect fails. Warnings change nothing.`,
		Example: `  snapshotd config check --config /etc/snapshotd/snapshotd.yaml
  snapshotd config check --config /etc/snapshotd/snapshotd.yaml --connect`,
		Args: command.NoArgs,
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().BoolVar(&connect, "connect", false, "ask every etcd and backend for what the service will need")
	flags := config.AddFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := config.Load(config.Source{Flags: flags, Getenv: sys.Getenv})
		if err != nil {
			return err
		}
		for _, w := range cfg.Warnings(sys.Now()) {
			fmt.Fprintln(sys.Stderr, "warning:", output.Plain(w))
		}
		if connect {
			return checkConnections(cmd.Context(), sys, cfg)
		}
		return errors.Join(cfg.Write(sys.Stdout), cfg.WriteNextRuns(sys.Stdout, sys.Now()), cfg.WriteReload(sys.Stdout))
	}
	return cmd
}

// checkConnections prints what every etcd and backend can do, and fails when one of them cannot.
func checkConnections(ctx context.Context, sys System, cfg *config.Config) error {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // libraries log what is an error here already
	all := daemon.Check(ctx, cfg)
	failed := 0
	for _, c := range all {
		result := "ok"
		if c.Err != nil {
			failed++
			result = "FAILED: " + c.Err.Error()
		}
		part := c.Part
		if c.Cluster != "" {
			part = fmt.Sprintf("cluster %q, %s", c.Cluster, c.Part)
		}
		fmt.Fprintln(sys.Stdout, output.Plain(fmt.Sprintf("%s: %s: %s", part, c.Action, result)))
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case failed > 0:
		return fmt.Errorf("%d of %d checks failed", failed, len(all))
	}
	return nil
}
