package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/status"

	"github.com/snapshotd/snapshotd/internal/bytesize"
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
the permission to delete is missing. Exits 1 when none could for another reason.`,
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
		return err
	}
	all, shown := resp.GetDecisions(), resp
	if opts.going {
		shown = &snapshotdv1.PruneResponse{Decisions: slices.DeleteFunc(slices.Clone(all), stays), Journal: resp.GetJournal()}
	}
	now := sys.Now()
	err = opts.output.Print(sys.Stdout, shown, func(w io.Writer) error {
		if err := pruneTable(w, shown.GetDecisions(), opts.dryRun, now); err != nil {
			return err
		}
		if err := pruneSums(w, all, opts.dryRun); err != nil {
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

func pruneTable(w io.Writer, decisions []*snapshotdv1.PruneDecision, dry bool, now time.Time) error {
	gone := "removed"
	if dry {
		gone = "would go"
	}
	return output.Columns(w, func(row func(...string)) {
		row("NAME", "BACKEND", "CREATED", "AGE", "SIZE", "VERDICT", "WHY")
		for _, d := range decisions {
			verdict := gone
			switch {
			case d.GetStays() && d.GetError() != nil:
				verdict = "locked"
			case d.GetStays():
				verdict = "stays"
			case d.GetError() != nil:
				verdict = "failed"
			}
			created := d.GetCreateTime().AsTime()
			row(d.GetName(), d.GetBackend(), created.UTC().Format(time.RFC3339), output.Age(now.Sub(created)),
				output.Size(d.GetSizeBytes()), verdict, d.GetWhy())
		}
	})
}

// pruneSum is what retention does with the snapshots of a backend.
type pruneSum struct {
	going, kept, failed                int
	goingBytes, keptBytes, failedBytes int64
}

func (s *pruneSum) add(d *snapshotdv1.PruneDecision) {
	switch {
	case d.GetError() != nil:
		s.failed, s.failedBytes = s.failed+1, s.failedBytes+d.GetSizeBytes()
	case d.GetStays():
		s.kept, s.keptBytes = s.kept+1, s.keptBytes+d.GetSizeBytes()
	default:
		s.going, s.goingBytes = s.going+1, s.goingBytes+d.GetSizeBytes()
	}
}

// pruneSums writes a line for each backend, in the order of the decisions.
func pruneSums(w io.Writer, decisions []*snapshotdv1.PruneDecision, dry bool) error {
	sums, backends := map[string]*pruneSum{}, []string{}
	for _, d := range decisions {
		if sums[d.GetBackend()] == nil {
			sums[d.GetBackend()] = &pruneSum{}
			backends = append(backends, d.GetBackend())
		}
		sums[d.GetBackend()].add(d)
	}
	gone, freed, cannot := "removed", "freed", "could not be removed"
	if dry {
		gone, freed, cannot = "would go", "would be freed", "cannot be removed"
	}
	if len(backends) > 0 {
		fmt.Fprintln(w)
	}
	for _, name := range backends {
		s := sums[name]
		text := fmt.Sprintf("%s: %d %s (%s %s), %d stay (%s)", name, s.going, gone, bytesize.Format(s.goingBytes), freed, s.kept,
			bytesize.Format(s.keptBytes))
		if s.failed > 0 {
			text += fmt.Sprintf(", %d %s (%s)", s.failed, cannot, bytesize.Format(s.failedBytes))
		}
		if _, err := fmt.Fprintln(w, output.Plain(text)); err != nil {
			return err
		}
	}
	return nil
}

// pruneFailed returns an error when a snapshot could not be removed. It is no failure of the whole prune when only the
// permission is missing: retention did all that it may.
func pruneFailed(decisions []*snapshotdv1.PruneDecision) error {
	var why []string
	going, forbidden := 0, 0
	for _, d := range decisions {
		if stays(d) {
			continue
		}
		going++
		if d.GetError() == nil {
			continue
		}
		why = append(why, fmt.Sprintf("\n  %s on %s: %s", d.GetName(), d.GetBackend(), d.GetError().GetMessage()))
		switch wire.DetailsOf(status.ErrorProto(d.GetError())).Reason {
		case snapshot.ReasonObjectLocked, snapshot.ReasonBackendAccessDenied:
			forbidden++
		}
	}
	if len(why) == 0 {
		return nil
	}
	text := fmt.Sprintf("%d of %d snapshots to remove could not be removed", len(why), going)
	if forbidden > 0 {
		text += fmt.Sprintf(", %d of them because it is not allowed (object lock, or access denied)", forbidden)
	}
	text += strings.Join(why, "")
	if len(why) == going && forbidden == 0 {
		return errors.New(text)
	}
	return exit.Partial(text)
}
