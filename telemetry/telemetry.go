package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Config of the telemetry. Zero values mean the defaults.
type Config struct {
	// MetricsPrefix goes before the names of the six histograms, with one '_' between them whether it ends with one or
	// not: k3s_ makes them k3s_etcd_snapshot_…. Empty: no prefix. See [ValidPrefix].
	MetricsPrefix  string
	ServiceVersion string
	Node           string       // of this machine; becomes service.instance.id
	Logger         *slog.Logger // for the errors of the exporters; none when nil
}

// Telemetry is the running telemetry. Its methods may be called at once from several goroutines.
type Telemetry struct {
	observer *observer
	handler  http.Handler
	logs     slog.Handler                  // nil when logs do not leave
	stops    []func(context.Context) error // side by side
}

// Observer returns the subscriber to the domain's events.
func (t *Telemetry) Observer() snapshot.Observer { return t.observer }

// MetricsHandler serves the scrape.
func (t *Telemetry) MetricsHandler() http.Handler { return t.handler }

// Leader records whether this replica leads a cluster, for snapshotd_leader.
func (t *Telemetry) Leader(ctx context.Context, cluster string, leading bool) {
	t.observer.leading(ctx, cluster, leading)
}

// Judged records the verdict on a cluster, which is one of all.
func (t *Telemetry) Judged(ctx context.Context, cluster, verdict string, all []string) {
	t.observer.own.verdict.Record(ctx, 1, judgedAs(cluster, verdict)) // first: a scrape may come between
	for _, v := range all {
		if v != verdict {
			t.observer.own.verdict.Record(ctx, 0, judgedAs(cluster, v))
		}
	}
}

// AddSchedule makes the metrics of a schedule begin at zero, the counter for each of the results that it can have.
func (t *Telemetry) AddSchedule(ctx context.Context, cluster, schedule string, results ...string) {
	t.observer.kept.remember(cluster, schedule)
	for _, r := range results {
		t.observer.own.runs.Add(ctx, 0, runOf(cluster, schedule, r))
	}
	t.observer.addSchedule(ctx, cluster, schedule)
	t.Due(ctx, cluster, schedule, time.Time{})
}

// Interval records the longest time between two runs of a schedule of snapshots.
func (t *Telemetry) Interval(ctx context.Context, cluster, schedule string, interval time.Duration) {
	t.observer.own.interval.Record(ctx, interval.Seconds(), scheduleOf(cluster, schedule))
}

// Ran records that a run of a schedule has ended, and whether it has stored a snapshot.
func (t *Telemetry) Ran(ctx context.Context, cluster, schedule, result string, due time.Time, stored bool) {
	t.observer.own.runs.Add(ctx, 1, runOf(cluster, schedule, result))
	if stored {
		t.observer.lastRun(ctx, cluster, schedule, due)
		return
	}
	t.observer.own.lastFailure.Record(ctx, unixSeconds(due), scheduleOf(cluster, schedule))
}

// LastRun records when the last run of a schedule was due that has stored a snapshot, as the catalog knows it: another
// replica may have made it, or this one before a restart. One that is older than the last known one is ignored, and so
// is one of the future: its clock was wrong, and it would hide failures until then.
func (t *Telemetry) LastRun(ctx context.Context, cluster, schedule string, due time.Time) {
	if !due.IsZero() && !snapshot.Ahead(due, time.Now()) {
		t.observer.lastRun(ctx, cluster, schedule, due)
	}
}

// Refused counts a caller that was refused, by the reason. The counters of all reasons begin at zero by AddAccess.
func (t *Telemetry) Refused(ctx context.Context, reason string) {
	t.observer.own.refused.Add(ctx, 1, metric.WithAttributes(attribute.String("reason", reason)))
}

// AuditFailed counts a record that could not be added to the audit file, or an attempt to store some that failed.
func (t *Telemetry) AuditFailed(ctx context.Context) { t.observer.own.unaudited.Add(ctx, 1) }

// AddAccess makes the counters of refused callers and of lost audit records begin at zero.
func (t *Telemetry) AddAccess(ctx context.Context, reasons ...string) {
	t.observer.own.unaudited.Add(ctx, 0)
	for _, r := range reasons {
		t.observer.own.refused.Add(ctx, 0, metric.WithAttributes(attribute.String("reason", r)))
	}
}

// Jobs records how many jobs of a kind run, and how many wait for their turn.
func (t *Telemetry) Jobs(ctx context.Context, job string, running, waiting int) {
	of := metric.WithAttributes(attribute.String("job", job))
	t.observer.own.jobsRunning.Record(ctx, int64(running), of)
	t.observer.own.jobsWaiting.Record(ctx, int64(waiting), of)
}

