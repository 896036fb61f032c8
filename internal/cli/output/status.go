package output

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Reach is the flags with which the commands that status prints reach the same service and cluster.
type Reach struct {
	Flags   []string // those of the connection that were given
	Cluster bool     // the cluster has to be named: there are several
}

// StatusTable writes one line for each cluster, and below them the findings with the commands that help. wide adds the
// backends and the schedules.
func StatusTable(w io.Writer, resp *snapshotdv1.ListClustersResponse, reach Reach, wide bool) error {
	now := resp.GetTime().AsTime()
	err := Columns(w, func(row func(...string)) {
		head := []string{"CLUSTER", "VERDICT", "NEWEST", "REVISION", "PROVEN", "WAITING", "NEXT RUN", "LEADER", "SAVING"}
		if journaled(resp) {
			head = append(head, "RPO", "LAG")
		}
		row(head...)
		for _, c := range resp.GetClusters() {
			newest, revision := "-", "-"
			if s := c.GetNewestReady(); s != nil {
				newest, revision = age(now, s.GetCreateTime()), Number(s.GetRevision())
			}
			cells := []string{c.GetName(), verdict(c.GetVerdict()), newest, revision, age(now, c.GetProvenTime()),
				Number(c.GetUploadsWaiting()), nextRun(now, c), OrDash(c.GetLeader()), saving(now, c)}
			if journaled(resp) {
				cells = append(cells, recoveryPoint(c), lag(c.GetRecoveryWindow()))
			}
			row(cells...)
		}
	})
	if err != nil {
		return err
	}
	for _, c := range resp.GetClusters() {
		findings(w, c, reach)
	}
	if !wide {
		return nil
	}
	return statusDetails(w, resp, now)
}

// journaled reports whether any of the clusters has a journal.
func journaled(resp *snapshotdv1.ListClustersResponse) bool {
	return slices.ContainsFunc(resp.GetClusters(),
		func(c *snapshotdv1.Cluster) bool { return c.GetRecoveryWindow().GetJournaled() })
}

// recoveryPoint returns how old the newest moment is that each backend could restore, at most; "-" when the replica
// that answers does not know.
func recoveryPoint(c *snapshotdv1.Cluster) string {
	worst := time.Duration(-1)
	for _, p := range c.GetRecoveryWindow().GetRecoveryPoints() {
		worst = max(worst, p.GetAge().AsDuration())
	}
	if worst < 0 {
		return "-"
	}
	return Age(worst)
}

// lag returns how many revisions the journal is behind etcd; "-" when the replica that answers does not know, such as
// while etcd is not followed.
func lag(win *snapshotdv1.RecoveryWindow) string {
	if win == nil || win.LagRevisions == nil {
		return "-"
	}
	return fmt.Sprint(win.GetLagRevisions())
}

// timestamp is a time of a message; nil is none.
type timestamp interface {
	AsTime() time.Time
	IsValid() bool
}

func age(now time.Time, t timestamp) string {
	if !t.IsValid() {
		return "-"
	}
	return Age(now.Sub(t.AsTime()))
}

func verdict(v snapshotdv1.Cluster_Verdict) string { return strings.TrimPrefix(v.String(), "VERDICT_") }

// nextRun returns when the first of the schedules is due.
func nextRun(now time.Time, c *snapshotdv1.Cluster) string {
	var first time.Time
	for _, s := range c.GetSchedules() {
		if t := s.GetNextTime(); t.IsValid() && (first.IsZero() || t.AsTime().Before(first)) {
			first = t.AsTime()
		}
	}
	return due(now, first)
}

func due(now, t time.Time) string {
	switch {
	case t.IsZero():
		return "-"
	case t.After(now):
		return "in " + Age(t.Sub(now))
	}
	return "due " + Age(now.Sub(t)) + " ago"
}

// saving returns how far the save under way is. In its first seconds, only the replica that runs it knows; another one
// names the replica of the record.
func saving(now time.Time, c *snapshotdv1.Cluster) string {
	if c.GetSaving() == nil {
		return "-"
	}
	p := c.GetProgress()
	if p == nil {
		text := "for " + age(now, c.GetSaving().GetCreateTime())
		if node := c.GetSaving().GetNode(); node != "" {
			text += " on " + node
		}
		return text
	}
	if p.GetTotalBytes() == 0 {
		return Size(p.GetReadBytes())
	}
	return fmt.Sprintf("%s of %s", Size(p.GetReadBytes()), Size(p.GetTotalBytes()))
}

