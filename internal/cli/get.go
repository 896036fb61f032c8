package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

type getOptions struct {
	client clientOptions
	output format
}

func newGet(sys System) *cobra.Command {
	var opts getOptions
	cmd := &cobra.Command{
		Use:   "get (NAME | latest)",
		Short: "Show all there is to know of one snapshot",
		Long:  `Show all there is to know of one snapshot. "latest" is the newest that is whole on any backend.`,
		Example: `  snapshotd get latest
  snapshotd get on-demand-node1-1784300400 -o json | jq -r .snapshot.sha256`,
		Args:              oneName,
		ValidArgsFunction: completeName(sys, latestOffered),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withClient(sys, cmd, &opts.client, func(ctx context.Context, c *client) error {
				return runGet(ctx, sys, opts, c, args[0])
			})
		},
	}
	opts.output.addFlag(cmd)
	opts.client.addFlags(cmd.Flags())
	return cmd
}

func runGet(ctx context.Context, sys System, opts getOptions, c *client, name string) error {
	name, err := c.resolve(ctx, name, "")
	if err != nil {
		return err
	}
	resp, err := c.Get(ctx, &snapshotdv1.GetRequest{Cluster: c.cluster, Name: name})
	if err != nil {
		return err
	}
	if resp.GetSnapshot() == nil {
		return errNoResult
	}
	return opts.output.print(sys.Stdout, resp,
		func(w io.Writer) error { return getTable(w, resp.GetSnapshot(), sys.Now()) })
}
