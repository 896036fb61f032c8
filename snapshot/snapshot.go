package snapshot

import (
	"maps"
	"slices"
	"time"
)

// State says how much of what was asked for exists.
type State int

// The states of a snapshot. A location is never StatePartial.
const (
	StateUnspecified State = iota
	StateSaving            // the save is under way, or its owner died and is not settled yet
	StateReady             // every location holds it durably, checksum verified
	StatePartial           // some locations hold it
	StateFailed            // no location holds it
	StateDeleting          // it is being deleted
)

var stateNames = []string{"UNSPECIFIED", "SAVING", "READY", "PARTIAL", "FAILED", "DELETING"}

// String returns the state as tables, logs and docs say it: READY.
func (s State) String() string { return nameOf(stateNames, int(s)) }

// Trigger says what caused a snapshot to be taken.
type Trigger int

// The triggers of a snapshot.
const (
	TriggerUnspecified Trigger = iota
	TriggerManual
	TriggerScheduled
	TriggerAdopted
)

var triggerNames = []string{"UNSPECIFIED", "MANUAL", "SCHEDULED", "ADOPTED"}

// String returns the trigger as tables, logs and docs say it: MANUAL.
func (t Trigger) String() string { return nameOf(triggerNames, int(t)) }

// Compression says how stored objects are compressed.
type Compression int

// The compressions of a stored object. The zero value stands for the default, zstd, in a configuration.
const (
	CompressionUnspecified Compression = iota
	CompressionNone
	CompressionZstd
	CompressionZip // of K3s and RKE2; never written
)

var compressionNames = []string{"UNSPECIFIED", "NONE", "ZSTD", "ZIP"}

// String returns the compression as tables, logs and docs say it: ZSTD.
func (c Compression) String() string { return nameOf(compressionNames, int(c)) }

// BackendKind follows from the scheme of a backend's URL.
type BackendKind int

// The kinds of backend.
const (
	BackendUnspecified BackendKind = iota
	BackendLocal                   // a directory, file://
	BackendS3                      // a bucket, s3://
)

var backendKindNames = []string{"unspecified", "local", "s3"}

// String returns the kind as metrics and docs say it: local, s3.
func (k BackendKind) String() string { return nameOf(backendKindNames, int(k)) }

func nameOf(names []string, i int) string {
	if i < 0 || i >= len(names) {
		return names[0]
	}
	return names[i]
}

// Snapshot is one point-in-time copy of a cluster's keyspace. Sizes are bytes, ids and checksums lower-case hex.
type Snapshot struct {
	Name       string
	Cluster    string
	State      State
	Error      string // why it is not READY, for a person
	Labels     map[string]string
	Pinned     bool // retention leaves it alone
	Trigger    Trigger
	CreateTime time.Time // when the save began, UTC
	Duration   time.Duration
	Node       string

	EtcdVersion    string // of the member that was read
	StorageVersion string // inside the snapshot; empty below etcd 3.6
	EtcdClusterID  string
	EtcdMemberID   string

	Revision  int64 // newest in the snapshot
	TotalKeys int64 // live keys
	DBSize    int64 // what etcd sent without its trailing checksum
	SHA256    string
	Hash      uint32 // as `etcdutl snapshot status` computes it

	Compression          Compression
	EncryptionRecipients []string // public keys of those who can read the object; none when it is not encrypted

	StoredSize   int64  // of the object, the same on every backend
	StoredSHA256 string // of the object, the same on every backend

	Locations    []Location
	Verification *Verification // nil when it was never verified
	Etag         string        // the record's revision in the catalog; empty when it is not there
}

// Location is a snapshot on one backend.
type Location struct {
	Backend    string
	Kind       BackendKind
	URI        string
	Size       int64
	State      State
	Error      string
	UpdateTime time.Time
}

// Location returns the snapshot's location on a backend, or nil.
func (s *Snapshot) Location(backend string) *Location {
	for i := range s.Locations {
		if s.Locations[i].Backend == backend {
			return &s.Locations[i]
		}
	}
	return nil
}

// Clone returns a deep copy. A verification is never changed, only replaced.
func (s *Snapshot) Clone() *Snapshot {
	c := *s
	c.Labels = maps.Clone(s.Labels)
	c.Locations = slices.Clone(s.Locations)
	c.EncryptionRecipients = slices.Clone(s.EncryptionRecipients)
	return &c
}

// Record is what the catalog keeps of a snapshot.
type Record struct {
	Snapshot
	RequestID string
	Owner     string               // value of the cluster's lock while the snapshot is SAVING
	Failures  []Failure            // why the snapshot or a location is not READY, for programs
	Repairs   []Repair             // of locations whose repair was tried and has failed so far
	Damaged   []string             // backends whose copy was read and found damaged, as no listing shows it
	File      string               // key of an adopted snapshot's data, below the cluster's prefix; empty for our own
	Seen      map[string]time.Time // by backend: when the data of an adopted snapshot was last written, as its listing says
	// SupersededBy is the name of the snapshot whose save took the request over when this one's was taken for dead. It holds
	// nothing that anybody was told of.
	SupersededBy string
	Proven       time.Time // when a drill has proven it last, and none has found since that it cannot be restored; zero if none has
	KeptOn       string    // the node that keeps the snapshot, FAILED, on its own disk until a backend takes it
	Version      int64     // the catalog's revision of the record; 0 when it is not in the catalog
}

// Failure is one error of a save, kept so that a repeated request gets the same one.
type Failure struct {
	Backend string // empty when the save failed as a whole
	Reason  Reason
	Message string
}

// Clone returns a deep copy.
func (r *Record) Clone() *Record {
	c := *r
	c.Snapshot = *r.Snapshot.Clone()
	c.Failures = slices.Clone(r.Failures)
	c.Seen = maps.Clone(r.Seen)
	c.Repairs = slices.Clone(r.Repairs)
	c.Damaged = slices.Clone(r.Damaged)
	return &c
}