// findings writes why a verdict is what it is, and what to do.
func findings(w io.Writer, c *snapshotdv1.Cluster, reach Reach) {
	if len(c.GetFindings()) > 0 {
		fmt.Fprintf(w, "\n%s:\n", Plain(c.GetName()))
	}
	for _, f := range c.GetFindings() {
		fmt.Fprintf(w, "  %s: %s\n", verdict(f.GetVerdict()), Plain(f.GetText()))
		if len(f.GetCommand()) > 0 {
			fmt.Fprintf(w, "    %s\n", Plain(Words(reach.command(f.GetCommand(), c.GetName()))))
		}
	}
}

// command returns a command that helps a cluster. Those with --from ask no service, and look for the cluster's name
// there, or else for that of the variable.
func (r Reach) command(args []string, cluster string) []string {
	words := append([]string{"snapshotd"}, args...)
	if slices.Contains(args, "--from") {
		if r.Cluster || cluster != snapshot.DefaultClusterName || slices.Contains(args, "--prefix") {
			words = append(words, "--cluster", cluster)
		}
		return words
	}
	if r.Cluster {
		words = append(words, "--cluster", cluster)
	}
	return append(words, r.Flags...)
}

func statusDetails(w io.Writer, resp *snapshotdv1.ListClustersResponse, now time.Time) error {
	fmt.Fprintln(w)
	err := Columns(w, func(row func(...string)) {
		row("CLUSTER", "BACKEND", "SNAPSHOTS", "SIZE", "FREE", "LAST SAVE", "NEWEST", "URL")
		for _, c := range resp.GetClusters() {
			for _, b := range c.GetBackends() {
				last := "-"
				if b.GetLastState() != snapshotdv1.Snapshot_STATE_UNSPECIFIED {
					last = State(b.GetLastState())
				}
				row(c.GetName(), b.GetName(), known(b.GetSnapshots(), Number), known(b.GetSizeBytes(), Size),
					known(b.GetFreeBytes(), Size),
					last, OrDash(b.GetNewest()), OrDash(b.GetUrl()))
			}
		}
	})
	if err != nil {
		return err
	}
	if err := retention(w, resp, now); err != nil {
		return err
	}
	if journaled(resp) {
		if err := statusJournals(w, resp); err != nil {
			return err
		}
	}
	fmt.Fprintln(w)
	return Columns(w, func(row func(...string)) {
		row("CLUSTER", "SCHEDULE", "CRON", "NEXT RUN", "LAST RUN", "RESULT", "SNAPSHOT")
		for _, c := range resp.GetClusters() {
			for _, s := range c.GetSchedules() {
				var next time.Time
				if s.GetNextTime().IsValid() {
					next = s.GetNextTime().AsTime()
				}
				result := "-"
				if s.GetLastSnapshot() != "" {
					result = State(s.GetLastState())
				}
				row(c.GetName(), s.GetName(), strings.TrimSpace(s.GetCron()+" "+s.GetTimeZone()), due(now, next),
					age(now, s.GetLastTime()), result,
					OrDash(s.GetLastSnapshot()))
			}
		}
	})
}

// statusJournals writes how far the journals are.
func statusJournals(w io.Writer, resp *snapshotdv1.ListClustersResponse) error {
	fmt.Fprintln(w)
	return Columns(w, func(row func(...string)) {
		row("CLUSTER", "JOURNAL", "RPO", "LAST ERROR")
		for _, c := range resp.GetClusters() {
			for _, p := range c.GetRecoveryWindow().GetRecoveryPoints() {
				at := "local disk"
				if p.GetBackend() != "" {
					at = "backend " + p.GetBackend()
				}
				row(c.GetName(), at, Took(p.GetAge().AsDuration()), OrDash(p.GetError()))
			}
		}
	})
}

// retention writes what retention removes next, and how much that frees. Backends without a rule are left out.
func retention(w io.Writer, resp *snapshotdv1.ListClustersResponse, now time.Time) error {
	var rows [][]string
	for _, c := range resp.GetClusters() {
		for _, r := range c.GetRetention() {
			if !r.GetRules() {
				continue
			}
			next := "-"
			if t := r.GetNextTime(); t.IsValid() {
				next = fmt.Sprintf("%d, %s, %s", r.GetRemovesNext(), Size(r.GetFreesNextBytes()), due(now, t.AsTime()))
			}
			first := "-"
			if names := r.GetNames(); len(names) > 0 {
				first = names[0]
			}
			rows = append(rows, []string{c.GetName(), r.GetBackend(),
				fmt.Sprintf("%d now, %s", r.GetRemovesNow(), Size(r.GetFreesNowBytes())), next, first})
		}
	}
	if len(rows) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	return Columns(w, func(row func(...string)) {
		row("CLUSTER", "BACKEND", "RETENTION REMOVES", "AFTER THE NEXT SAVE", "FIRST")
		for _, r := range rows {
			row(r...)
		}
	})
}

// known returns a number as text; "-" for one that is not known.
func known(n int64, text func(int64) string) string {
	if n < 0 {
		return "-"
	}
	return text(n)
}
