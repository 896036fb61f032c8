package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"

	"github.com/snapshotd/snapshotd/internal/cli/client"
	"github.com/snapshotd/snapshotd/internal/cli/command"
	"github.com/snapshotd/snapshotd/internal/cli/exit"
	"github.com/snapshotd/snapshotd/internal/cli/output"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

type deleteOptions struct {
	client   client.Options
	output   output.Format
	backends []string
	etag     string
}

func newDelete(sys System) *cobra.Command {
	var opts deleteOptions
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Remove a snapshot from its backends, for good",
		Long: `Remove a snapshot from its backends, for good: its manifest, its data, and its record when no backend
has it any more. A copy that a bucket's object lock protects is refused. There is no question first.`,
		Example: `  snapshotd delete on-demand-node1-1784300400
  snapshotd delete on-demand-node1-1784300400 --backend local`,
		Args:              command.OneName,
		ValidArgsFunction: completeName(sys),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withClient(sys, cmd, &opts.client, func(ctx context.Context, c *client.Client) error {
				return runDelete(ctx, sys, opts, c, args[0])
			})
		},
	}
	fs := cmd.Flags()
	fs.StringSliceVar(&opts.backends, "backend", nil,
		"`name` of a backend to remove it from (default all that have it); may be repeated")
	fs.StringVar(&opts.etag, "etag", "", "remove it only if this is still its `etag`, as get -o json shows it")
	opts.output.AddFlag(cmd)
	opts.client.AddFlags(fs)
	return cmd
}

func runDelete(ctx context.Context, sys System, opts deleteOptions, c *client.Client, name string) error {
	resp, err := c.Delete(ctx, &snapshotdv1.DeleteRequest{
		Cluster: c.Cluster, Name: name, Backends: opts.backends, Etag: opts.etag,
	})
	if name == client.Latest && exit.Status(err) == codes.NotFound {
		return exit.Usagef("latest is not allowed here: give the NAME of the snapshot to remove, as list shows it")
	}
	if err != nil {
		return err
	}
	return opts.output.Print(sys.Stdout, resp, func(w io.Writer) error {
		if left := resp.GetSnapshot(); left != nil {
			return output.GetTable(w, left, sys.Now())
		}
		_, err := fmt.Fprintf(w, "%s is deleted\n", name)
		return err
	})
}
