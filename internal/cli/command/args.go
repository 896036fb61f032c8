package command

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/snapshotd/snapshotd/internal/cli/exit"
)

// NoArgs returns an error for any argument.
func NoArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return exit.Usagef("%q is not understood: no arguments are taken", args[0])
	}
	return nil
}

// OneName returns an error unless there is one argument, the name of a snapshot.
func OneName(_ *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return exit.Usagef("NAME is missing: give the name of a snapshot, as list shows it")
	case len(args) > 1:
		return exit.Usagef("%q is not understood: one NAME is taken", args[1])
	}
	return nil
}

// NoCommand returns an error for an unknown command below one that has only subcommands.
func NoCommand(cmd *cobra.Command, args []string) error {
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
	return exit.Usagef("%s", text)
}