// Due records when the run of a schedule that has not ended yet begins; the zero time when another replica knows.
func (t *Telemetry) Due(ctx context.Context, cluster, schedule string, begins time.Time) {
	t.observer.own.nextRun.Record(ctx, unixSeconds(begins), scheduleOf(cluster, schedule))
}

// AddCluster makes the counters of a cluster begin at zero, so that their first increase is seen as one.
func (t *Telemetry) AddCluster(ctx context.Context, cluster string, backends []string) {
	t.observer.kept.remember(cluster, "")
	t.observer.addCluster(ctx, cluster, backends)
}

// Unprovable says that the service cannot decrypt the snapshots of a cluster that was added, and so no drill of it can
// restore one. There is no time of the last proof then: no alert on its age could end.
func (t *Telemetry) Unprovable(cluster string) {
	t.observer.outcomes.change(cluster, func(c *clusterOutcomes) { c.unprovable = true })
}

// AddCertificate shows when the client certificate for the etcd of a cluster begins and ends, as ask says at each
// scrape: files are replaced while the service runs. Zero times are no certificate. It ends when the cluster is
// forgotten.
func (t *Telemetry) AddCertificate(cluster string, ask func() (begin, end time.Time)) {
	c := &t.observer.certificates
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clusters[cluster] = ask
}

// AddDataDir shows the room on the disk of the data directory, as ask says at each scrape; -1 is not known.
func (t *Telemetry) AddDataDir(ask func() int64) {
	r := &t.observer.rooms
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dataDir = ask
}

// AddRooms shows the room on the disks of the backends of a cluster that are directories, as each says at each scrape;
// -1 is not known. It ends when the cluster is forgotten.
func (t *Telemetry) AddRooms(cluster string, backends map[string]func() int64) {
	t.observer.rooms.add(cluster, backends)
}

// JournalChecked counts a check of the journal.
func (t *Telemetry) JournalChecked(ctx context.Context, cluster, kind string, passed bool) {
	t.observer.journals.proofs.Add(ctx, 1, proofOf(cluster, kind, passed))
}

// AddJournal shows the journal of a cluster. Its gaps begin at zero for each of the reasons that they can have, and so
// do its checks for each kind.
func (t *Telemetry) AddJournal(
	ctx context.Context, cluster string, state func() JournalState, reasons, kinds []string,
) {
	j := &t.observer.journals
	j.mu.Lock()
	defer j.mu.Unlock()
	j.clusters[cluster] = state
	for _, r := range reasons {
		j.gaps.Add(ctx, 0, gapOf(cluster, r))
	}
	for _, k := range kinds {
		j.proofs.Add(ctx, 0, proofOf(cluster, k, true))
		j.proofs.Add(ctx, 0, proofOf(cluster, k, false))
	}
}

// DropJournal ends the measuring of a cluster's journal.
func (t *Telemetry) DropJournal(cluster string) {
	j := &t.observer.journals
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.clusters, cluster)
}

// JournalBroken counts a timeline that has begun because another one could not be continued.
func (t *Telemetry) JournalBroken(ctx context.Context, cluster, reason string) {
	t.observer.journals.gaps.Add(ctx, 1, gapOf(cluster, reason))
}

// Forget ends the series of a cluster, or of one of its schedules, until it is added again. What still comes of it does
// not count.
func (t *Telemetry) Forget(cluster, schedule string) {
	t.observer.kept.forget(cluster, schedule)
	if schedule == "" {
		t.observer.forget(cluster)
		t.DropJournal(cluster)
	}
}

// Reloaded records whether the last change of the configuration was applied as a whole.
func (t *Telemetry) Reloaded(ctx context.Context, whole bool) {
	var v int64
	if whole {
		v = 1
	}
	t.observer.own.reloaded.Record(ctx, v)
}

// LastSuccess records the last snapshot that reached every chosen backend, as the catalog knows it: after a start there
// was no Save yet to learn it from. A snapshot that is older than the last known one is ignored.
func (t *Telemetry) LastSuccess(ctx context.Context, s *snapshot.Snapshot) {
	t.observer.lastSuccess(ctx, s)
}

// LastSave records where the last snapshot is whose save has ended, well or not, as the catalog knows it. An earlier
// failure on one of the backends that no schedule saves to is over when this save did not go there, either: no success
// would ever follow it.
func (t *Telemetry) LastSave(s *snapshot.Snapshot, unscheduled ...string) {
	t.observer.outcomes.saved(s, unscheduled...)
}

// Shutdown sends over OTLP the signals that were not sent yet, until ctx is done, and stops. The scrape is empty
// afterwards.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	errs := make([]error, len(t.stops))
	var wg sync.WaitGroup
	for i, stop := range t.stops {
		wg.Go(func() { errs[i] = stop(ctx) })
	}
	wg.Wait()
	t.stops = nil
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("flush telemetry: %w", err)
	}
	return nil
}
