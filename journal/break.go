package journal

import "github.com/snapshotd/snapshotd/journal/segment"

// breakError ends a session: the history goes on in another timeline. The member is not at fault, and is followed again
// (Follow).
type breakError struct {
	cause  segment.Cause
	reason string
}

func (e *breakError) Error() string { return e.reason }

// broken returns the error with its reason as segments have it: the cause is the first word.
func broken(c segment.Cause, format string, args ...any) *breakError {
	return &breakError{c, c.Reason(format, args...)}
}
