package status

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

const (
	// proofHolds is how long the proof of a restore counts at least, as for the alert. Where scrubs that drill are rarer,
	// two of them must have been due since then.
	proofHolds = 14 * 24 * time.Hour
	// scrubGrace is how long after its time a scrub may end, as for the alert: it reads a share of all snapshots back, and
	// waits for its turn to drill.
	scrubGrace = 24 * time.Hour
)

// proof finds whether a restore was proven, not too long ago.
func (v *verdict) proof() {
	if v.newest == nil || disproved(v.newest) || v.proofIsYoung() {
		return
	}
	do, sealed := v.drilling()
	switch {
	case sealed && v.verifiedSince(time.Time{}):
		v.find(Safe, v.known.proving(v.newest), "The stored bytes were read back and are right. They are encrypted, and "+
			"the service has no identity (encryption.identity_files): a restore is proven where one is kept, and the proof "+
			"is not known here.")
	case v.c.Proven != nil:
		v.find(Attention, do, "A restore was last proven %s ago, that of %s. Drill again; a scrub with a drill does it "+
			"by itself.", round(v.now.Sub(v.c.Proven.Proven())), v.c.Proven.Name)
	case v.undated != nil:
		v.find(Attention, do, "It is not known when a restore was proven: the clock that dated the proof of %s, to %s, was "+
			"ahead. Drill again, with a clock that is right.", v.undated.Name, minute(v.undated.Proven()))
	case v.c.All:
		v.find(Attention, do, "No restore was ever proven: a snapshot is worth what its restore is worth.")
	default:
		v.find(Attention, do, "No restore of the newest %d snapshots was proven.", v.c.Examined)
	}
}

// proofIsYoung reports whether there is a proof, and none is due.
func (v *verdict) proofIsYoung() bool {
	if v.c.Proven == nil {
		return false
	}
	at := v.c.Proven.Proven()
	until := at.Add(proofHolds)
	if s := v.known.Scrub; s != nil && s.Drill {
		if second := s.Next(s.Next(at)); second.After(until) {
			until = second
		}
	}
	return !v.now.After(until)
}

// drilling is the command that drills the newest snapshot. Without an identity, the service can verify no more than the
// stored bytes of one that is sealed.
func (v *verdict) drilling() (do []string, sealed bool) {
	if v.newest.Encrypted() && !v.known.Store.Decrypts {
		return []string{"verify", v.newest.Name}, true
	}
	return []string{"verify", v.newest.Name, "--level", "drill"}, false
}

// verifiedSince reports whether a snapshot has passed a verification after a time; at any time when that is zero. One
// that was dated by a clock which was ahead is not known to be after any.
func (v *verdict) verifiedSince(at time.Time) bool {
	return slices.ContainsFunc(v.known.seen(), func(rec *snapshot.Record) bool {
		passed := rec.Verification
		return passed != nil && passed.Passed && (at.IsZero() || passed.Time.After(at) && !snapshot.Ahead(passed.Time, v.now))
	})
}

// scrub finds that the last scrub has failed, or that none has ended for long.
func (v *verdict) scrub() {
	s := v.known.Scrub
	if s == nil || v.newest == nil {
		return
	}
	do, _ := v.drilling()
	if s.Last.Error != "" {
		how, until := Attention, "It is told until a scrub has found all good; after this command has passed, as a remark."
		if v.mendedSince(s.Last.Time) {
			how, until = Safe, "What was verified since then has passed. It is told until a scrub has found all good."
		}
		v.find(how, do, "The last scrub failed, %s ago: %s. %s",
			round(max(0, v.now.Sub(s.Last.Time))), inShort(s.Last.Error), until)
	}
	due := s.Last.Due
	if due.IsZero() || due.After(v.now) { // the first leader has not begun it, or a clock was wrong
		return
	}
	if next := s.Next(due); v.now.Sub(next) > s.Jitter+scrubGrace {
		v.find(Attention, do, "The scrub (%s) was due %s ago, at %s, and has not ended. It waits for its turn to drill, or "+
			"takes that long, or no replica leads: the log of the leader has what it does.",
			s.Cron, round(v.now.Sub(next)), minute(next))
	}
}

// mendedSince reports whether what a scrub verifies has passed since one that failed. Where it drills, that is a drill
// if the service can decrypt.
func (v *verdict) mendedSince(at time.Time) bool {
	if slices.ContainsFunc(v.known.seen(), failedVerification) {
		return false
	}
	if _, sealed := v.drilling(); v.known.Scrub.Drill && !sealed {
		return v.c.Proven != nil && v.c.Proven.Proven().After(at)
	}
	return v.verifiedSince(at)
}

// inShort returns the first of several errors, and how many others there are.
func inShort(errs string) string {
	all := strings.Split(strings.TrimSpace(errs), "\n")
	text := stopless(all[0])
	if others := len(all) - 1; others > 0 {
		text += fmt.Sprintf(" (and %d more, which are in the log)", others)
	}
	return text
}
