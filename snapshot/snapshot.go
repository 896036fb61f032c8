package snapshot

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// State says how much of a snapshot exists.
type State int

// The states of a snapshot. A location is never StatePartial.
const (
	StateUnspecified State = iota
	StateSaving            // the save is under way, or its replica died and reconcile has not seen it yet
	StateReady             // every location holds it durably, checksum verified
	StatePartial           // some locations hold it
	StateFailed            // no location holds it
	StateDeleting          // it is being deleted
)

var stateNames = []string{"UNSPECIFIED", "SAVING", "READY", "PARTIAL", "FAILED", "DELETING"}

// String returns the state as tables, logs and docs print it: READY.
func (s State) String() string { return nameOf(stateNames, int(s)) }

// Trigger says why a snapshot was taken.
type Trigger int

// The triggers of a snapshot.
const (
	TriggerUnspecified Trigger = iota
	TriggerManual
	TriggerScheduled
	TriggerAdopted // another program took it
)

var triggerNames = []string{"UNSPECIFIED", "MANUAL", "SCHEDULED", "ADOPTED"}

// String returns the trigger as tables, logs and docs print it: MANUAL.
func (t Trigger) String() string { return nameOf(triggerNames, int(t)) }

// ParseTrigger returns the trigger of a name, TriggerUnspecified for an unknown one.
func ParseTrigger(name string) Trigger { return Trigger(max(0, slices.Index(triggerNames, name))) }

// Compression says how stored objects are compressed.
type Compression int

// The compressions of a stored object. In a configuration the zero value means the default, zstd.
const (
	CompressionUnspecified Compression = iota
	CompressionNone
	CompressionZstd
	CompressionZip // of K3s and RKE2; it is read and never written
)

var compressionNames = []string{"UNSPECIFIED", "NONE", "ZSTD", "ZIP"}

// String returns the compression as tables, logs and docs print it: ZSTD.
func (c Compression) String() string { return nameOf(compressionNames, int(c)) }

// ParseCompression returns the compression of a name, CompressionUnspecified for an unknown one.
func ParseCompression(name string) Compression {
	return Compression(max(0, slices.Index(compressionNames, name)))
}

// BackendKind follows from the scheme of a backend's URL.
type BackendKind int

// The kinds of backend.
const (
	BackendUnspecified BackendKind = iota
	BackendLocal                   // a directory, file://
	BackendS3                      // a bucket, s3://
)

var backendKindNames = []string{"unspecified", "local", "s3"}

// String returns the kind as metrics and docs print it: local, s3.
func (k BackendKind) String() string { return nameOf(backendKindNames, int(k)) }

// nameOf returns the name of a value, or that of the unspecified one when a newer version has stored the value.
func nameOf(names []string, i int) string {
	if i < 0 || i >= len(names) {
		return names[0]
	}
	return names[i]
}

// Snapshot is one point-in-time copy of a cluster's keyspace. Sizes are bytes, ids and checksums lower-case hex.
//
// State, error and locations have no exported fields: the methods of [Record] change them, and nothing else does.
type Snapshot struct {
	Name       string
	Cluster    string
	Labels     map[string]string
	Pinned     bool // retention leaves it alone
	Trigger    Trigger
	Schedule   string    // that took it; empty when none did
	TraceID    string    // of the trace of the save, 32 hex digits; empty when there is none
	CreateTime time.Time // when the save began, UTC
	Duration   time.Duration
	Node       string

	EtcdVersion    string // of the member that was read
	StorageVersion string // inside the snapshot; empty below etcd 3.6
	EtcdClusterID  string
	EtcdMemberID   string

	Revision int64 // newest in the snapshot
	// OldestRevision is the first to which it can be taken back: that of the last compaction, or 1; 0 when it is not
	// known.
	OldestRevision int64
	TotalKeys      int64 // live keys
	DBSize         int64 // as etcd sent it, without its trailing checksum
	SHA256         string
	Hash           uint32 // as `etcdutl snapshot status` computes it
	// Alarms are those inside the database, such as "NOSPACE 8e9e05c52164694d": the name and the member. An etcd that is
	// restored with one refuses writes. None also when the database was not looked at.
	Alarms []string

	Compression          Compression
	EncryptionRecipients []string // public keys that can decrypt the object; none when it is not encrypted

	StoredSize   int64  // of the object, the same on every backend
	StoredSHA256 string // of the object, the same on every backend

	Verification *Verification // nil when it was never verified; replaced as a whole, never changed
	// Earlier are the verdicts before Verification, newest first, at most [MaxEarlier]; replaced as a whole, never
	// changed.
	Earlier []Verification
	Proof   *Verification // the last drill that passed; nil when none has; replaced as a whole, never changed
	// JournalProof is the verdict on the journal before the snapshot: whether it makes this one of a snapshot before. nil
	// when that was not checked; replaced as a whole, never changed.
	JournalProof *Verification
	Etag         string // the record's revision in the catalog; empty when it is not there

	status Status
}

// Status is the part of a snapshot that changes after its save: its state and its locations.
type Status struct {
	State     State
	Error     string // why it is not READY, for a person
	Locations []Location
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

// WithStatus returns a snapshot with a status as it was stored or sent. Decoders use it; the domain changes a status
// only through the methods of [Record].
func WithStatus(s Snapshot, st Status) *Snapshot {
	st.Locations = slices.Clone(st.Locations)
	s.status = st
	return &s
}

// State returns how much of the snapshot exists.
func (s *Snapshot) State() State { return s.status.State }

// ErrorText returns why the snapshot is not READY, for a person.
func (s *Snapshot) ErrorText() string { return s.status.Error }

// Locations returns a copy of the locations, in the order of the configuration at the time of the save.
func (s *Snapshot) Locations() []Location { return slices.Clone(s.status.Locations) }

// Location returns a copy of the snapshot's location on a backend, or nil.
func (s *Snapshot) Location(backend string) *Location {
	if l := s.location(backend); l != nil {
		c := *l
		return &c
	}
	return nil
}

func (s *Snapshot) location(backend string) *Location {
	for i := range s.status.Locations {
		if s.status.Locations[i].Backend == backend {
			return &s.status.Locations[i]
		}
	}
	return nil
}

// Backends returns the names of the backends of all locations.
func (s *Snapshot) Backends() []string {
	var names []string
	for _, l := range s.status.Locations {
		names = append(names, l.Backend)
	}
	return names
}

// ReadyOn returns the names of the backends whose location is READY.
func (s *Snapshot) ReadyOn() []string {
	var names []string
	for _, l := range s.status.Locations {
		if l.State == StateReady {
			names = append(names, l.Backend)
		}
	}
	return names
}

// Proven returns when the drill was that proves the snapshot; zero when none has passed, or when a verification since
// then has found that the content cannot be restored.
func (s *Snapshot) Proven() time.Time {
	if s.Proof == nil || s.Proof.Error != "" {
		return time.Time{}
	}
	return s.Proof.Time
}

// Encrypted reports whether the snapshot's object is encrypted.
func (s *Snapshot) Encrypted() bool { return len(s.EncryptionRecipients) > 0 }

// Clone returns a deep copy.
func (s *Snapshot) Clone() *Snapshot {
	c := *s
	c.Labels = maps.Clone(s.Labels)
	c.status.Locations = slices.Clone(s.status.Locations)
	c.EncryptionRecipients = slices.Clone(s.EncryptionRecipients)
	c.Alarms = slices.Clone(s.Alarms)
	return &c
}

// Join lists names for a person.
func Join(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
