package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/snapshotd/snapshotd/internal/cli/client"
	"github.com/snapshotd/snapshotd/internal/cli/command"
	"github.com/snapshotd/snapshotd/internal/cli/exit"
	"github.com/snapshotd/snapshotd/internal/cli/output"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

type statusOptions struct {
	client client.Options
	given  []string // flags of the connection; those of variables are in the shell anyway
	output output.Format
}

func newStatus(sys System) *cobra.Command {
	var opts statusOptions
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say whether the clusters can be recovered, why not, and what to do",
		Long: `Say whether the clusters can be recovered, why not, and what to do. -o wide shows backends and schedules, too.

Verdicts, with their exit codes: SAFE (0); ATTENTION (3), it can be recovered and something needs attention;
NOT_SAFE (4), it cannot, or not to a recent state; UNKNOWN (1), the catalog cannot be read. Of several clusters,
the worst counts: NOT_SAFE, then UNKNOWN, then ATTENTION.`,
		Example: `  snapshotd status
  snapshotd status --cluster prod -o wide
  snapshotd status -o json | jq -r '.clusters[] | select(.verdict != "VERDICT_SAFE") | .name'`,
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts.given = client.Given(cmd.Flags())
			return withClient(sys, cmd, &opts.client, func(ctx context.Context, c *client.Client) error {
				return runStatus(ctx, sys, opts, c)
			})
		},
	}
	opts.output.AddFlag(cmd)
	opts.client.AddFlags(cmd.Flags())
	return cmd
}

func runStatus(ctx context.Context, sys System, opts statusOptions, c *client.Client) error {
	resp, err := c.Judged(ctx)
	switch {
	case wire.DetailsOf(err).Reason == snapshot.ReasonLimitReached:
		return exit.Failed(err) // the verdict is not known
	case err != nil:
		return err
	}
	reach := output.Reach{Flags: opts.given, Cluster: c.Cluster != "" || len(resp.GetClusters()) > 1}
	err = opts.output.Print(sys.Stdout, resp, func(w io.Writer) error {
		return output.StatusTable(w, resp, reach, opts.output == output.FormatWide)
	})
	if err != nil {
		return err
	}
	return verdictOf(resp.GetClusters())
}

// verdictOf returns the error for the worst of the clusters. That one cannot be recovered is worse than not to know.
func verdictOf(clusters []*snapshotdv1.Cluster) error {
	n := map[snapshotdv1.Cluster_Verdict]int{}
	for _, c := range clusters {
		n[c.GetVerdict()]++
	}
	say := func(n int, what string) string { return fmt.Sprintf("%d of %d clusters %s", n, len(clusters), what) }
	switch {
	case n[snapshotdv1.Cluster_VERDICT_NOT_SAFE] > 0:
		return exit.NotSafe(say(n[snapshotdv1.Cluster_VERDICT_NOT_SAFE], "not safe"))
	case n[snapshotdv1.Cluster_VERDICT_SAFE]+n[snapshotdv1.Cluster_VERDICT_ATTENTION] < len(clusters):
		unknown := len(clusters) - n[snapshotdv1.Cluster_VERDICT_SAFE] - n[snapshotdv1.Cluster_VERDICT_ATTENTION]
		return fmt.Errorf("%s", say(unknown, "not known"))
	case n[snapshotdv1.Cluster_VERDICT_ATTENTION] > 0:
		return exit.Partial(say(n[snapshotdv1.Cluster_VERDICT_ATTENTION], "in need of attention"))
	}
	return nil
}
