package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/snapshotd/snapshotd/internal/cli/client"
	"github.com/snapshotd/snapshotd/internal/cli/command"
	"github.com/snapshotd/snapshotd/internal/cli/exit"
	"github.com/snapshotd/snapshotd/internal/cli/output"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

type reconcileOptions struct {
	client   client.Options
	output   output.Format
	dryRun   bool
	repair   bool
	backends []string
	retire   []string
}

func newReconcile(sys System) *cobra.Command {
	var opts reconcileOptions
	cmd := &cobra.Command{
		Use:   "reconcile",
		Short: "Make the catalog tell the truth about the backends",
		Long: `Make the catalog tell the truth about the backends: list them, add snapshots that the catalog does
not have, correct those that it has differently, and remove those that are gone. The service does so
by itself at start and on an interval. Nothing is forgotten of a backend that cannot be read.

The service itself tries failed uploads again. With --repair, all missing copies are made now: each
snapshot is copied to the chosen backends that do not hold it, also where its copy was removed by
hand or the backend is new. Checksums are verified on the way.

A replica looks at the shared backends and at the directories of its own node (NAME@NODE). The
replicas of the other nodes reconcile theirs. --retire-node is for a node that is gone for ever: the
catalog forgets what its disks held (upload fallback included), also the last copy. No file is touched,
and a node that comes back has its snapshots taken in again. Look at --dry-run first.

Without --cluster, all clusters are reconciled. One that fails does not keep the others from it.

Exits 3 when some backends could not be reconciled, 1 when none could.`,
		Example: `  snapshotd reconcile
  snapshotd reconcile --dry-run --backend s3
  snapshotd reconcile --repair
  snapshotd reconcile --retire-node server-3 --dry-run`,
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withClient(sys, cmd, &opts.client, func(ctx context.Context, c *client.Client) error {
				return runReconcile(ctx, sys, opts, c)
			})
		},
	}
	fs := cmd.Flags()
	fs.BoolVar(&opts.dryRun, "dry-run", false, "show the changes without making them")
	fs.BoolVar(&opts.repair, "repair", false, "copy each snapshot to the backends that do not hold it")
	fs.StringSliceVar(&opts.backends, "backend", nil, "`name` of a backend to look at (default all); may be repeated")
	fs.StringSliceVar(&opts.retire, "retire-node", nil,
		"`name` of a node that is gone for ever, whose own directories are forgotten; may be repeated")
	opts.output.AddFlag(cmd)
	opts.client.AddFlags(fs)
	return cmd
}

func runReconcile(ctx context.Context, sys System, opts reconcileOptions, c *client.Client) error {
	resp, err := c.Reconcile(ctx, &snapshotdv1.ReconcileRequest{
		Cluster: c.Cluster, Backends: opts.backends, ValidateOnly: opts.dryRun, Repair: opts.repair, RetireNodes: opts.retire,
	})
	if err != nil {
		resp = wire.DetailsOf(err).Reconciled
	}
	if reports := resp.GetBackends(); err == nil || len(reports) > 0 {
		table := func(w io.Writer) error { return output.Reconciled(w, resp, opts.dryRun) }
		if perr := opts.output.Print(sys.Stdout, resp, table); perr != nil {
			return perr
		}
	}
	if err != nil {
		return err // it also tells of the records that cannot be read
	}
	warnOfUnreadable(sys, resp.GetUnreadable())
	return reconcileFailed(resp)
}

// reconcileFailed returns an error when a backend, or its journal, could not be reconciled.
func reconcileFailed(resp *snapshotdv1.ReconcileResponse) error {
	reports := resp.GetBackends()
	var why []string
	for _, r := range reports {
		if r.GetError() != nil {
			where := "cluster " + r.GetCluster()
			if r.GetBackend() != "" { // otherwise the cluster failed before its backends were looked at
				where = r.GetBackend() + " of " + where
			}
			why = append(why, fmt.Sprintf("\n  %s: %s", where, r.GetError().GetMessage()))
		}
	}
	journal := journalFailed(resp.GetJournal())
	if len(why) == 0 && journal == "" {
		return nil
	}
	if len(why) == 0 {
		return exit.Partial("the snapshots were reconciled; " + journal)
	}
	text := fmt.Sprintf("%d of %d backends could not be reconciled; nothing that they hold was forgotten",
		len(why), len(reports)) + strings.Join(why, "")
	if journal != "" {
		text += "\n" + journal
	}
	if len(why) == len(reports) {
		return errors.New(text)
	}
	return exit.Partial(text)
}

// journalFailed says which backends could not be compared or repaired by their journal, and why; empty when all could.
func journalFailed(all []*snapshotdv1.JournalReconciliation) string {
	var why []string
	for _, j := range all {
		if j.GetError() != nil {
			why = append(why, fmt.Sprintf("\n  %s of cluster %s: %s", j.GetBackend(), j.GetCluster(), j.GetError().GetMessage()))
		}
	}
	if len(why) == 0 {
		return ""
	}
	return fmt.Sprintf("the journal on %d of %d backends could not be compared or repaired", len(why), len(all)) +
		strings.Join(why, "")
}
