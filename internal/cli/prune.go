package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/snapshotd/snapshotd/internal/cli/client"
	"github.com/snapshotd/snapshotd/internal/cli/exit"
	"github.com/snapshotd/snapshotd/internal/cli/output"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

type pruneOptions struct {
	client   client.Options
	output   output.Format
	dryRun   bool
	backends []string
}

func newPrune(sys System) *cobra.Command {
	var opts pruneOptions
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Apply the retention of the backends now",
		Long: `Apply the retention of the backends now, and show for every snapshot on each of them whether it stays
or is removed, and by which rule. The service does so by itself after each reconcile that succeeds.
The newest snapshot on a backend always stays.

Exits 3 when some could not be removed, 1 when none could.`,
		Example: `  snapshotd prune --dry-run
  snapshotd prune --backend local`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withClient(sys, cmd, &opts.client, func(ctx context.Context, c *client.Client) error {
				return runPrune(ctx, sys, opts, c)
			})
		},
	}
	fs := cmd.Flags()
	fs.BoolVar(&opts.dryRun, "dry-run", false, "show which snapshots would be removed, and remove none")
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
		return err
	}
	now := sys.Now()
	err = opts.output.Print(sys.Stdout, resp,
		func(w io.Writer) error { return pruneTable(w, resp.GetDecisions(), opts.dryRun, now) })
	if err != nil {
		return err
	}
	return pruneFailed(resp.GetDecisions())
}

func pruneTable(w io.Writer, decisions []*snapshotdv1.PruneDecision, dry bool, now time.Time) error {
	gone := "removed"
	if dry {
		gone = "would go"
	}
	return output.Columns(w, func(row func(...string)) {
		row("NAME", "BACKEND", "AGE", "SIZE", "VERDICT", "WHY")
		for _, d := range decisions {
			verdict := gone
			switch {
			case d.GetStays():
				verdict = "stays"
			case d.GetError() != nil:
				verdict = "failed"
			}
			row(d.GetName(), d.GetBackend(), output.Age(now.Sub(d.GetCreateTime().AsTime())), output.Size(d.GetSizeBytes()),
				verdict, d.GetWhy())
		}
	})
}

// pruneFailed returns an error when a snapshot could not be removed.
func pruneFailed(decisions []*snapshotdv1.PruneDecision) error {
	var why []string
	going := 0
	for _, d := range decisions {
		if !d.GetStays() {
			going++
		}
		if d.GetError() != nil {
			why = append(why, fmt.Sprintf("\n  %s on %s: %s", d.GetName(), d.GetBackend(), d.GetError().GetMessage()))
		}
	}
	if len(why) == 0 {
		return nil
	}
	text := fmt.Sprintf("%d of %d snapshots to remove could not be removed", len(why), going) + strings.Join(why, "")
	if len(why) == going {
		return errors.New(text)
	}
	return exit.Partial(text)
}
