package snapshot

import (
	"strings"
	"time"
)

// Level says how far a copy is verified. Each level includes those before it.
type Level int

// The levels; their numbers are those of the API.
const (
	LevelUnspecified Level = iota
	LevelChecksum          // every byte is read back and compared with its checksums
	LevelStructure         // every page and key is read: revision, number of keys and hash are those of the manifest
	LevelDrill             // it is restored into a throw-away etcd, which is started, queried, and written to
)

var levelNames = []string{"UNSPECIFIED", "CHECKSUM", "STRUCTURE", "DRILL"}

// String returns the name as tables, logs and docs print it: CHECKSUM.
func (l Level) String() string { return nameOf(levelNames, int(l)) }

// MemberRoom is how many bytes an etcd needs on the disk beside its database, to be restored and to start: 64 MB are
// for the first file of its log. It makes a second file when there is room, and works without one.
const MemberRoom = 65_000_000

// Room returns how many bytes a verification needs on the disk for a database of the given size.
func (l Level) Room(size int64) int64 {
	switch {
	case l <= LevelChecksum:
		return 0
	case l == LevelDrill:
		return size + MemberRoom
	}
	return size
}

// Verification is a verdict on a snapshot.
type Verification struct {
	Level    Level
	Passed   bool
	Error    string // why it did not pass
	Time     time.Time
	Duration time.Duration
	Backends []string // whose copies were verified
	HashKV   uint32   // etcd's HashKV at the snapshot's revision, from a drill
	Live     string   // of a drill: whether HashKV was compared with that of the live cluster, or why not

	Disarmed []string // of a drill: alarms that kept the restored etcd from writing, as Snapshot.Alarms has them

	StoredOnly bool // it is encrypted, and its stored bytes were compared because there was no identity to decrypt it
}

// MaxEarlier is how many verdicts a snapshot has besides its last one. All of them are in each answer about it.
const MaxEarlier = 5

// maxEarlierError is the most bytes of an error in an earlier verdict. The log has all of it.
const maxEarlierError = 300

// earlier returns a verdict as it is kept after the next one.
func (v *Verification) earlier() Verification {
	e := *v
	e.Live, e.Disarmed = "", nil
	if len(e.Error) > maxEarlierError {
		e.Error = strings.ToValidUTF8(e.Error[:maxEarlierError], "") + " …"
	}
	return e
}

// Proves reports whether the verdict is that of a drill that has passed.
func (v *Verification) Proves() bool {
	return v != nil && v.Passed && v.Level == LevelDrill && !v.StoredOnly
}
