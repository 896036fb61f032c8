package driver

import (
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// RetryAfter is when a backend that did not answer may be back.
const RetryAfter = 10 * time.Second

// Verdict is the meaning of an error.
type Verdict struct {
	Reason snapshot.Reason
	Text   string // the error in few words; never empty
	Hint   string
	Retry  time.Duration // 0 when a retry cannot help
}

// Unavailable returns the verdict that a retry may help.
func Unavailable(text, hint string) Verdict {
	return Verdict{snapshot.ReasonBackendUnavailable, text, hint, RetryAfter}
}

// NoSpace returns the verdict that a disk or bucket is full.
func NoSpace(text string) Verdict {
	return Verdict{snapshot.ReasonNoSpace, text, "free space there, or a quota is used up", time.Minute}
}

// Denied returns the verdict that access is refused, until a person has changed something.
func Denied(text, hint string) Verdict {
	return Verdict{snapshot.ReasonBackendAccessDenied, text, hint, 0}
}

// Missing returns the verdict that the directory or bucket itself is not there.
func Missing(text, hint string) Verdict {
	return Verdict{snapshot.ReasonBackendNotFound, text, hint, 0}
}
