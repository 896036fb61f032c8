package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/snapshotd/snapshotd/internal/cli/client"
	"github.com/snapshotd/snapshotd/internal/cli/command"
	"github.com/snapshotd/snapshotd/internal/cli/exit"
	"github.com/snapshotd/snapshotd/internal/cli/flagvalue"
	"github.com/snapshotd/snapshotd/internal/cli/output"
	"github.com/snapshotd/snapshotd/internal/cli/restoring"
	"github.com/snapshotd/snapshotd/internal/cli/token"
)

// Run runs a command line and returns its exit code. Cancelling ctx interrupts it.
func Run(ctx context.Context, sys System, args []string) int {
	root := Root(sys) //nolint:contextcheck // cobra hands ctx to the command that runs
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	return exit.Report(ctx, output.PlainLines(sys.Stderr), cmd, err)
}

// Root returns the program's command, with all others below it.
func Root(sys System) *cobra.Command {
	root := &cobra.Command{
		Use:   "snapshotd",
		Short: "Keep etcd recoverable",
		Long: `snapshotd takes snapshots of etcd, stores each of them on several backends at once, and keeps an
honest catalog of them.

"snapshotd serve" runs the service. "restore", "verify" and "list --from" need a bucket or a directory
and nothing else. Every other command calls a service over gRPC: the one at --addr or
SNAPSHOTD_ADDR. The other flags for the service have variables, too: SNAPSHOTD_CLUSTER,
SNAPSHOTD_CACERT, SNAPSHOTD_OUTPUT and so on.

Exit codes: 0 done, 1 failed, 2 usage, 3 partial (some backend failed), 4 damaged, 5 busy or changed
meanwhile, 6 not found, 130 interrupted. Those of status are its own.`,
		Example: `  snapshotd serve --dev                 try it: needs nothing, brings its own etcd
  snapshotd serve --config FILE         run it
  snapshotd status                      whether the clusters can be recovered
  snapshotd save                        take a snapshot now
  snapshotd list                        show the snapshots
  snapshotd restore latest --from URL --data-dir DIR    bring it back`,
		Args:          command.NoCommand,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.Version = Version().Version
	root.SetVersionTemplate(Version().text())
	root.SetOut(sys.Stdout)
	root.SetErr(sys.Stderr)
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return exit.Usage(flagvalue.Error(err)) })
	root.AddCommand(
		newServe(sys), newConfig(sys), newVersion(sys),
		newStatus(sys), newWindow(sys), newSave(sys), newReconcile(sys), newList(sys), newGet(sys), newUpdate(sys),
		newDelete(sys), newPrune(sys),
		newWatch(sys),
		restoring.New(sys, completeName(sys, cobra.CompletionWithDesc(client.Latest, "the newest that is whole"))),
		newVerify(sys), newDownload(sys), newInstall(sys), newWhoAmI(sys), token.New(sys),
		newDrillMember(sys),
	)
	completeFlags(sys, root)
	return root
}
