package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"

	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/internal/cli/client"
	"github.com/snapshotd/snapshotd/internal/cli/command"
	"github.com/snapshotd/snapshotd/internal/cli/exit"
	"github.com/snapshotd/snapshotd/internal/cli/output"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

const (
	// watchInterval is the least time between two lines about the progress of one transfer.
	watchInterval = time.Second
	// watchIdle is the time between two lines about a transfer that does not move.
	watchIdle = 10 * time.Second
	// Pauses before a broken watch goes on: the first one, and the longest.
	reconnectPause    = 200 * time.Millisecond
	reconnectPauseMax = 10 * time.Second
)

type watchOptions struct {
	client client.Options
	output output.Format
	resume string
}

func newWatch(sys System) *cobra.Command {
	var opts watchOptions
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Show the events of snapshots as they happen",
		Long: `Show the events of snapshots on all replicas, from now on, until interrupted: one event a line, as
text or JSON, or one YAML document for each. Without --cluster, all clusters are watched, and each line
names its cluster. Progress is shown only of the replica that is called; a save that it
runs already comes first, with how far it is.

When the connection breaks off, it is made again, and no event of the time between is left out; some may
be shown twice. --resume does the same for a watch that has ended: its value is the last resumeToken in
the JSON or YAML that was not empty, of any replica. A token that is too old is an error
(WATCH_EXPIRED): list, then watch again.`,
		Example: `  snapshotd watch
  snapshotd watch -o json | jq 'select(.type == "TYPE_FINISHED") | .snapshot.state'
  snapshotd watch -o json --resume "$TOKEN"`,
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withClient(sys, cmd, &opts.client, func(ctx context.Context, c *client.Client) error {
				return runWatch(ctx, sys, opts, c)
			})
		},
	}
	cmd.Flags().StringVar(&opts.resume, "resume", "",
		"go on after this `token`, a resumeToken of the output (default from now on)")
	opts.output.AddFlag(cmd)
	opts.client.AddFlags(cmd.Flags())
	return cmd
}

// runWatch watches, and goes on at the same position when the connection or the replica is lost.
func runWatch(ctx context.Context, sys System, opts watchOptions, c *client.Client) error {
	w := &watcher{
		sys: sys, output: opts.output, lines: eventLines{cluster: c.Cluster == "", shown: map[string]shownProgress{}},
		req: &snapshotdv1.WatchRequest{Cluster: c.Cluster, ResumeToken: opts.resume},
	}
	failed := 0
	for {
		err := w.follow(ctx, c, func() { failed = 0 })
		// The service sees the deadline, too, and may be the first to.
		late := errors.Is(ctx.Err(), context.DeadlineExceeded) ||
			exit.Status(err) == codes.DeadlineExceeded && opts.client.Timeout > 0
		if w.began && late {
			return exit.Failed(fmt.Errorf("the watch has ended: its time is over (--timeout %v)", opts.client.Timeout))
		}
		if ctx.Err() != nil || !w.began || !mayReconnect(err) {
			return err
		}
		failed++
		pause := backoff.Delay(reconnectPause, reconnectPauseMax, failed)
		after := "going on after the last event shown"
		if w.req.GetResumeToken() == "" {
			after = "events until then are not shown"
		}
		fmt.Fprintf(sys.Stderr, "warning: the watch broke off: %s; trying again in %v, %s\n",
			output.Plain(exit.Message(err)), pause, after)
		if backoff.Wait(ctx, pause) != nil {
			return err
		}
	}
}

// mayReconnect reports whether the same watch may succeed a little later.
func mayReconnect(err error) bool {
	if errors.Is(err, io.EOF) {
		return true // the service never ends a watch by itself
	}
	switch wire.DetailsOf(err).Reason {
	case snapshot.ReasonSlowConsumer, snapshot.ReasonShuttingDown, snapshot.ReasonConfigChanged:
		return true
	case "":
		return exit.Status(err) == codes.Unavailable // the connection broke
	default:
		return wire.DetailsOf(err).Retry > 0
	}
}

// watcher shows events over any number of streams.
type watcher struct {
	sys    System
	output output.Format
	lines  eventLines
	req    *snapshotdv1.WatchRequest // its token is that of the last event shown
	began  bool                      // a service has answered
}

