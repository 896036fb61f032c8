package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/snapshotd/snapshotd/internal/cli/exit"
)

// noArgs returns an error for any argument.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return exit.Usagef("%q is not understood: no arguments are taken", args[0])
	}
	return nil
}

func oneName(_ *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return exit.Usagef("NAME is missing: give the name of a snapshot, as list shows it")
	case len(args) > 1:
		return exit.Usagef("%q is not understood: one NAME is taken", args[1])
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
	return exit.Usagef("%s", text)
}
