package snapshot

import "time"

// JournalNotes is what the leader has noted of a cluster's journal in the catalog, so that all replicas can tell it
// without asking the backends.
type JournalNotes struct {
	Breaks []JournalBreak // the oldest first
	Drill  *JournalDrill  // the last one; nil when there was none
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
	if b.OtherHistory || b.After == 0 || b.Before == 0 {
		return 0
	}
	return max(0, b.Before-b.After-1)
}

// JournalDrill is the restore of one revision into a throw-away etcd, from a snapshot and the journal.
type JournalDrill struct {
	Revision int64
	Timeline string
	Base     string // name of the snapshot
	Verdict  Verification
}
