package cli

import (
	"cmp"
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/snapshotd/snapshotd/internal/cli/client"
	"github.com/snapshotd/snapshotd/internal/cli/command"
	"github.com/snapshotd/snapshotd/internal/cli/exit"
	"github.com/snapshotd/snapshotd/internal/cli/output"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

func newWindow(sys System) *cobra.Command {
	var conn client.Options
	var format output.Format
	cmd := &cobra.Command{
		Use:   "window",
		Short: "Show the revisions and times to which a cluster can be restored",
		Long: `Show the revisions and times to which a cluster can be restored, what is lost between them and why, and how
old the newest moment is that could be restored now. The service lists the journal on all backends.

-o wide adds the revisions that each snapshot holds by itself, and what is only estimated.

Exit codes: 0 all was read, 3 a backend or a manifest could not be read, 1 none of the journal could.`,
		Example: `  snapshotd window
  snapshotd window --cluster prod -o json | jq '.window.gaps'`,
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withClient(sys, cmd, &conn, func(ctx context.Context, c *client.Client) error {
				resp, err := c.GetRecoveryWindow(ctx, &snapshotdv1.GetRecoveryWindowRequest{Cluster: c.Cluster})
				if err != nil {
					return err
				}
				show := func(w io.Writer) error { return output.WindowTable(w, resp, format == output.FormatWide) }
				return cmp.Or(format.Print(sys.Stdout, resp, show), exit.Unread(resp.GetWindow()))
			})
		},
	}
	format.AddFlag(cmd)
	conn.AddFlags(cmd.Flags())
	return cmd
}
