package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/snapshotd/snapshotd/internal/cli/client"
	"github.com/snapshotd/snapshotd/internal/cli/command"
	"github.com/snapshotd/snapshotd/internal/cli/output"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

type windowOptions struct {
	client client.Options
	output output.Format
}

func newWindow(sys System) *cobra.Command {
	var opts windowOptions
	cmd := &cobra.Command{
		Use:   "window",
		Short: "Show the revisions and times to which a cluster can be restored",
		Long: `Show the revisions and times to which a cluster can be restored, what is lost between them and why, and how
old the newest moment is that could be restored now. The service lists the journal on all backends.

-o wide adds the revisions that each snapshot holds by itself, and what is only estimated.`,
		Example: `  snapshotd window
  snapshotd window --cluster prod -o json | jq '.window.gaps'`,
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withClient(sys, cmd, &opts.client, func(ctx context.Context, c *client.Client) error {
				resp, err := c.GetRecoveryWindow(ctx, &snapshotdv1.GetRecoveryWindowRequest{Cluster: c.Cluster})
				if err != nil {
					return err
				}
				return opts.output.Print(sys.Stdout, resp, func(w io.Writer) error {
					return output.WindowTable(w, resp, opts.output == output.FormatWide)
				})
			})
		},
	}
	opts.output.AddFlag(cmd)
	opts.client.AddFlags(cmd.Flags())
	return cmd
}
