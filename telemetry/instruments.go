package telemetry

import (
	"runtime"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/snapshotd/snapshotd/snapshot"
)

// scope is the instrumentation scope of our own instruments, as OTLP shows it.
const scope = "github.com/snapshotd/snapshotd"

// boundaries returns the upper bounds of K3s' buckets in seconds: 0.008·2^i for i = 0…14. Doubling is exact, so that
// the le labels are those of K3s to the digit.
func boundaries() []float64 {
	bounds := make([]float64, 15)
	b := 0.008
	for i := range bounds {
		bounds[i] = b
		b *= 2
	}
	return bounds
}

// histograms are the six that K3s has.
type histograms struct {
	save, saveLocal, saveS3                metric.Float64Histogram
	reconcile, reconcileLocal, reconcileS3 metric.Float64Histogram
}

func newHistograms(m metric.Meter) (histograms, error) {
	r := &register{meter: m}
	return histograms{
		save:           r.duration("etcd.snapshot.save.duration", "complete the etcd snapshot process"),
		saveLocal:      r.duration("etcd.snapshot.save.local.duration", "save a local snapshot file"),
		saveS3:         r.duration("etcd.snapshot.save.s3.duration", "upload a snapshot file to S3"),
		reconcile:      r.duration("etcd.snapshot.reconcile.duration", "sync the list of etcd snapshots"),
		reconcileLocal: r.duration("etcd.snapshot.reconcile.local.duration", "list local snapshot files"),
		reconcileS3:    r.duration("etcd.snapshot.reconcile.s3.duration", "list S3 snapshot files"),
	}, r.err()
}

func (r *register) duration(name, what string) metric.Float64Histogram {
	h, err := r.meter.Float64Histogram(name,
		metric.WithUnit("s"),
		metric.WithDescription("Total time in seconds taken to "+what+", labeled by success/failure status."),
		metric.WithExplicitBucketBoundaries(boundaries()...),
	)
	return made(r, h, err)
}

// ownMetrics are the instruments under names of our own.
type ownMetrics struct {
	lastTime     *kind[float64]
	lastRevision *kind[int64]
	alarms       *kind[int64]
	dbSize       *kind[int64]
	storedSize   *kind[int64]
	snapshots    *kind[int64]
	leader       *kind[int64]
	verdict      *kind[int64]
	buildInfo    *kind[int64]
	saves        *kind[int64]
	reconciles   *kind[int64]
	rejected     *kind[int64]
	refused      *kind[int64]
	unaudited    *kind[int64]
	swept        *kind[int64]
	deleted      *kind[int64]
	repairs      *kind[int64]
	runs         *kind[int64]
	lastRun      *kind[float64]
	lastFailure  *kind[float64]
	nextRun      *kind[float64]
	interval     *kind[float64]
	jobsRunning  *kind[int64]
	jobsWaiting  *kind[int64]
	verified     *kind[int64]
	reloaded     *kind[int64]
}

