package segment

import (
	"fmt"
	"strings"
)

// Cause is why a history could not be continued, so that revisions are missing or another timeline begins. It is the
// first word of the reason in a header, and a label of metrics: no cause is ever renamed, and readers of other versions
// take one that they do not know for none.
type Cause string

// The causes.
const (
	CauseRestored  Cause = "restored"  // etcd is at a revision before the newest in the journal
	CauseDifferent Cause = "different" // a revision that is in the journal is another one now
	CauseCompacted Cause = "compacted" // etcd does not have the next revision any more
	CauseBehind    Cause = "behind"    // too much was missed for etcd to send it again without harm
	CauseFull      Cause = "full"      // a backend, or all, took nothing of the journal until its disk was full
	CauseOvertaken Cause = "overtaken" // a backend has a later timeline, which another replica began
	CauseDamaged   Cause = "damaged"   // files on a replica's disk could not be read, and no backend has their revisions
)

// Causes returns all causes.
func Causes() []Cause {
	return []Cause{CauseRestored, CauseDifferent, CauseCompacted, CauseBehind, CauseFull, CauseOvertaken, CauseDamaged}
}

// Alarming reports whether a cause means that the cluster has another history than before.
func (c Cause) Alarming() bool { return c == CauseRestored || c == CauseDifferent }

// Reason is the text of a cause, as segments have it.
func (c Cause) Reason(format string, args ...any) string {
	return string(c) + ": " + fmt.Sprintf(format, args...)
}

// CauseOf returns the cause in the reason of a segment; empty when it has none.
func CauseOf(reason string) Cause {
	word, _, _ := strings.Cut(reason, ":")
	for _, c := range Causes() {
		if word == string(c) {
			return c
		}
	}
	return ""
}
