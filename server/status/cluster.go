package status

import (
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/snapshot/retention"
)

// Known is all that is known of a cluster.
type Known struct {
	Name      string
	Store     Store
	Node      string     // the replica that answers
	Places    []Place    // in the order of the configuration
	Schedules []Schedule // in the order of the configuration
	Scrub     *Scrub     // nil when there is none
	Now       time.Time

	Records []*snapshot.Record   // the newest, newest first
	All     bool                 // there are no others
	Older   []*snapshot.Record   // of the others, the one proven last and the newest damaged one, if known
	Bad     []error              // records of the same time that cannot be read
	Ran     map[string]time.Time // by schedule: when the last run that has stored something was due; nil when not known
	Tally   *Tally               // of all records; nil when it is not known
	Leader  *string              // empty when no replica leads; nil when that is not known
	Moving  *Moving              // the save under way; of another replica as that one has told last, or nil
	Journal *Journal             // nil when the cluster has none
	FactErr error                // what else could not be read in the catalog, the first of it, and why
	Err     error                // why the catalog cannot be read; then only the configuration is known

	NotOpen      error     // why the cluster could not be opened; then only its name and its backends are known
	NotOpenSince time.Time // since when that is so, for whatever reasons

	NotInEffect error // why a change of its configuration could not be applied, and the earlier one is in effect

	NotAsked     bool                                 // the catalog was not even asked, and Err says why
	Failed       map[string]snapshot.ReconcileFailure // by backend: why the last reconcile has failed there
	Certificates []Certificate                        // the client certificates for etcd
}

// Store is how snapshots are stored on the backends.
type Store struct {
	Prefix    string // of the keys
	Encrypted bool   // new snapshots are encrypted
	Decrypts  bool   // the service has an identity
	Signed    bool   // only signed manifests are trusted
}

// Place is a backend as it is configured.
type Place struct {
	Name string
	Kind snapshot.BackendKind
	URI  string // for a person
	URL  string // for commands, without secrets
	Free int64  // bytes; -1 when it is not known

	Retention retention.Rules
}

// Schedule is a schedule as it is configured.
type Schedule struct {
	Name, Cron, TimeZone string
	Jitter               time.Duration
	Backends             []string                        // the configured names of those that it saves to; none is all
	Next                 func(after time.Time) time.Time // when it is due first after a time
}

// Scrub is the scrub of a cluster as it is configured, and as the leader has noted how the last one ended.
type Scrub struct {
	Cron   string
	Jitter time.Duration                   // by which its begin is delayed at most
	Drill  bool                            // it restores the newest snapshot
	Next   func(after time.Time) time.Time // when it is due first after a time

	Last snapshot.ScrubNote
}

// Certificate is a client certificate with which the service reaches an etcd.
type Certificate struct {
	File       string
	Copied     bool // the file is a copy that systemd made when the service started: it stays as it is
	Begin, End time.Time
}

// Moving is how far a save is.
type Moving struct {
	Name    string // of the snapshot
	Since   time.Time
	Read    int64 // bytes, from etcd
	Total   int64 // bytes that etcd will send; 0 when it is not known
	Written map[string]int64
}

// Journal is how far the journal of a cluster is, as this replica knows.
type Journal struct {
	Kept     time.Duration         // how far back it is kept; 0 for as far as there are snapshots
	Notes    snapshot.JournalNotes // those of the leader, in the catalog
	NotesErr error                 // why they could not be read

	Following bool   // this replica is the one that follows; if not, the rest is not known
	Endpoint  string // of etcd that is followed; empty when none answers
	Lag       int64  // revisions that etcd has, and that are not durable on this machine yet
	Points    []snapshot.RecoveryPoint
}

// Total is what a backend holds.
type Total struct{ Snapshots, Bytes int64 }

// Tally is what the backends of a cluster hold, and what retention removes of it.
type Tally struct {
	Totals   map[string]Total        // by backend
	Removals []Removal               // in the order of the backends
	Missed   map[string][]MissedRuns // by schedule, the oldest first
}

// Removal is what the retention of a backend removes.
type Removal struct {
	Backend string
	Rules   bool      // there is a rule by which a snapshot is ever removed
	Now     Total     // goes with the next reconcile
	Next    Total     // goes beside that when the next scheduled save is stored
	Due     time.Time // when that save is due; zero without a schedule that saves to this backend
	Names   []string  // of all of these, the oldest first, at most [maxNames]
}

// MissedRuns is consecutive runs of a schedule of which there is no snapshot.
type MissedRuns struct {
	Start time.Time // when the first of them was due
	End   time.Time // when the schedule took its next snapshot; zero when it has taken none since then
	Runs  int64
}

// Verdict says how well the snapshots of a cluster would serve in a disaster.
type Verdict string

// The verdicts, best first, as the labels of metrics have them.
const (
	Safe      Verdict = "safe"
	Attention Verdict = "attention"
	NotSafe   Verdict = "not_safe"
	Unknown   Verdict = "unknown"
)

// Cluster is the verdict on a cluster, and its facts.
type Cluster struct {
	Name      string
	Verdict   Verdict
	Findings  []Finding        // worst first
	Backends  []Backend        // in the order of the configuration
	Schedules []ScheduleState  // in the order of the configuration
	Removals  []Removal        // in the order of the backends; none when the catalog cannot be read
	Newest    *snapshot.Record // the newest that is READY and was not found damaged; nil when there is none
	LastSave  *snapshot.Record // the newest whose save has ended in any way
	Proven    *snapshot.Record // the newest proof that a snapshot can be restored; nil when there is none
	Saving    *snapshot.Record // the save under way, or one whose replica died
	Examined  int              // how many records, the newest, the verdict is based on
	All       bool             // there are no other records
	Leader    string           // empty when no replica leads, or when it is not known
	Moving    *Moving          // how far the save under way is; nil when it is not known
	Journal   *Journal         // nil when the cluster has none
	Store     Store
}

// Finding is one fact that needs attention, and the command that helps.
type Finding struct {
	Verdict Verdict
	Text    string
	Do      []string // arguments of snapshotd, without those for the service and the cluster
}

// Backend is the facts about one backend of a cluster.
type Backend struct {
	Name    string
	Newest  *snapshot.Record // the newest that it holds whole; nil when it holds none
	Last    string           // state of the last save here: READY, FAILED, …; empty when it was not chosen
	Error   string           // why it is not READY
	Waiting int
	Next    time.Time // when the first of the waiting copies is tried again, at the earliest

	Kind      snapshot.BackendKind
	URI       string
	URL       string // as it is configured, without secrets
	Snapshots int64  // that it holds whole; -1 when it is not known
	Bytes     int64  // of these; -1 when it is not known
	Free      int64  // bytes; -1 when it is not known
}

// ScheduleState is a schedule, and how it keeps to its times.
type ScheduleState struct {
	Name     string
	Cron     string
	TimeZone string
	Next     time.Time        // when the run that has not ended yet is due, or was
	Ran      time.Time        // when the last run that has stored a snapshot was due
	Last     *snapshot.Record // the newest that it took, whose save has ended; nil when none was examined
	Overdue  bool             // the next run should have ended by now
	Missed   []MissedRuns     // the oldest first
}
