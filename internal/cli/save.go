package cli

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/snapshotd/snapshotd/internal/cli/client"
	"github.com/snapshotd/snapshotd/internal/cli/command"
	"github.com/snapshotd/snapshotd/internal/cli/exit"
	"github.com/snapshotd/snapshotd/internal/cli/flagvalue"
	"github.com/snapshotd/snapshotd/internal/cli/output"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

type saveOptions struct {
	client     client.Options
	output     output.Format
	namePrefix string
	labels     []string
	backends   []string
}

func newSave(sys System) *cobra.Command {
	var opts saveOptions
	cmd := &cobra.Command{
		Use:   "save",
		Short: "Take a snapshot now",
		Long: `Take a snapshot now, and return when every backend holds it durably or has failed.

Exits 3 when some backends failed and others hold it, 1 when it was stored nowhere, and 5 when
another save of the cluster is running.`,
		Example: `  snapshotd save
  snapshotd save --name-prefix before-upgrade --label release=v1.2
  snapshotd save --backend s3 -o json | jq -r .snapshot.name`,
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withClient(sys, cmd, &opts.client, func(ctx context.Context, c *client.Client) error {
				return runSave(ctx, sys, opts, c)
			})
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&opts.namePrefix, "name-prefix", "", "first `part` of the snapshot's name (default \"on-demand\")")
	fs.StringArrayVar(&opts.labels, "label", nil, "label to keep with the snapshot (`key=value`); may be repeated")
	fs.StringSliceVar(&opts.backends, "backend", nil, "`name` of a backend to save to (default all); may be repeated")
	opts.output.AddFlag(cmd)
	opts.client.AddFlags(fs)
	return cmd
}

func runSave(ctx context.Context, sys System, opts saveOptions, c *client.Client) error {
	labels, err := flagvalue.Labels(opts.labels)
	if err != nil {
		return err
	}
	req := &snapshotdv1.SaveRequest{
		Cluster:    c.Cluster,
		NamePrefix: opts.namePrefix,
		Labels:     labels,
		Backends:   opts.backends,
		RequestId:  rand.Text(),
	}
	stop := showProgress(ctx, sys.Stderr, c, req)
	resp, err := c.Save(ctx, req)
	stop()
	if err != nil {
		return saveFailed(sys, opts, err)
	}
	if resp.GetSnapshot() == nil {
		return client.ErrNoResult
	}
	for _, w := range resp.GetWarnings() {
		fmt.Fprintf(sys.Stderr, "warning: %s\n", output.Plain(w))
	}
	return opts.print(sys, resp)
}

func (o *saveOptions) print(sys System, resp *snapshotdv1.SaveResponse) error {
	return o.output.Print(sys.Stdout, resp, func(w io.Writer) error {
		return output.ListTable(w, []*snapshotdv1.Snapshot{resp.GetSnapshot()}, sys.Now(), o.output == output.FormatWide)
	})
}

// saveFailed prints the copies that exist in spite of the error, and returns an error with the state of each backend.
func saveFailed(sys System, opts saveOptions, err error) error {
	s := wire.DetailsOf(err).Snapshot
	if s == nil {
		return err
	}
	if perr := opts.print(sys, &snapshotdv1.SaveResponse{Snapshot: s}); perr != nil {
		return perr
	}
	if s.GetState() != snapshotdv1.Snapshot_STATE_PARTIAL {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "snapshot %s is %s: not every backend has it", s.GetName(), output.State(s.GetState()))
	for _, l := range s.GetLocations() {
		if l.GetState() == snapshotdv1.Snapshot_STATE_READY {
			fmt.Fprintf(&b, "\n  %s: READY, %s at %s", l.GetBackend(), output.Size(l.GetSizeBytes()), output.OrDash(l.GetUri()))
		} else {
			fmt.Fprintf(&b, "\n  %s: %s: %s", l.GetBackend(), output.State(l.GetState()), output.OrDash(l.GetError()))
		}
	}
	return exit.Partial(b.String())
}

// showProgress draws the progress of a save until the returned function is called. It draws nothing where w is no
// terminal, and stops when the events end: a save does not need a watcher.
func showProgress(ctx context.Context, w io.Writer, c *client.Client, req *snapshotdv1.SaveRequest) (stop func()) {
	line, ok := output.NewStatusLine(w)
	if !ok {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		stream, err := c.Watch(ctx, &snapshotdv1.WatchRequest{Cluster: req.GetCluster(), RequestId: req.GetRequestId()})
		if err != nil {
			return
		}
		line.ShowSave(stream.Recv)
	})
	return func() {
		cancel()
		wg.Wait()
	}
}
