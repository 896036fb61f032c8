// Package status judges clusters: how well their snapshots would serve in a disaster, why, and what helps. It is the one
// source of the verdicts of the API, the console and the command line, and knows only what it is told.
package status

import (
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Known is all that is known of a cluster.
type Known struct {
	Name      string
	Places    []Place    // in the order of the configuration
	Schedules []Schedule // in the order of the configuration
	Now       time.Time

	Records []*snapshot.Record   // the newest, newest first
	All     bool                 // there are no others
	Ran     map[string]time.Time // by schedule: when the last run that has stored a snapshot was due; nil when it is not known
	Totals  map[string]Total     // by backend; nil when they are not known
	Leader  *string              // empty when no replica leads; nil when that is not known
	Moving  *Moving              // the save of this replica that is under way
	Journal *Journal             // nil when the cluster has none
	Err     error                // why the catalog cannot be read; then only the configuration is known
}

// Place is a backend as it is configured.
type Place struct {
	Name string
	Kind snapshot.BackendKind
	URI  string // for a person
	URL  string // for commands, without secrets
	Free int64  // bytes; -1 when it is not known
}

// Schedule is a schedule as it is configured.
type Schedule struct {
	Name, Cron, TimeZone string
	Jitter               time.Duration
	Next                 func(after time.Time) time.Time // when it is due first after a time
}

// Total counts the snapshots and bytes of a backend.
type Total struct{ Snapshots, Bytes int64 }

// Verdict says how well the snapshots of a cluster would serve in a disaster.
type Verdict string

// The verdicts, best first.
const (
	Safe      Verdict = "safe"
	Attention Verdict = "attention"
	NotSafe   Verdict = "danger"
	Unknown   Verdict = "unknown"
)

// Cluster is the verdict on a cluster, and its facts.
type Cluster struct {
	Name      string          `json:"name"`
	Verdict   Verdict         `json:"verdict"`
	Findings  []Finding       `json:"findings"`  // worst first
	Backends  []Backend       `json:"backends"`  // in the order of the configuration
	Schedules []ScheduleState `json:"schedules"` // in the order of the configuration
	Newest    *Snapshot       `json:"newest"`    // the newest that is READY and was not found damaged; nil when there is none
	LastSave  *Snapshot       `json:"lastSave"`  // the newest whose save has ended in any way
	Proven    *Proof          `json:"proven"`    // the newest proof that a snapshot can be restored; nil when there is none
	Saving    *Snapshot       `json:"saving"`    // the save under way, or one whose replica died
	Mark      string          `json:"mark"`      // changes when one of the examined records does
	Examined  int             `json:"examined"`  // how many records, the newest, the verdict is based on
	All       bool            `json:"all"`       // there are no other records
	Leader    string          `json:"leader"`    // empty when no replica leads, or when it is not known
	Moving    *Moving         `json:"moving"`    // how far the save under way is; nil when another replica saves
	Journal   *Journal        `json:"-"`         // nil when the cluster has none
}

// Finding is one fact that needs attention, and the command that helps.
type Finding struct {
	Verdict Verdict  `json:"verdict"`
	Text    string   `json:"text"`
	Do      []string `json:"do"` // arguments of snapshotd, without those for the service and the cluster
}

// Backend is the facts about one backend of a cluster.
type Backend struct {
	Name    string    `json:"name"`
	Newest  *Snapshot `json:"newest"` // the newest that it holds whole; nil when it holds none
	Last    string    `json:"last"`   // state of the last save here: READY, FAILED, …; empty when it was not chosen
	Error   string    `json:"error"`  // why it is not READY
	Waiting int       `json:"waiting"`
	Next    time.Time `json:"next,omitzero"` // when the first of the waiting copies is tried again, at the earliest

	Kind      snapshot.BackendKind `json:"-"`
	URI       string               `json:"uri"`
	URL       string               `json:"url"`       // as it is configured, without secrets
	Snapshots int64                `json:"snapshots"` // that it holds whole; -1 when it is not known
	Bytes     int64                `json:"bytes"`     // of these; -1 when it is not known
	Free      int64                `json:"free"`      // bytes; -1 when it is not known
}

// ScheduleState is a schedule, and how it keeps to its times.
type ScheduleState struct {
	Name     string    `json:"name"`
	Cron     string    `json:"cron"`
	TimeZone string    `json:"timeZone"`
	Next     time.Time `json:"next,omitzero"` // when the run that has not ended yet is due, or was
	Ran      time.Time `json:"ran,omitzero"`  // when the last run that has stored a snapshot was due
	Last     *Snapshot `json:"last"`          // the newest that it took, whose save has ended; nil when none was examined
	Overdue  bool      `json:"overdue"`       // the next run should have ended by now
}

// Snapshot is the part of a snapshot that the overview shows; the list has the rest.
type Snapshot struct {
	Name      string    `json:"name"`
	State     string    `json:"state"`
	Trigger   string    `json:"trigger"`
	Error     string    `json:"error"`
	Created   time.Time `json:"created"`
	Seconds   float64   `json:"seconds"` // of the save
	Revision  int64     `json:"revision,string"`
	Keys      int64     `json:"keys,string"`
	Bytes     int64     `json:"bytes,string"` // of the database
	Encrypted bool      `json:"encrypted"`    // encrypted
	URI       string    `json:"uri"`          // of a whole copy

	Record *snapshot.Record `json:"-"`
}

// Proof is a drill that passed.
type Proof struct {
	Snapshot
	Time time.Time `json:"time"`
}
