package cli

import (
	"context"
	"fmt"
	"io"
	"maps"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/snapshotd/snapshotd/internal/cli/client"
	"github.com/snapshotd/snapshotd/internal/cli/command"
	"github.com/snapshotd/snapshotd/internal/cli/exit"
	"github.com/snapshotd/snapshotd/internal/cli/flagvalue"
	"github.com/snapshotd/snapshotd/internal/cli/output"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

type updateOptions struct {
	client client.Options
	output output.Format
	labels []string
	remove []string
	pin    bool
	unpin  bool
}

func newUpdate(sys System) *cobra.Command {
	var opts updateOptions
	cmd := &cobra.Command{
		Use:   "update (NAME | latest)",
		Short: "Change a snapshot's labels, or pin it",
		Long: `Change a snapshot's labels, or pin it: retention leaves a pinned snapshot alone, and delete refuses
it.

Exits 3 when the catalog has the change and some backends have not: the same command again writes it
there; for a directory of another node, give --addr of its replica. Exits 5 when it was changed
meanwhile or is being saved, and 6 when there is no such snapshot.`,
		Example: `  snapshotd update latest --pin
  snapshotd update on-demand-node1-1784300400 --pin --label reason=before-upgrade
  snapshotd update on-demand-node1-1784300400 --unpin --remove-label reason`,
		Args:              command.OneName,
		ValidArgsFunction: completeName(sys, client.LatestOffered),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withClient(sys, cmd, &opts.client, func(ctx context.Context, c *client.Client) error {
				return runUpdate(ctx, sys, opts, c, args[0])
			})
		},
	}
	fs := cmd.Flags()
	fs.StringArrayVar(&opts.labels, "label", nil, "set this label (`key=value`); may be repeated")
	fs.StringArrayVar(&opts.remove, "remove-label", nil, "remove the label of this `key`; may be repeated")
	fs.BoolVar(&opts.pin, "pin", false, "exempt it from retention, and refuse to delete it")
	fs.BoolVar(&opts.unpin, "unpin", false, "apply retention to it again")
	opts.output.AddFlag(cmd)
	opts.client.AddFlags(fs)
	return cmd
}

func runUpdate(ctx context.Context, sys System, opts updateOptions, c *client.Client, name string) error {
	labels, err := flagvalue.Labels(opts.labels)
	switch {
	case err != nil:
		return err
	case opts.pin && opts.unpin:
		return exit.Usagef("--unpin: --pin is given, too; leave out one of them")
	case !opts.pin && !opts.unpin && len(opts.labels)+len(opts.remove) == 0:
		return exit.Usagef("nothing to change is given: --label, --remove-label, --pin or --unpin")
	}
	if name, err = resolve(ctx, sys, c, name, ""); err != nil {
		return err
	}
	// Labels are replaced as a whole, so the current ones are read first; the etag makes sure that these are replaced.
	current, err := c.Get(ctx, &snapshotdv1.GetRequest{Cluster: c.Cluster, Name: name})
	if err != nil {
		return err
	}
	want := &snapshotdv1.Snapshot{
		Cluster: c.Cluster, Name: name, Etag: current.GetSnapshot().GetEtag(), Labels: map[string]string{}, Pinned: opts.pin,
	}
	maps.Copy(want.Labels, current.GetSnapshot().GetLabels())
	for _, key := range opts.remove {
		delete(want.Labels, key)
	}
	maps.Copy(want.Labels, labels)
	mask := &fieldmaskpb.FieldMask{}
	if len(opts.labels)+len(opts.remove) > 0 {
		mask.Paths = append(mask.Paths, "labels")
	}
	if opts.pin || opts.unpin {
		mask.Paths = append(mask.Paths, "pinned")
	}
	resp, err := c.Update(ctx, &snapshotdv1.UpdateRequest{Snapshot: want, UpdateMask: mask})
	if err != nil {
		return updateFailed(sys, opts, name, err)
	}
	return opts.print(sys, resp)
}

func (o *updateOptions) print(sys System, resp *snapshotdv1.UpdateResponse) error {
	return o.output.Print(sys.Stdout, resp,
		func(w io.Writer) error { return output.GetTable(w, resp.GetSnapshot(), sys.Now()) })
}

// updateFailed prints the snapshot whose change is in the catalog and not on every backend, and returns an error that
// says so. An error from before anything was changed is returned as it is.
func updateFailed(sys System, opts updateOptions, name string, err error) error {
	d := wire.DetailsOf(err)
	switch {
	case d.Reason == snapshot.ReasonEtagMismatch: // the etag is ours, and the user has not given one
		return exit.Busy(name + " was changed meanwhile, and this change was not made; look at it again, and decide anew")
	case d.Snapshot == nil:
		return err
	}
	if perr := opts.print(sys, &snapshotdv1.UpdateResponse{Snapshot: d.Snapshot}); perr != nil {
		return perr
	}
	again := "the same command again writes what is missing"
	if d.Reason == snapshot.ReasonBackendOnOtherNode {
		again = "the same command to the replica there (--addr) writes what is missing"
	}
	return exit.Partial(fmt.Sprintf("the catalog has the change of %s, and not every backend: %s\n  %s",
		name, exit.Message(err), again))
}
