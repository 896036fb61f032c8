package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// watchInterval is the least time between two lines about the progress of one transfer.
const watchInterval = time.Second

type watchOptions struct {
	client clientOptions
	output format
}

func newWatch(sys System) *cobra.Command {
	var opts watchOptions
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Show what happens to snapshots, as it happens",
		Long: `Show what happens to snapshots on the service that is asked, from now on, until interrupted:
one event a line, as text or JSON, or one YAML document for each.`,
		Example: `  snapshotd watch
  snapshotd watch -o json | jq 'select(.type == "TYPE_FINISHED") | .snapshot.state'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withClient(sys, cmd, &opts.client, func(ctx context.Context, c *client) error {
				return runWatch(ctx, sys, opts, c)
			})
		},
	}
	opts.output.addFlag(cmd)
	opts.client.addFlags(cmd.Flags())
	return cmd
}

func runWatch(ctx context.Context, sys System, opts watchOptions, c *client) error {
	stream, err := c.Watch(ctx, &snapshotdv1.WatchRequest{Cluster: c.cluster})
	if err != nil {
		return err
	}
	lines := eventLines{shown: map[string]time.Time{}}
	for {
		ev, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := printEvent(sys.Stdout, opts.output, &lines, ev); err != nil {
			return err
		}
	}
}

func printEvent(w io.Writer, f format, lines *eventLines, ev *snapshotdv1.WatchResponse) error {
	switch f {
	case formatJSON:
		b, err := jsonOf(ev)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s\n", b)
		return err
	case formatYAML:
		b, err := yamlOf(ev)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "---\n%s", b)
		return err
	}
	if text := lines.of(ev); text != "" {
		_, err := fmt.Fprintln(w, plain(text))
		return err
	}
	return nil
}

// eventLines makes lines of events; of progress only so many that they can be read.
type eventLines struct {
	shown map[string]time.Time // when the progress of a transfer was last told
}

func (l *eventLines) of(ev *snapshotdv1.WatchResponse) string {
	at := ev.GetTime().AsTime()
	head := fmt.Sprintf("%s  %-13s  %s", at.Format(time.RFC3339), strings.TrimPrefix(ev.GetType().String(), "TYPE_"), ev.GetName())
	switch ev.GetType() {
	case snapshotdv1.WatchResponse_TYPE_PROGRESS:
		return l.progress(head, ev, at)
	case snapshotdv1.WatchResponse_TYPE_LOCATION_DONE:
		for _, loc := range ev.GetSnapshot().GetLocations() {
			if loc.GetBackend() == ev.GetBackend() {
				return withReason(fmt.Sprintf("%s  %s %s", head, loc.GetBackend(), stateName(loc.GetState())), loc.GetError())
			}
		}
		return head + "  " + ev.GetBackend()
	case snapshotdv1.WatchResponse_TYPE_DELETED:
		return head + "  from " + ev.GetBackend()
	case snapshotdv1.WatchResponse_TYPE_FINISHED:
		s := ev.GetSnapshot()
		clear(l.shown)
		return withReason(fmt.Sprintf("%s  %s in %s", head, stateName(s.GetState()), took(s.GetDuration().AsDuration())), s.GetError())
	default:
		return head
	}
}

func (l *eventLines) progress(head string, ev *snapshotdv1.WatchResponse, at time.Time) string {
	id := ev.GetName() + "/" + ev.GetBackend()
	if last, ok := l.shown[id]; ok && at.Sub(last) < watchInterval {
		return ""
	}
	l.shown[id] = at
	from := "etcd"
	if ev.GetBackend() != "" {
		from = ev.GetBackend()
	}
	text := fmt.Sprintf("%s  %s %s", head, from, size(ev.GetDoneBytes()))
	if ev.GetTotalBytes() > 0 {
		text += " of " + size(ev.GetTotalBytes())
	}
	return text
}

func withReason(text, reason string) string {
	if reason == "" {
		return text
	}
	return text + ": " + reason
}
