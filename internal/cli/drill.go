package cli

import (
	"github.com/spf13/cobra"

	"github.com/snapshotd/snapshotd/internal/etcd/drill"
)

// newDrillMember is the process of a drill, which restores a snapshot; the service starts it.
func newDrillMember(sys System) *cobra.Command {
	return &cobra.Command{
		Use:    drill.Verb + " FILE DIRECTORY REVISION",
		Short:  "Restore a snapshot into a throw-away etcd and report its content",
		Hidden: true,
		Args:   cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			return drill.Main(cmd.Context(), args, sys.Stdout)
		},
	}
}
