package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// System is the surroundings of a command. All fields are needed.
type System struct {
	Stdout io.Writer
	Stderr io.Writer
	Getenv func(string) string
	Now    func() time.Time
}

// Run runs a command line and returns its exit code. Cancelling ctx interrupts it.
func Run(ctx context.Context, sys System, args []string) int {
	root := newRoot(sys) //nolint:contextcheck // cobra hands ctx to the command that runs
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	return report(ctx, sys.Stderr, cmd, err)
}

func newRoot(sys System) *cobra.Command {
	root := &cobra.Command{
		Use:   "snapshotd",
		Short: "Keep etcd recoverable",
		Long: `snapshotd takes snapshots of etcd, stores each of them on several backends at once, and keeps an
honest catalog of them.

"snapshotd serve" runs the service. "restore", "verify" and "list --from" need a bucket or a directory
and nothing else. Every other command calls a service over gRPC: the one at --addr or
SNAPSHOTD_ADDR. The other flags for the service have variables, too: SNAPSHOTD_CLUSTER,
SNAPSHOTD_CACERT, SNAPSHOTD_OUTPUT and so on.

Exit codes: 0 done, 1 failed, 2 usage, 3 partial (some backend failed), 4 damaged, 5 busy, 6 not found,
130 interrupted.`,
		Example: `  snapshotd serve --dev                 try it: needs nothing, brings its own etcd
  snapshotd serve --config FILE         run it
  snapshotd save                        take a snapshot now
  snapshotd list                        show the snapshots
  snapshotd restore latest --from URL --data-dir DIR    bring it back`,
		Args:          noCommand,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(sys.Stdout)
	root.SetErr(sys.Stderr)
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{flagError(err)} })
	root.AddCommand(
		newServe(sys), newConfig(sys), newVersion(sys),
		newSave(sys), newReconcile(sys), newList(sys), newGet(sys), newUpdate(sys), newDelete(sys), newPrune(sys),
		newWatch(sys), newRestore(sys), newVerify(sys), newDownload(sys), newDrillMember(sys),
	)
	completeFlags(sys, root)
	return root
}

// noArgs returns an error for any argument.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%q is not understood: no arguments are taken", args[0])
	}
	return nil
}

func oneName(_ *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return usagef("NAME is missing: give the name of a snapshot, as list shows it")
	case len(args) > 1:
		return usagef("%q is not understood: one NAME is taken", args[1])
	}
	return nil
}

// noCommand returns an error for an unknown command below one that has only subcommands.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := fmt.Sprintf("unknown command %q", args[0])
	for cmd.SuggestionsMinimumDistance = 1; cmd.SuggestionsMinimumDistance <= 2; cmd.SuggestionsMinimumDistance++ {
		if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
			text += fmt.Sprintf("; did you mean %q?", like[0])
			break
		}
	}
	return usagef("%s", text)
}

// fromEnvironment sets the flags that were not given from their SNAPSHOTD_* variables. An empty one counts as not set.
func fromEnvironment(fs *pflag.FlagSet, getenv func(string) string, names ...string) error {
	for _, name := range names {
		variable := variableOf(name)
		value := getenv(variable)
		if value == "" || fs.Changed(name) {
			continue
		}
		if err := fs.Set(name, value); err != nil {
			return usagef("%s: %q %s", variable, value, wrongValue(fs.Lookup(name), err))
		}
	}
	return nil
}
