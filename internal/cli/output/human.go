package output

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/internal/bytesize"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// Size returns a number of bytes for a person.
func Size(n int64) string {
	if n <= 0 {
		return "-"
	}
	return bytesize.Format(n)
}

// Number returns a count, or a dash for an unknown one.
func Number(n int64) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatInt(n, 10)
}

// Count returns a count that is known, also of nothing.
func Count(n int64) string {
	if n == 0 {
		return "no"
	}
	return strconv.FormatInt(n, 10)
}

// Exact returns a time with its milliseconds.
func Exact(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// Age returns a duration in the largest unit that is precise enough.
func Age(d time.Duration) string {
	switch {
	case d < 0:
		return "0s" // the clocks differ
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	default:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
}

// Took returns a duration for a person.
func Took(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	default:
		return d.Round(time.Second).String()
	}
}

// State returns the name of a state as tables show it.
func State(s snapshotdv1.Snapshot_State) string {
	return strings.TrimPrefix(s.String(), "STATE_")
}

// OrDash returns a dash for an empty cell of a table.
func OrDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// WithReason returns a text with the reason behind it, if there is one.
func WithReason(text, reason string) string {
	if reason == "" {
		return text
	}
	return text + ": " + reason
}
