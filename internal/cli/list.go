package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/snapshotd/snapshotd/internal/restore"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

const (
	listPage     = 500 // snapshots per request
	listAttempts = 3   // how often a listing begins again because its revision was compacted meanwhile
)

type listOptions struct {
	client  clientOptions
	output  format
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

With --from, list the snapshots in a directory or a bucket, which is all that is needed: no service, no
catalog. Then READY means that manifest and data are there and have the right size; the bytes are not read.`,
		Example: `  snapshotd list
  snapshotd list --state partial,failed --since 7d
  snapshotd list --label release=v1.2 --limit 1 -o json
  snapshotd list --from file:///var/backups/etcd`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.from != "" {
				return runListFrom(cmd, sys, &opts)
			}
			return withClient(sys, cmd, &opts.client, func(ctx context.Context, c *client) error {
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
	fs.StringVar(&opts.from, "from", "", "`url` of a directory or bucket to list instead, as in the configuration")
	fs.String("prefix", "", "with --from: `prefix` of the cluster's keys there, empty for none (default the cluster's "+
		"name and '/')")
	opts.output.addFlag(cmd)
	opts.client.addFlags(fs)
	return cmd
}

func runList(ctx context.Context, sys System, opts listOptions, c *client) error {
	req, err := opts.request(sys.Now())
	if err != nil {
		return err
	}
	req.Cluster = c.cluster
	snapshots, err := listAll(ctx, c, req, opts.limit)
	if err != nil {
		return err
	}
	resp := &snapshotdv1.ListResponse{Snapshots: snapshots}
	return opts.output.print(sys.Stdout, resp, func(w io.Writer) error { return listTable(w, snapshots, sys.Now()) })
}

// runListFrom lists a directory or bucket.
func runListFrom(cmd *cobra.Command, sys System, opts *listOptions) error {
	if err := fromEnvironment(cmd.Flags(), sys.Getenv, "cluster", "output"); err != nil {
		return err
	}
	for _, flag := range []string{"state", "backend", "label", "since", "until"} {
		if cmd.Flags().Changed(flag) {
			return usagef("--%s: it is for the list of a service and not for --from; leave it out", flag)
		}
	}
	if opts.limit < 0 {
		return usagef("--limit: %d is negative; 0 means all", opts.limit)
	}
	repos, err := place{urls: []string{opts.from}, prefix: clusterPrefix(cmd.Flags())}.open()
	if err != nil {
		return err
	}
	found, skipped, err := restore.List(cmd.Context(), repos[0], opts.limit)
	if err != nil {
		return localError(err)
	}
	for _, s := range skipped {
		fmt.Fprintf(sys.Stderr, "warning: left out: %v\n", s)
	}
	resp := &snapshotdv1.ListResponse{}
	for _, s := range found {
		resp.Snapshots = append(resp.Snapshots, wire.SnapshotToProto(s))
	}
	if len(found)+len(skipped) == 0 {
		fmt.Fprintf(sys.Stderr, "there are no snapshots in %s (--cluster names the cluster, --prefix says where its "+
			"snapshots lie)\n", repos[0].URI(""))
	}
	return opts.output.print(sys.Stdout, resp,
		func(w io.Writer) error { return listTable(w, resp.GetSnapshots(), sys.Now()) })
}

func (o *listOptions) request(now time.Time) (*snapshotdv1.ListRequest, error) {
	if o.limit < 0 {
		return nil, usagef("--limit: %d is negative; 0 means all", o.limit)
	}
	req := &snapshotdv1.ListRequest{Backend: o.backend}
	var err error
	if req.Labels, err = parseLabels(o.labels); err != nil {
		return nil, err
	}
	for _, s := range o.states {
		v, ok := snapshotdv1.Snapshot_State_value["STATE_"+strings.TrimPrefix(strings.ToUpper(s), "STATE_")]
		if !ok || v == 0 {
			return nil, usagef("--state: %q is not one of saving, ready, partial, failed and deleting", s)
		}
		req.States = append(req.States, snapshotdv1.Snapshot_State(v))
	}
	if req.CreateTimeFrom, err = parseTime("--since", o.since, now); err != nil {
		return nil, err
	}
	req.CreateTimeUntil, err = parseTime("--until", o.until, now)
	return req, err
}

// listAll reads all pages, or up to limit snapshots when it is not 0.
func listAll(ctx context.Context, c *client, req *snapshotdv1.ListRequest, limit int) ([]*snapshotdv1.Snapshot, error) {
	for attempt := 1; ; attempt++ {
		snapshots, err := listOnce(ctx, c, req, limit)
		if wire.DetailsOf(err).Reason == snapshot.ReasonPageTokenExpired && attempt < listAttempts {
			continue
		}
		return snapshots, err
	}
}

func listOnce(
	ctx context.Context, c *client, req *snapshotdv1.ListRequest, limit int,
) ([]*snapshotdv1.Snapshot, error) {
	var all []*snapshotdv1.Snapshot
	req.PageToken = ""
	for {
		req.PageSize = listPage
		if limit > 0 {
			req.PageSize = int32(min(listPage, limit-len(all)))
		}
		resp, err := c.List(ctx, req)
		if err != nil {
			return nil, err
		}
		all = append(all, resp.GetSnapshots()...)
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" || limit > 0 && len(all) >= limit {
			return all, nil
		}
	}
}

// parseLabels reads key=value pairs.
func parseLabels(pairs []string) (map[string]string, error) {
	m := make(map[string]string, len(pairs))
	for _, p := range pairs {
		k, v, ok := strings.Cut(p, "=")
		if !ok || k == "" {
			return nil, usagef("--label: %q is not key=value", p)
		}
		if old, twice := m[k]; twice && old != v {
			return nil, usagef("--label: %q is given as %q and as %q", k, old, v)
		}
		m[k] = v
	}
	return m, nil
}

// parseTime reads a time, a day, or an age such as 36h or 7d.
func parseTime(flag, s string, now time.Time) (*timestamppb.Timestamp, error) {
	if s == "" {
		return nil, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return timestamppb.New(t), nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, s, now.Location()); err == nil {
		return timestamppb.New(t), nil
	}
	if d, err := parseAge(s); err == nil && d >= 0 {
		return timestamppb.New(now.Add(-d)), nil
	}
	return nil, usagef("%s: %q is no time; write it as 2026-07-15T12:00:00Z, 2026-07-15, or as an age, 36h or 7d", flag, s)
}

func parseAge(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return 0, fmt.Errorf("%q are no days: %w", s, err)
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	return time.ParseDuration(s)
}
