package console

import "time"

// Overview is what the page says at a glance. It is of the service and its page alone, and no part of the API.
type Overview struct {
	Version  string    `json:"version"`
	Time     time.Time `json:"time"` // by the service's clock, which ages are counted by
	GRPC     string    `json:"grpc"` // where the commands that the page shows find the service
	TLS      bool      `json:"tls"`
	Clusters []Cluster `json:"clusters"`
}

// Verdict says how well a cluster's snapshots would serve in a disaster.
type Verdict string

// The verdicts, the best first.
const (
	Safe      Verdict = "safe"
	Attention Verdict = "attention"
	Danger    Verdict = "danger"
	Unknown   Verdict = "unknown"
)

// Cluster is what is known of a cluster's snapshots.
type Cluster struct {
	Name     string    `json:"name"`
	Verdict  Verdict   `json:"verdict"`
	Findings []Finding `json:"findings"` // the worst first
	Backends []Backend `json:"backends"` // in the order of the configuration
	Newest   *Snapshot `json:"newest"`   // the newest that is READY and was not found damaged; nil when there is none
	LastSave *Snapshot `json:"lastSave"` // the newest whose save has ended, whatever came of it
	Proven   *Proof    `json:"proven"`   // the newest proof that a snapshot can be restored; nil when there is none
	Saving   *Snapshot `json:"saving"`   // the save under way, or one that nobody has settled yet
	Mark     string    `json:"mark"`     // changes when one of those that were looked at does
	Looked   int       `json:"looked"`   // at how many snapshots, the newest
	All      bool      `json:"all"`      // whether there are no more
}

// Finding is one thing that is to be known, and what to do about it.
type Finding struct {
	Verdict Verdict  `json:"verdict"`
	Text    string   `json:"text"`
	Do      []string `json:"do"` // arguments of snapshotd, without those that say which service and cluster
}

// Backend is what one backend holds of a cluster.
type Backend struct {
	Name    string    `json:"name"`
	Newest  *Snapshot `json:"newest"` // the newest that it holds whole; nil when it holds none
	Last    string    `json:"last"`   // what became there of the last save: READY, FAILED, …; empty when it was not to go there
	Error   string    `json:"error"`  // why
	Waiting int       `json:"waiting"`
	Next    time.Time `json:"next,omitzero"` // when the first of the waiting copies is tried again, at the earliest
}

// Snapshot is what the glance shows of one; the list has the rest.
type Snapshot struct {
	Name     string    `json:"name"`
	State    string    `json:"state"`
	Trigger  string    `json:"trigger"`
	Error    string    `json:"error"`
	Created  time.Time `json:"created"`
	Seconds  float64   `json:"seconds"` // that the save took
	Revision int64     `json:"revision,string"`
	Keys     int64     `json:"keys,string"`
	Bytes    int64     `json:"bytes,string"` // of the database
	Sealed   bool      `json:"sealed"`       // encrypted
	URI      string    `json:"uri"`          // of a whole copy
}

// Proof is a restore that went well.
type Proof struct {
	Snapshot
	Time time.Time `json:"time"`
}