func newOwnMetrics(m metric.Meter, k *kept) (ownMetrics, error) {
	r := &register{meter: m, kept: k}
	return ownMetrics{
		reloaded: r.gauge("snapshotd.config.last_reload_successful", "",
			"1 when the last change of the configuration was applied as a whole, also when there was none; "+
				"0 when it is wrong, or a part of it could not be applied yet."),
		verified: r.counter("snapshotd.verifications", "Verifications of snapshots that came to a verdict."),
		lastRun: r.seconds("snapshotd.schedule.last_run.timestamp",
			"When the last run of a schedule was due that has stored a snapshot, as far as this replica knows, "+
				"in seconds since 1970; 0 when there was none."),
		lastFailure: r.seconds("snapshotd.schedule.last_failure.timestamp",
			"When the last run of a schedule was due that has stored nothing, "+
				"in seconds since 1970; on the replica that ran it, 0 on the others."),
		nextRun: r.seconds("snapshotd.schedule.next_run.timestamp",
			"When the run of a schedule that has not ended yet begins, or was to begin, its jitter included, "+
				"in seconds since 1970; on the leader, 0 on the others."),
		interval: r.seconds("snapshotd.schedule.interval",
			"The longest time between two of the next runs of a schedule of snapshots, by its cron."),
		jobsRunning: r.gauge("snapshotd.jobs.running", "",
			"Saves, checks that restore a database, and drills of all clusters that run on this replica."),
		jobsWaiting: r.gauge("snapshotd.jobs.waiting", "",
			"Saves, checks that restore a database, and drills of all clusters that wait for their turn on this replica."),
		saves: r.counter("snapshotd.saves",
			"Saves that have ended, for each backend that was chosen: success when it holds the snapshot, else error."),
		reconciles: r.counter("snapshotd.reconciles",
			"Reconciles that have ended, for each backend: error when it, or the catalog, could not be read or changed."),
		lastTime: r.seconds("snapshotd.last_success.timestamp",
			"When the last snapshot that reached every chosen backend was begun, "+
				"as far as this replica knows; in seconds since 1970."),
		lastRevision: r.gauge("snapshotd.last_success.revision", "",
			"Revision of etcd in the last snapshot that reached every chosen backend."),
		alarms: r.gauge("snapshotd.snapshot.alarms", "",
			"Alarms of etcd inside the last snapshot that reached every chosen backend: an etcd that is restored "+
				"from it refuses writes until they are disarmed."),
		dbSize: r.gauge("snapshotd.db.size", "By",
			"Bytes of the database in the last snapshot that reached every chosen backend."),
		storedSize: r.gauge("snapshotd.stored.size", "By",
			"Bytes of the object that holds the last snapshot, on each backend."),
		snapshots: r.gauge("snapshotd.snapshots", "",
			"Snapshots in the catalog by state, as the last reconcile of this replica counted them."),
		leader: r.gauge("snapshotd.leader", "",
			"1 on the replica that leads the cluster's schedule and reconcile loop, 0 on the others."),
		verdict: r.gauge("snapshotd.cluster.verdict", "",
			"1 for the verdict of snapshotd status on the cluster, as this replica judged it last, 0 for the other verdicts."),
		buildInfo: r.gauge("snapshotd.build_info", "", "Always 1; the labels say what is running."),
		rejected:  r.counter("snapshotd.saves.rejected", "Saves that were refused because another one was running."),
		unaudited: r.counter("snapshotd.audit.failures",
			"Records of calls that could not be added to the audit file, and attempts to store some that failed."),
		refused: r.counter("snapshotd.access.refused",
			"Callers that were refused: by the handshake, because they were not known, or because they lack the role."),
		swept: r.counter("snapshotd.swept", "Leftovers of crashes that were removed from a backend."),
		deleted: r.counter("snapshotd.deleted",
			"Copies of snapshots that were removed from a backend, because somebody asked for it or by retention."),
		runs: r.counter("snapshotd.schedule.runs", "Runs of a schedule that have ended: "+
			"success, partial, or failed when it was due again before anything was stored."),
		repairs: r.counter("snapshotd.repairs",
			"Attempts to bring a copy of a snapshot to a backend that should hold it and does not."),
	}, r.err()
}

var (
	success = metric.WithAttributeSet(attribute.NewSet(attribute.String("status", "success")))
	failure = metric.WithAttributeSet(attribute.NewSet(attribute.String("status", "error")))
)

func statusOf(err error) metric.RecordOption {
	if err != nil {
		return failure
	}
	return success
}

func clusterOf(cluster string) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("cluster", cluster))
}

func scheduleOf(cluster, schedule string) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("cluster", cluster), attribute.String("schedule", schedule))
}

func backendOf(cluster, backend string) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("cluster", cluster), attribute.String("backend", backend))
}

// The results of what is counted for each backend.
const (
	resultSuccess = "success"
	resultError   = "error"
)

func resultOf(cluster, backend, result string) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("cluster", cluster), attribute.String("backend", backend),
		attribute.String("result", result))
}

func repairOf(cluster, backend string, err error) metric.MeasurementOption {
	status := "success"
	if err != nil {
		status = "error"
	}
	return metric.WithAttributes(attribute.String("cluster", cluster), attribute.String("backend", backend),
		attribute.String("status", status))
}

func runOf(cluster, schedule, result string) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("cluster", cluster), attribute.String("schedule", schedule),
		attribute.String("result", result))
}

func judgedAs(cluster, verdict string) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("cluster", cluster), attribute.String("verdict", verdict))
}

func verdictOf(cluster, level, result string) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("cluster", cluster), attribute.String("level", level),
		attribute.String("result", result))
}

func stateOf(cluster string, state snapshot.State) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("cluster", cluster), attribute.String("state", state.String()))
}

func buildAttributes(version string) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("version", version), attribute.String("go_version", runtime.Version()))
}
