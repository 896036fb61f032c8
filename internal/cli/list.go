package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/snapshotd/snapshotd/internal/cli/client"
	"github.com/snapshotd/snapshotd/internal/cli/command"
	"github.com/snapshotd/snapshotd/internal/cli/exit"
	"github.com/snapshotd/snapshotd/internal/cli/flagvalue"
	"github.com/snapshotd/snapshotd/internal/cli/from"
	"github.com/snapshotd/snapshotd/internal/cli/output"
	"github.com/snapshotd/snapshotd/internal/restore"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

type listOptions struct {
	client  client.Options
	output  output.Format
	states  []string
	backend string
	labels  []string
	since   string
	until   string
	limit   int
	from    string
}

func newList(sys System) *cobra.Command {
	var opts listOptions
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List snapshots, newest first",
		Long: `List the snapshots that a service knows, newest first.

PINNED snapshots are left alone by retention; PROVEN is how long ago a drill restored it and passed.

With --from, list the snapshots in a directory or a bucket, which is all that is needed: no service, no
catalog. Then READY means no more than the column CHECKED says: the manifest was read, the size of the
data compared with it, and its first bytes looked at. No checksum is compared: verify --from does that.
Snapshots that are damaged or cannot be read are named on standard error; with one that cannot be read,
which may be whole, the exit code is 1.`,
		Example: `  snapshotd list
  snapshotd list --state partial,failed --since 7d
  snapshotd list --label release=v1.2 --limit 1 -o json
  snapshotd list -o wide
  snapshotd list --from file:///var/backups/etcd`,
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("from") { // an empty one, of a variable that is not set, must not ask the service
				return runListFrom(cmd, sys, &opts)
			}
			return withClient(sys, cmd, &opts.client, func(ctx context.Context, c *client.Client) error {
				return runList(ctx, sys, opts, c)
			})
		},
	}
	fs := cmd.Flags()
	fs.StringSliceVar(&opts.states, "state", nil,
		"only those in this `state`: saving, ready, partial, failed or deleting; may be repeated")
	fs.StringVar(&opts.backend, "backend", "", "only those with a location on this backend (`name`)")
	fs.StringArrayVar(&opts.labels, "label", nil, "only those with this label (`key=value`); may be repeated")
	fs.StringVar(&opts.since, "since", "",
		"only those created since this `time`: 2026-07-15T12:00:00Z, 2026-07-15, or as an age, 36h or 7d")
	fs.StringVar(&opts.until, "until", "", "only those created before this `time`")
	fs.IntVar(&opts.limit, "limit", 0, "at most this `number` of them (default all)")
	fs.StringVar(&opts.from, "from", "",
		"`url` of a directory or bucket to list instead; its cluster is \"default\" unless --cluster is given")
	from.AddPrefix(fs, "with --from: ")
	opts.output.AddFlag(cmd)
	opts.client.AddFlags(fs)
	return cmd
}

func runList(ctx context.Context, sys System, opts listOptions, c *client.Client) error {
	req, err := opts.request(sys.Now())
	if err != nil {
		return err
	}
	req.Cluster = c.Cluster
	resp, err := c.ListAll(ctx, req, opts.limit)
	if err != nil {
		return err
	}
	warnOfUnreadable(sys, resp.GetUnreadable())
	warnOfAlarms(sys, resp.GetSnapshots())
	return opts.output.Print(sys.Stdout, resp, func(w io.Writer) error {
		return output.ListTable(w, resp.GetSnapshots(), sys.Now(), opts.output == output.FormatWide)
	})
}

// warnOfUnreadable names the records of the catalog that are left out, and how to mend them.
func warnOfUnreadable(sys System, records []*snapshotdv1.UnreadableRecord) {
	for _, r := range records {
		fmt.Fprintf(sys.Stderr, "warning: left out: %s\n", output.Plain(r.GetError()))
	}
}

// runListFrom lists a directory or bucket.
func runListFrom(cmd *cobra.Command, sys System, opts *listOptions) error {
	if err := flagvalue.FromEnvironment(cmd.Flags(), sys.Getenv, "cluster", "output"); err != nil {
		return err
	}
	for _, name := range []string{"state", "backend", "label", "since", "until"} {
		if cmd.Flags().Changed(name) {
			return exit.Usagef("--%s: it is for the list of a service and not for --from; leave it out", name)
		}
	}
	if opts.limit < 0 {
		return exit.Usagef("--limit: %d is negative; 0 means all", opts.limit)
	}
	at := from.Of(cmd.Flags(), []string{opts.from}, nil)
	repos, err := at.Open()
	if err != nil {
		return err
	}
	found, err := restore.List(cmd.Context(), repos[0], opts.limit)
	if err != nil {
		return at.Explain(cmd.Context(), err)
	}
	stderr := output.PlainLines(sys.Stderr)
	for _, why := range found.Damaged {
		fmt.Fprintf(stderr, "warning: left out: %v\n", why)
	}
	for _, why := range found.Unread {
		fmt.Fprintf(stderr, "warning: not read: %v\n", why)
	}
	resp := &snapshotdv1.ListResponse{}
	for _, s := range found.Whole {
		resp.Snapshots = append(resp.Snapshots, wire.SnapshotToProto(&s.Snapshot))
	}
	if len(found.Whole)+len(found.Damaged)+len(found.Unread) == 0 {
		fmt.Fprintf(stderr, "there are no snapshots in %s; %s\n", repos[0].URI(""), at.Others(cmd.Context()))
	}
	warnOfAlarms(sys, resp.GetSnapshots())
	err = opts.output.Print(sys.Stdout, resp, func(w io.Writer) error {
		return output.PlaceTable(w, resp.GetSnapshots(), sys.Now(), opts.output == output.FormatWide)
	})
	if err == nil && len(found.Unread) > 0 {
		err = fmt.Errorf("the list of %s is not complete: what was not read may be whole, and newer than the others",
			repos[0].URI(""))
	}
	return err
}

func warnOfAlarms(sys System, snapshots []*snapshotdv1.Snapshot) {
	if note := output.AlarmNote(snapshots); note != "" {
		fmt.Fprintln(output.PlainLines(sys.Stderr), "warning:", note)
	}
}

func (o *listOptions) request(now time.Time) (*snapshotdv1.ListRequest, error) {
	if o.limit < 0 {
		return nil, exit.Usagef("--limit: %d is negative; 0 means all", o.limit)
	}
	req := &snapshotdv1.ListRequest{Backend: o.backend}
	var err error
	if req.Labels, err = flagvalue.Labels(o.labels); err != nil {
		return nil, err
	}
	for _, s := range o.states {
		v, ok := snapshotdv1.Snapshot_State_value["STATE_"+strings.TrimPrefix(strings.ToUpper(s), "STATE_")]
		if !ok || v == 0 {
			return nil, exit.Usagef("--state: %q is not one of saving, ready, partial, failed and deleting", s)
		}
		req.States = append(req.States, snapshotdv1.Snapshot_State(v))
	}
	if req.CreateTimeFrom, err = flagvalue.Time("--since", o.since, now); err != nil {
		return nil, err
	}
	req.CreateTimeUntil, err = flagvalue.Time("--until", o.until, now)
	return req, err
}