// follow shows the events of one stream. It calls live when the service has answered.
func (w *watcher) follow(ctx context.Context, c *client.Client, live func()) error {
	stream, err := c.Watch(ctx, w.req)
	if err != nil {
		return err
	}
	if header, err := stream.Header(); err == nil && header != nil {
		w.began = true
		live()
	}
	for {
		ev, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := printEvent(w.sys.Stdout, w.output, &w.lines, ev); err != nil {
			return exit.Failed(fmt.Errorf("write the events: %w", err))
		}
		if token := ev.GetResumeToken(); token != "" {
			w.req.ResumeToken = token
		}
	}
}

func printEvent(w io.Writer, f output.Format, lines *eventLines, ev *snapshotdv1.WatchResponse) error {
	switch f {
	case output.FormatJSON:
		b, err := output.JSON(ev)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s\n", b)
		return err
	case output.FormatYAML:
		b, err := output.YAML(ev)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "---\n%s", b)
		return err
	}
	if text := lines.of(ev); text != "" {
		_, err := fmt.Fprintln(w, output.Plain(text))
		return err
	}
	return nil
}

// eventLines makes lines of events, and only a few of progress so that they can be read.
type eventLines struct {
	cluster bool                     // several clusters may be watched, and each line names its own
	shown   map[string]shownProgress // of each transfer
}

// shownProgress is the progress that was last shown of a transfer.
type shownProgress struct {
	at    time.Time
	done  int64
	phase snapshotdv1.WatchResponse_Phase
}

func (l *eventLines) of(ev *snapshotdv1.WatchResponse) string {
	at := ev.GetTime().AsTime()
	if ev.GetType() == snapshotdv1.WatchResponse_TYPE_POSITION {
		return ""
	}
	head := fmt.Sprintf("%s  %-13s  ", at.Format(time.RFC3339), strings.TrimPrefix(ev.GetType().String(), "TYPE_"))
	if l.cluster && ev.GetCluster() != "" {
		head += ev.GetCluster() + "  "
	}
	head += ev.GetName()
	switch ev.GetType() {
	case snapshotdv1.WatchResponse_TYPE_PROGRESS:
		return l.progress(head, ev, at)
	case snapshotdv1.WatchResponse_TYPE_LOCATION_DONE:
		for _, loc := range ev.GetSnapshot().GetLocations() {
			if loc.GetBackend() == ev.GetBackend() {
				return output.WithReason(
					fmt.Sprintf("%s  %s %s", head, loc.GetBackend(), output.State(loc.GetState())), loc.GetError())
			}
		}
		return head + "  " + ev.GetBackend()
	case snapshotdv1.WatchResponse_TYPE_DELETED:
		return head + "  from " + ev.GetBackend()
	case snapshotdv1.WatchResponse_TYPE_FINISHED:
		s := ev.GetSnapshot()
		maps.DeleteFunc(l.shown, func(id string, _ shownProgress) bool { return strings.HasPrefix(id, transferOf(ev)) })
		took := output.Took(s.GetDuration().AsDuration())
		return output.WithReason(fmt.Sprintf("%s  %s in %s", head, output.State(s.GetState()), took), s.GetError())
	default:
		return head
	}
}

// transferOf returns the beginning of the ids of a snapshot's transfers.
func transferOf(ev *snapshotdv1.WatchResponse) string {
	return ev.GetCluster() + "/" + ev.GetName() + "/"
}

func (l *eventLines) progress(head string, ev *snapshotdv1.WatchResponse, at time.Time) string {
	id := transferOf(ev) + ev.GetBackend()
	next := shownProgress{at, ev.GetDoneBytes(), ev.GetPhase()}
	if last, ok := l.shown[id]; ok {
		pause := watchInterval
		if next.done == last.done && (next.phase == last.phase || ev.GetBackend() != "") {
			pause = watchIdle
		}
		if at.Sub(last.at) < pause {
			return ""
		}
	}
	l.shown[id] = next
	if ev.GetPhase() == snapshotdv1.WatchResponse_PHASE_WAITING {
		return strings.TrimRight(head, " ") + "  a save waits for its turn"
	}
	from := "etcd"
	if ev.GetBackend() != "" {
		from = ev.GetBackend()
	}
	text := fmt.Sprintf("%s  %s %s", head, from, output.Size(ev.GetDoneBytes()))
	if ev.GetTotalBytes() > 0 {
		text += " of " + output.Size(ev.GetTotalBytes())
	}
	if ev.GetBackend() == "" && ev.GetPhase() > snapshotdv1.WatchResponse_PHASE_READING {
		text += ", " + strings.ToLower(strings.TrimPrefix(ev.GetPhase().String(), "PHASE_"))
	}
	return text
}
