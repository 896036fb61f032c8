package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/status"

	"github.com/snapshotd/snapshotd/internal/cli/client"
	"github.com/snapshotd/snapshotd/internal/cli/command"
	"github.com/snapshotd/snapshotd/internal/cli/exit"
	"github.com/snapshotd/snapshotd/internal/cli/output"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

type pruneOptions struct {
	client   client.Options
	output   output.Format
	dryRun   bool
	going    bool
	backends []string
}

func newPrune(sys System) *cobra.Command {
	var opts pruneOptions
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Apply the retention of the backends now",
		Long: `Apply the retention of the backends now, and show for every snapshot on each of them whether it stays
or is removed, and by which rule; then how many of each, and their bytes. The service does so by itself
after each reconcile that succeeds. The newest snapshot on a backend always stays, and a copy stays while
another backend still has to get the snapshot. With --dry-run, it also shows which segments of the journal
the leader removes within the hour, and why.

Exits 3 when some could not be removed, also when it was not allowed: an object lock protects them, or
the permission to delete is missing. Exits 1 when none could for another reason, and when the prune was
ended early; it shows then what had been removed.`,
		Example: `  snapshotd prune --dry-run --only-removed
  snapshotd prune --backend local`,
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withClient(sys, cmd, &opts.client, func(ctx context.Context, c *client.Client) error {
				return runPrune(ctx, sys, opts, c)
			})
		},
	}
	fs := cmd.Flags()
	fs.BoolVar(&opts.dryRun, "dry-run", false, "show which snapshots would be removed, and remove none")
	fs.BoolVar(&opts.going, "only-removed", false, "show only the snapshots that are removed, or would be")
	fs.StringSliceVar(&opts.backends, "backend", nil, "`name` of a backend to prune (default all); may be repeated")
	opts.output.AddFlag(cmd)
	opts.client.AddFlags(fs)
	return cmd
}

func runPrune(ctx context.Context, sys System, opts pruneOptions, c *client.Client) error {
	resp, err := c.Prune(ctx, &snapshotdv1.PruneRequest{
		Cluster: c.Cluster, Backends: opts.backends, ValidateOnly: opts.dryRun,
	})
	if err != nil {
		return endedEarly(sys, opts, err)
	}
	all, shown := resp.GetDecisions(), resp
	if opts.going {
		shown = &snapshotdv1.PruneResponse{Decisions: slices.DeleteFunc(slices.Clone(all), stays), Journal: resp.GetJournal()}
	}
	err = opts.output.Print(sys.Stdout, shown, func(w io.Writer) error {
		if err := output.PruneTable(w, shown.GetDecisions(), opts.dryRun, sys.Now()); err != nil {
			return err
		}
		if err := output.PruneSums(w, all, opts.dryRun); err != nil {
			return err
		}
		return output.JournalRemovals(w, resp.GetJournal())
	})
	if err != nil {
		return err
	}
	return pruneFailed(all)
}

// stays reports whether a rule keeps a snapshot on a backend. One that the bucket's lock keeps does not stay by a rule.
func stays(d *snapshotdv1.PruneDecision) bool { return d.GetStays() && d.GetError() == nil }

// endedEarly shows what came with the error of a prune: the copies that were removed all the same, and those that could
// not be, as far as there was room for them. When nothing could be, it is no failure if only the permission is missing.
func endedEarly(sys System, opts pruneOptions, err error) error {
	resp := wire.DetailsOf(err).Pruned
	if resp == nil {
		return err
	}
	table := func(w io.Writer) error { return output.PruneTable(w, resp.GetDecisions(), opts.dryRun, sys.Now()) }
	if perr := opts.output.Print(sys.Stdout, resp, table); perr != nil {
		return perr
	}
	if slices.ContainsFunc(resp.GetDecisions(), func(d *snapshotdv1.PruneDecision) bool { return d.GetError() == nil }) {
		return err // the prune was ended, and something was removed before
	}
	if slices.ContainsFunc(resp.GetDecisions(), forbidden) {
		return exit.Partial(exit.Message(err))
	}
	return errors.New(exit.Message(err))
}

// forbidden reports whether a snapshot could not be removed because that is not allowed.
func forbidden(d *snapshotdv1.PruneDecision) bool {
	switch wire.DetailsOf(status.ErrorProto(d.GetError())).Reason {
	case snapshot.ReasonObjectLocked, snapshot.ReasonBackendAccessDenied:
		return true
	default:
		return false
	}
}

// pruneFailed returns an error when a snapshot could not be removed. It is no failure of the whole prune when only the
// permission is missing: retention did all that it may.
func pruneFailed(decisions []*snapshotdv1.PruneDecision) error {
	var why []string
	going, denied := 0, 0
	for _, d := range decisions {
		if stays(d) {
			continue
		}
		going++
		if d.GetError() == nil {
			continue
		}
		why = append(why, fmt.Sprintf("\n  %s on %s: %s", d.GetName(), d.GetBackend(), d.GetError().GetMessage()))
		if forbidden(d) {
			denied++
		}
	}
	if len(why) == 0 {
		return nil
	}
	text := fmt.Sprintf("%d of %d snapshots to remove could not be removed", len(why), going)
	if denied > 0 {
		text += fmt.Sprintf(", %d of them because it is not allowed (object lock, or access denied)", denied)
	}
	text += strings.Join(why, "")
	if len(why) == going && denied == 0 {
		return errors.New(text)
	}
	return exit.Partial(text)
}
