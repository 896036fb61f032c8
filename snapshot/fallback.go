package snapshot

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A snapshot that no backend took stays on the disk of the replica that saved it: its upload fallback. The record says
// on which node, and these are the transitions of that.

// HasFallback reports whether the replica of the node has a snapshot as its upload fallback, and no backend has it.
func (n Node) HasFallback(rec *Record) bool {
	return rec.State() == StateFailed && rec.FallbackNode() == string(n)
}

// FallbackElsewhere returns why something cannot be done about a snapshot that the disk of another node alone has; nil
// when none has.
func (n Node) FallbackElsewhere(rec *Record, format string, args ...any) error {
	node := rec.FallbackNode()
	if node == "" || n.HasFallback(rec) || rec.State() != StateFailed {
		return nil
	}
	return ReasonBackendOnOtherNode.
		New("%s: the disk of node %s alone has it, until a backend takes it, and this is the replica of node %s",
			fmt.Sprintf(format, args...), node, n).
		Advise("ask the replica of node %s (--addr); "+
			"if that node is gone for ever, reconcile --retire-node %s gives up what only its disk has", node, node)
}

// SetFallback notes the node that has the snapshot, which no backend took, on its own disk; empty when none has it.
func (r *Record) SetFallback(node string) {
	if r.book.FallbackNode = node; node == "" {
		r.book.TimelineEnded = false
	}
	r.derive()
}

// EndTimeline notes that the history of a snapshot in the upload fallback has ended, as [Snapshot.EndsTimelineOf] says.
// It reports whether that is new: what shows it may be forgotten before the snapshot is delivered.
func (r *Record) EndTimeline() (changed bool) {
	changed = !r.book.TimelineEnded
	r.book.TimelineEnded = true
	return changed
}

// Keep makes the record of a snapshot that no backend took say that a node has it on its own disk, as the manifest
// there describes it. A save that was killed could not say so, and its record may lack all that was not known when it
// began. Keep reports whether that changed anything.
func (r *Record) Keep(node string, found *Record) (changed bool) {
	if r.status.State == StateFailed && r.book.FallbackNode == node && r.StoredSHA256 != "" {
		return false
	}
	saving, why := r.status.State == StateSaving, ""
	if saving {
		why = r.AssumeNothing()
	}
	failures, repairs := r.book.Failures, r.book.Repairs
	r.Learn(found)
	r.book.Failures, r.book.Repairs = failures, repairs
	for i := range r.status.Locations {
		l := &r.status.Locations[i]
		l.Error, _, _ = strings.Cut(l.Error, fallbackLost) // the disk is back
	}
	if r.SetFallback(node); saving {
		r.ConcludeInterrupted(why)
	}
	return true
}

// fallbackLost begins the note that a location has when the upload fallback is lost.
const fallbackLost = "; it was kept on "

// LoseFallback notes that the disk which alone had the snapshot does not have it any more: nothing is left of it.
func (r *Record) LoseFallback() {
	note := fallbackLost + r.book.FallbackNode + ", and is lost"
	i := slices.IndexFunc(r.status.Locations, func(l Location) bool { return l.State == StateFailed })
	if i >= 0 {
		r.status.Locations[i].Error += note // the error of the record is made of those of its locations
	}
	r.SetFallback("")
}

// fallbackNote says where a FAILED snapshot is though no backend has it.
func (r *Record) fallbackNote() string {
	if r.status.State != StateFailed || r.book.FallbackNode == "" {
		return ""
	}
	return fmt.Sprintf("; it is kept on %s until a backend takes it", r.book.FallbackNode)
}

// Supersedes reports whether this snapshot makes an older one of the same history useless: it is of the same etcd, has
// no lower revision, and was taken later. A time in the future was set by a wrong clock: an older snapshot with such a
// time is judged by its revision alone, and a newer one makes none useless.
func (s *Snapshot) Supersedes(older *Snapshot, now time.Time) bool {
	if s.EtcdClusterID != older.EtcdClusterID || s.Revision < older.Revision || s.InFuture(now) {
		return false
	}
	return s.CreateTime.After(older.CreateTime) || older.InFuture(now)
}

// EndsTimelineOf reports whether etcd was restored to an earlier state since an earlier snapshot was taken: this one is
// of the same etcd, was taken later, and has a lower revision. The history of the earlier one has ended then, and no
// later snapshot has it, whatever its revision. One with a time in the future, which a wrong clock has set, shows
// nothing.
func (s *Snapshot) EndsTimelineOf(earlier *Snapshot, now time.Time) bool {
	return s.EtcdClusterID == earlier.EtcdClusterID && 0 < s.Revision && s.Revision < earlier.Revision &&
		s.CreateTime.After(earlier.CreateTime) && !s.InFuture(now)
}

// InFuture reports whether the time of a snapshot was set by a clock that was ahead.
func (s *Snapshot) InFuture(now time.Time) bool { return s.CreateTime.Sub(now) > ClockTolerance }
