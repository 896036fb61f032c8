package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"

	"github.com/snapshotd/snapshotd/internal/cli/client"
	"github.com/snapshotd/snapshotd/internal/cli/command"
	"github.com/snapshotd/snapshotd/internal/cli/exit"
	"github.com/snapshotd/snapshotd/internal/cli/output"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
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
has it any more. A copy that a bucket's object lock protects is refused. There is no question first.

Exits 3 when it is gone from some backends and not from others, 1 when it is gone from none, 5 when it
was changed meanwhile or is being saved, and 6 when there is no such snapshot. A copy whose removal could
not begin, such as one on a backend that does not answer, stays until it is deleted again. Reconcile
goes on with a removal that has begun.`,
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
	before, err := c.Get(ctx, &snapshotdv1.GetRequest{Cluster: c.Cluster, Name: name})
	if name == client.Latest && exit.Status(err) == codes.NotFound {
		return exit.Usagef("latest is not allowed here: give the NAME of the snapshot to remove, as list shows it")
	}
	if err != nil {
		return err
	}
	resp, err := c.Delete(ctx, &snapshotdv1.DeleteRequest{
		Cluster: c.Cluster, Name: name, Backends: opts.backends, Etag: opts.etag,
	})
	if err != nil {
		return deleteFailed(sys, opts, before.GetSnapshot(), err)
	}
	return opts.print(sys, resp, name)
}

func (o *deleteOptions) print(sys System, resp *snapshotdv1.DeleteResponse, name string) error {
	return o.output.Print(sys.Stdout, resp, func(w io.Writer) error {
		if left := resp.GetSnapshot(); left != nil {
			return output.GetTable(w, left, sys.Now())
		}
		_, err := fmt.Fprintf(w, "%s is deleted\n", name)
		return err
	})
}

// deleteFailed prints what is left of a snapshot that was removed in part, and returns an error that names the copies.
// An error from before anything was removed is returned as it is.
func deleteFailed(sys System, opts deleteOptions, before *snapshotdv1.Snapshot, err error) error {
	d := wire.DetailsOf(err)
	if d.Snapshot == nil || d.Reason == snapshot.ReasonConflict {
		return err // on a conflict, the catalog may have another state of it
	}
	text, begun := opts.left(d.Snapshot.GetLocations())
	var gone []string
	for _, l := range before.GetLocations() {
		same := func(other *snapshotdv1.Location) bool { return other.GetBackend() == l.GetBackend() }
		if !slices.ContainsFunc(d.Snapshot.GetLocations(), same) {
			gone = append(gone, l.GetBackend())
		}
	}
	if len(gone) == 0 && !begun {
		return err
	}
	if perr := opts.print(sys, &snapshotdv1.DeleteResponse{Snapshot: d.Snapshot}, before.GetName()); perr != nil {
		return perr
	}
	switch {
	case len(gone) > 0:
	case d.Reason == snapshot.ReasonEtagMismatch: // which has an exit code of its own
		return err
	default:
		return errors.New(exit.Message(err) + text)
	}
	return exit.Partial(fmt.Sprintf("%s is gone from %s, and not from every backend: %s%s",
		before.GetName(), snapshot.Join(gone), exit.Message(err), text))
}

// left says what becomes of the copies that were to go and are there, and whether the removal of one has begun.
func (o *deleteOptions) left(locations []*snapshotdv1.Location) (text string, begun bool) {
	for _, l := range locations {
		switch {
		case !snapshot.IsChosen(l.GetBackend(), o.backends):
		case l.GetState() == snapshotdv1.Snapshot_STATE_DELETING:
			begun = true
			text += fmt.Sprintf("\n  %s: DELETING, and reconcile goes on with it: %s",
				l.GetBackend(), output.OrDash(l.GetError()))
		default:
			text += fmt.Sprintf("\n  %s: %s as before; its removal has not begun: delete it again",
				l.GetBackend(), output.State(l.GetState()))
		}
	}
	return text, begun
}
