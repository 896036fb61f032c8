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

type getOptions struct {
	client client.Options
	output output.Format
}

func newGet(sys System) *cobra.Command {
	var opts getOptions
	cmd := &cobra.Command{
		Use:   "get (NAME | latest)",
		Short: "Show all there is to know of one snapshot",
		Long:  `Show all there is to know of one snapshot. "latest" is the newest that is whole on any backend.`,
		Example: `  snapshotd get latest
  snapshotd get on-demand-node1-1784300400 -o json | jq -r .snapshot.sha256`,
		Args:              command.OneName,
		ValidArgsFunction: completeName(sys, client.LatestOffered),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withClient(sys, cmd, &opts.client, func(ctx context.Context, c *client.Client) error {
				return runGet(ctx, sys, opts, c, args[0])
			})
		},
	}
	opts.output.AddFlag(cmd)
	opts.client.AddFlags(cmd.Flags())
	return cmd
}

func runGet(ctx context.Context, sys System, opts getOptions, c *client.Client, name string) error {
	name, err := resolve(ctx, sys, c, name, "")
	if err != nil {
		return err
	}
	resp, err := c.Get(ctx, &snapshotdv1.GetRequest{Cluster: c.Cluster, Name: name})
	if err != nil {
		return err
	}
	if resp.GetSnapshot() == nil {
		return client.ErrNoResult
	}
	return opts.output.Print(sys.Stdout, resp,
		func(w io.Writer) error { return output.GetTable(w, resp.GetSnapshot(), sys.Now()) })
}
