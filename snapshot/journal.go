package snapshot

import (
	"slices"
	"time"
)

// JournalNotes is what the leader has noted of a cluster's journal in the catalog, so that all replicas can tell it
// without asking the backends.
type JournalNotes struct {
	Breaks  []JournalBreak  // the oldest first
	Drill   *JournalDrill   // the last one; nil when there was none
	Trouble *JournalTrouble // nil when no leader has noted whether there is any
}

// JournalTrouble is where the journal is behind or damaged, as a leader has noted it when that changed.
type JournalTrouble struct {
	Node   string // the leader
	Points []JournalPoint
}

// Is reports whether two tell the same, of times that differ by less than a while.
func (t *JournalTrouble) Is(other *JournalTrouble, while time.Duration) bool {
	return t.Node == other.Node && slices.EqualFunc(t.Points, other.Points, func(a, b JournalPoint) bool {
		moved := a.Complete.Sub(b.Complete).Abs()
		a.Complete = b.Complete
		return a == b && moved < while
	})
}

// JournalBehind is how old the recovery point of a journal may be. It is seconds while all is well.
const JournalBehind = 5 * time.Minute

// RecoveryPoint is how old the newest moment is that could be restored from a place of the journal.
type RecoveryPoint struct {
	Backend string // empty for this machine's disk
	Age     time.Duration
	Error   string // why the last upload failed; empty when it did not
	Damaged int64  // segments that are damaged there, as far as they were read back
}

// JournalPoint is a place where the journal is behind or damaged.
type JournalPoint struct {
	Backend  string    // empty for the leader's disk
	Complete time.Time // all that was committed before is there; zero when the journal is not behind there
	Error    string    // why the last upload failed
	Damaged  int64     // segments
}

// MaxJournalBreaks is how many breaks are kept, the newest.
const MaxJournalBreaks = 50

// JournalBreak is a place where a journal does not go on: revisions are missing, or another history begins.
type JournalBreak struct {
	Timeline              string // that begins or goes on behind it
	After, Before         int64  // the last revision before it, and the first behind; 0 when that is not known
	AfterTime, BeforeTime time.Time
	Reason                string // its first word is the cause
	OtherHistory          bool   // etcd was restored
	Backend               string // that alone lacks the revisions; empty when all do
}

// Lost returns how many revisions are missing between two that are known.
func (b *JournalBreak) Lost() int64 {
	if b.OtherHistory || b.Unknown() {
		return 0
	}
	return max(0, b.Before-b.After-1)
}

// Unknown reports whether a revision beside it is not known.
func (b *JournalBreak) Unknown() bool { return b.After == 0 || b.Before == 0 }

// JournalDrill is the restore of one revision into a throw-away etcd, from a snapshot and the journal.
type JournalDrill struct {
	Revision int64
	Timeline string
	Base     string // name of the snapshot
	Verdict  Verification
}
