package status

import (
	"fmt"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// verdict is a verdict in the making.
type verdict struct {
	c       Cluster
	known   *Known
	records []*snapshot.Record
	now     time.Time
	tally   Tally
	last    *snapshot.Record // the newest whose save has ended
	newest  *snapshot.Record // the newest that has a READY copy anywhere
	undated *snapshot.Record // one that was proven by a replica whose clock was ahead: nobody knows when
}

// repair are the arguments of the command that makes missing copies.
var repair = []string{"reconcile", "--repair"}

// find adds a finding: how bad it is, the command that helps, and the text.
func (v *verdict) find(how Verdict, do []string, format string, args ...any) {
	v.c.Findings = append(v.c.Findings, Finding{Verdict: how, Text: fmt.Sprintf(format, args...), Do: do})
}

// round returns a duration with about two figures.
func round(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours())/24)
	}
}

// minute returns a time for a person.
func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

// stopless returns a reason as part of a sentence.
func stopless(s string) string { return strings.TrimSuffix(strings.TrimSpace(s), ".") }
