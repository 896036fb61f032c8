package cli

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/snapshotd/snapshotd/internal/cli/client"
	"github.com/snapshotd/snapshotd/internal/cli/command"
	"github.com/snapshotd/snapshotd/internal/cli/output"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

func newWhoAmI(sys System) *cobra.Command {
	var opts client.Options
	var format output.Format
	cmd := &cobra.Command{
		Use:     "whoami",
		Short:   "Show as whom the service knows you, and your roles",
		Example: `  snapshotd whoami --token-file ci.token`,
		Args:    command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withClient(sys, cmd, &opts, func(ctx context.Context, c *client.Client) error {
				resp, err := c.WhoAmI(ctx, &snapshotdv1.WhoAmIRequest{})
				if err != nil {
					return err
				}
				return format.Print(sys.Stdout, resp, func(w io.Writer) error { return whoAmITable(w, resp) })
			})
		},
	}
	format.AddFlag(cmd)
	opts.AddFlags(cmd.Flags())
	return cmd
}

func whoAmITable(w io.Writer, me *snapshotdv1.WhoAmIResponse) error {
	return output.Columns(w, func(row func(...string)) {
		row("kind", me.GetKind())
		row("name", output.OrDash(output.Plain(me.GetName())))
		if me.GetExpireTime() != nil {
			row("expires", me.GetExpireTime().AsTime().Format(time.RFC3339))
		}
		if len(me.GetClusters()) == 0 {
			row("roles", "none")
		}
		for _, c := range me.GetClusters() {
			row("role", strings.ToLower(strings.TrimPrefix(c.GetRole().String(), "ROLE_"))+" on "+c.GetCluster())
		}
	})
}
