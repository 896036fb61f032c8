package snapshot

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"
)

// Record is the catalog's entry for a snapshot. Its state changes through its own methods alone.
type Record struct {
	Snapshot
	RequestID string
	File      string               // key of an adopted snapshot's data, below the cluster's prefix; empty for our own
	Seen      map[string]time.Time // by backend, see Saw
	// Generation counts the changes of the manifest. A manifest with a lower one than the record is an old one that was
	// put back.
	Generation int64
	Version    int64 // the catalog's revision of the record; 0 when it is not in the catalog

	book Bookkeeping
}

// Bookkeeping is the part of a record that only its transitions change, beside the [Status] of its snapshot.
type Bookkeeping struct {
	Owner    string    // value of the cluster's lock while the snapshot is SAVING
	Failures []Failure // why the snapshot or a location is not READY, for programs
	Repairs  []Repair  // of locations whose repair was tried and has failed so far
	Damaged  []string  // backends whose copy was read and found damaged, which no listing shows
	// SupersededBy is the name of the snapshot whose save took the request over when this one's was taken for dead. No
	// caller was ever told of the copies in this record.
	SupersededBy string
	FallbackNode string // the node that has the FAILED snapshot on its own disk until a backend takes it
	// TimelineEnded says of a snapshot in an upload fallback that etcd was restored to an earlier state since: no newer
	// snapshot has its history.
	TimelineEnded bool
	Outdated      []string // backends whose manifest is older than the record, see [Record.Outdated]
}

// clone returns a copy that shares no slice: records are read by several goroutines, and amended by one.
func (b Bookkeeping) clone() Bookkeeping {
	b.Failures, b.Repairs, b.Damaged = slices.Clone(b.Failures), slices.Clone(b.Repairs), slices.Clone(b.Damaged)
	b.Outdated = slices.Clone(b.Outdated)
	return b
}

// Failure is one error of a save, kept so that a repeated request returns the same one.
type Failure struct {
	Backend string // empty when the save failed as a whole
	Reason  Reason
	Message string
}

// newFailure returns an error as the catalog keeps it.
func newFailure(backend string, err error) Failure {
	if e, ok := errors.AsType[*Error](err); ok {
		if backend == "" {
			backend = e.Backend
		}
		return Failure{Backend: backend, Reason: e.Reason, Message: err.Error()}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return Failure{Backend: backend, Reason: ReasonCancelled, Message: err.Error()}
	}
	return Failure{Backend: backend, Reason: ReasonInternal, Message: err.Error()}
}

// WithBookkeeping returns the record of a snapshot with its bookkeeping as it was stored. Decoders use it; the domain
// changes a record through its transitions.
func WithBookkeeping(s *Snapshot, b Bookkeeping) *Record {
	return &Record{Snapshot: *s, book: b.clone()}
}

// Bookkeeping returns a copy of the record's bookkeeping, as the catalog stores it.
func (r *Record) Bookkeeping() Bookkeeping { return r.book.clone() }

// Owner returns the value of the cluster's lock under which the snapshot is being saved; empty when the save is over.
func (r *Record) Owner() string { return r.book.Owner }

// Failures returns why the snapshot or a location is not READY: those of the save in the order of the configuration,
// and behind them those that were found later.
func (r *Record) Failures() []Failure { return slices.Clone(r.book.Failures) }

// Repairs returns the repairs that have failed so far.
func (r *Record) Repairs() []Repair { return slices.Clone(r.book.Repairs) }

// Damaged reports whether the bytes of the copy on a backend were read and found damaged.
func (r *Record) Damaged(backend string) bool { return slices.Contains(r.book.Damaged, backend) }

// DamagedOn returns the backends whose copy was read and found damaged, and was not replaced since.
func (r *Record) DamagedOn() []string {
	return slices.DeleteFunc(slices.Clone(r.book.Damaged), func(b string) bool { return r.Location(b) == nil })
}

// SupersededBy returns the name of the snapshot whose save took the request over; empty when none did.
func (r *Record) SupersededBy() string { return r.book.SupersededBy }

// FallbackNode returns the node that has the snapshot on its own disk because no backend took it; empty when none has.
func (r *Record) FallbackNode() string { return r.book.FallbackNode }

