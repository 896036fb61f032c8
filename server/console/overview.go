package console

import "time"

// Overview is the content of the page at a glance. It is between the service and its page, and not part of the API.
type Overview struct {
	Version  string    `json:"version"`
	Time     time.Time `json:"time"` // of the service's clock; ages count from it
	GRPC     string    `json:"grpc"` // address for the commands that the page shows
	TLS      bool      `json:"tls"`
	Clusters []Cluster `json:"clusters"`
}

// Verdict says how well the snapshots of a cluster would serve in a disaster.
type Verdict string

// The verdicts, best first.
const (
	Safe      Verdict = "safe"
	Attention Verdict = "attention"
	Danger    Verdict = "danger"
	Unknown   Verdict = "unknown"
)

// Cluster is the verdict on a cluster, and its facts.
type Cluster struct {
	Name     string    `json:"name"`
	Verdict  Verdict   `json:"verdict"`
	Findings []Finding `json:"findings"` // worst first
	Backends []Backend `json:"backends"` // in the order of the configuration
	Newest   *Snapshot `json:"newest"`   // the newest that is READY and was not found damaged; nil when there is none
	LastSave *Snapshot `json:"lastSave"` // the newest whose save has ended in any way
	Proven   *Proof    `json:"proven"`   // the newest proof that a snapshot can be restored; nil when there is none
	Saving   *Snapshot `json:"saving"`   // the save under way, or one whose replica died
	Mark     string    `json:"mark"`     // changes when one of the examined records does
	Examined int       `json:"examined"` // how many records, the newest, the verdict is based on
	All      bool      `json:"all"`      // there are no other records
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
}

// Proof is a drill that passed.
type Proof struct {
	Snapshot
	Time time.Time `json:"time"`
}