// TimelineEnded reports whether it is noted that no newer snapshot has the history of this one, which is in an upload
// fallback.
func (r *Record) TimelineEnded() bool { return r.book.TimelineEnded }

// Saw notes when the data of an adopted snapshot, or the manifest of another one, was last written on a backend, as the
// backend says. An object of a later listing with another time was replaced. The zero time, of a backend that did not
// say, is no note.
func (r *Record) Saw(backend string, written time.Time) {
	if written.IsZero() {
		return
	}
	if r.Seen == nil {
		r.Seen = map[string]time.Time{}
	}
	r.Seen[backend] = written.UTC()
}

// Copy returns a deep copy.
func (r *Record) Copy() *Record {
	c := *r
	c.Snapshot = *r.Clone()
	c.Seen = maps.Clone(r.Seen)
	c.book = r.book.clone()
	return &c
}

// HasOutcome reports whether a request that led to this record has its outcome. A save that was cancelled or
// interrupted has none: the request may be made again. A scheduled save has one when any backend holds the snapshot:
// repair makes the other copies.
func (r *Record) HasOutcome() bool {
	switch {
	case r.status.State == StateSaving || r.book.SupersededBy != "":
		return false
	case r.status.State != StateReady && len(r.book.Failures) > 0 &&
		(r.book.Failures[0].Reason == ReasonCancelled || r.book.Failures[0].Reason == ReasonInterrupted):
		return r.status.State == StatePartial && r.Trigger == TriggerScheduled
	}
	return true
}

// Outcome returns the error of a save that is over: nil when the snapshot is READY, else that of the first failure in
// the order of the configuration. It depends on the record alone, so that a repeated request gets the same.
func (r *Record) Outcome() error {
	if r.status.State == StateReady {
		return nil
	}
	reason, backend := ReasonInternal, ""
	var why []string
	for i, f := range r.book.Failures {
		if i == 0 {
			reason, backend = f.Reason, f.Backend
		}
		why = append(why, f.Message)
	}
	e := reason.New("save %s", r.Name).On(backend).Because(errors.New(strings.Join(why, "; ")))
	switch ready := r.ReadyOn(); {
	case len(ready) > 0:
		return e.Advise("the snapshot is whole on %s", strings.Join(ready, ", "))
	case r.book.FallbackNode != "":
		return e.Advise("the snapshot is kept on %s alone, until a backend takes it", r.book.FallbackNode)
	}
	return e.Advise("nothing was kept")
}

// Storing reports whether a backend is still being written.
func (r *Record) Storing() bool {
	return slices.ContainsFunc(r.status.Locations, func(l Location) bool { return l.State == StateSaving })
}

// WholeOn reports whether no copy of the snapshot is missing, on this backend or elsewhere.
func (r *Record) WholeOn(backend string) bool {
	l := r.location(backend)
	return r.status.State == StateReady && l != nil && l.State == StateReady
}

// Repairable reports whether copies can be made of the snapshot.
func (r *Record) Repairable() bool {
	return (r.status.State == StateReady || r.status.State == StatePartial) && r.Trigger != TriggerAdopted &&
		r.StoredSize > 0 && r.StoredSHA256 != ""
}

// HoldsObject reports whether there is an object at a location, which may be another program's empty file. A location
// of ours without a size is the note of an upload that failed, and goes without any request.
func (r *Record) HoldsObject(backend string) bool {
	return r.Location(backend).Size > 0 || r.Trigger == TriggerAdopted
}

// Orphaned reports whether a location is known never to have held anything that a caller was told of. This is not known
// of a record that was made anew from manifests.
func (r *Record) Orphaned(backend string) bool {
	for _, f := range r.book.Failures {
		if f.Backend == backend && f.Reason == ReasonCopyMissing {
			return false
		}
	}
	l := r.location(backend)
	return l != nil && (l.State == StateFailed || l.State == StateDeleting) && l.Size == 0
}

// SameStatus reports whether two records agree on their state, their locations, the node that keeps the snapshot, and
// which manifests are outdated.
func (r *Record) SameStatus(other *Record) bool {
	return r.status.State == other.status.State && slices.Equal(r.status.Locations, other.status.Locations) &&
		r.book.FallbackNode == other.book.FallbackNode && slices.Equal(r.book.Outdated, other.book.Outdated)
}
