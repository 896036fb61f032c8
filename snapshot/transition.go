package snapshot

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// The transitions of a record. Each of them leaves the state of the snapshot in agreement with its locations, so that
// no caller can leave the two apart. Most of them derive it. A save under way stays SAVING until it is concluded, and
// one that was given up is FAILED at once.

// NewSave returns the record of a save that begins: SAVING on each of the chosen backends.
func NewSave(s Snapshot, requestID, owner string, chosen []Location) *Record {
	s.status.State = StateSaving
	for _, l := range chosen {
		l.State, l.UpdateTime = StateSaving, s.CreateTime
		s.status.Locations = append(s.status.Locations, l)
	}
	return &Record{Snapshot: s, RequestID: requestID, Generation: 1, book: Bookkeeping{Owner: owner}}
}

// ClockStep is by how much a clock may be set back without a word: a snapshot of a schedule that is ahead by no more is
// still the outcome of its run.
const ClockStep = time.Minute

// FoundAgain takes the request from a record that is made anew from files, unless the snapshot still is its outcome.
// Another etcd than the live one has not made the request. A clock that was ahead has saved for runs that are still to
// come. A request that is repeated then makes one snapshot too many, which is no lie.
func (r *Record) FoundAgain(liveEtcd func() string, now time.Time) {
	toCome := r.Schedule != "" && r.CreateTime.Sub(now) > ClockStep
	if r.RequestID != "" && (toCome || r.EtcdClusterID != liveEtcd()) {
		r.RequestID = ""
	}
}

// SetName gives the snapshot of a save its name; uri returns where its data is then on a backend.
func (r *Record) SetName(name string, uri func(backend string) string) {
	r.Name = name
	for i := range r.status.Locations {
		r.status.Locations[i].URI = uri(r.status.Locations[i].Backend)
	}
}

// Written notes that a chosen backend holds the snapshot, or with an error that it does not.
func (r *Record) Written(backend string, err error, now time.Time) {
	l := r.location(backend)
	if l == nil {
		return
	}
	r.forgetFailures(backend)
	l.UpdateTime = now.UTC()
	if err != nil {
		l.State, l.Error, l.Size = StateFailed, err.Error(), 0
		r.book.Failures = append(r.book.Failures, newFailure(backend, err))
	} else {
		l.State, l.Error, l.Size = StateReady, "", r.StoredSize
	}
	r.derive()
}

// Abort notes that no backend holds the snapshot, because the database could not be read, verified or spooled.
func (r *Record) Abort(err error, now time.Time) {
	for i := range r.status.Locations {
		l := &r.status.Locations[i]
		l.State, l.Error, l.Size, l.UpdateTime = StateFailed, err.Error(), 0, now.UTC()
	}
	r.book.Failures = nil
}

// Conclude ends the save. whole is why it failed as a whole; nil when the errors of the backends are all there is to
// say.
func (r *Record) Conclude(d time.Duration, whole error) {
	r.book.Owner, r.Duration, r.status.State = "", d, StateFailed
	slices.SortStableFunc(r.book.Failures, func(a, b Failure) int { return r.order(a.Backend) - r.order(b.Backend) })
	if whole != nil {
		r.book.Failures = append([]Failure{newFailure("", whole)}, r.book.Failures...)
	}
	r.derive()
	if whole != nil && r.status.State != StateReady {
		r.status.Error = whole.Error() + r.fallbackNote()
	}
}

// order returns the place of a backend among the locations.
func (r *Record) order(backend string) int {
	return slices.IndexFunc(r.status.Locations, func(l Location) bool { return l.Backend == backend })
}

// AssumeNothing begins to reconcile a save whose replica died: no location holds anything until its backend shows
// otherwise. It returns why, for [Record.ConcludeInterrupted].
func (r *Record) AssumeNothing() (why string) {
	why = fmt.Sprintf("the replica that was saving it (%s) died or lost its lease", r.book.Owner)
	for i := range r.status.Locations {
		r.status.Locations[i].State, r.status.Locations[i].Error = StateFailed, why
	}
	r.status.State = StateFailed
	return why
}

// ConcludeInterrupted ends a save whose replica died, after its locations were compared with the backends.
func (r *Record) ConcludeInterrupted(why string) {
	r.book.Owner = ""
	if r.derive(); r.status.State != StateReady {
		r.book.Failures = []Failure{{Reason: ReasonInterrupted, Message: why}}
	}
}

// SupersedeBy returns the record as it is once another save has taken its request over, by the name of that snapshot. A
// snapshot that is whole somewhere may be known to a caller, and its record stays as it is.
func (r *Record) SupersedeBy(name string) *Record {
	if r.status.State == StateReady || r.status.State == StatePartial || r.status.State == StateDeleting {
		return r
	}
	next := r.Copy()
	if r.status.State == StateSaving {
		why := next.AssumeNothing()
		for i := range next.status.Locations {
			next.status.Locations[i].Size = 0
		}
		next.status.Error = why
		next.book.Owner, next.book.Failures = "", []Failure{{Reason: ReasonInterrupted, Message: why}}
	}
	next.book.SupersededBy = name
	return next
}

// Yield notes that another save has taken the request over, under another name, while this one was taken for dead. The
// copies stay until that snapshot is whole; [Record.CopyRemoved] notes those that are gone.
func (r *Record) Yield(name string, why error, now time.Time) {
	for i := range r.status.Locations {
		if l := &r.status.Locations[i]; l.State == StateReady {
			l.State, l.Error, l.UpdateTime = StateFailed, why.Error(), now.UTC()
		}
	}
	r.book.SupersededBy = name
	r.book.Failures = append([]Failure{newFailure("", why)}, r.book.Failures...)
	r.status.State, r.status.Error = StateFailed, why.Error()
}

// CopyRemoved notes that the copy of a FAILED location is gone.
func (r *Record) CopyRemoved(backend string) {
	if l := r.location(backend); l != nil && l.State == StateFailed {
		l.Size = 0
	}
}

// Reinstate makes the snapshot that of its request again: the save that had taken the request over came to nothing.
func (r *Record) Reinstate() { r.book.SupersededBy = "" }

// Found notes a location as its backend shows it, and reports whether that changed anything.
func (r *Record) Found(l Location) (changed bool) {
	have := r.location(l.Backend)
	switch {
	case have == nil:
		r.status.Locations = append(r.status.Locations, l)
	case have.State == l.State && have.Size == l.Size && have.Error == l.Error:
		return false
	default:
		*have = l
	}
	r.derive()
	return true
}

// Missed notes a location that does not hold the snapshot though it should, and why, also for programs.
func (r *Record) Missed(l Location, reason Reason) {
	l.State = StateFailed
	r.book.Failures = append(r.book.Failures, Failure{Backend: l.Backend, Reason: reason, Message: l.Error})
	r.Found(l)
}

// Learn takes in the facts that only the manifest knows: all of them after a save whose replica died, and an update of
// the snapshot that the catalog has forgotten because it came back from the past.
func (r *Record) Learn(found *Record) {
	switch {
	case r.StoredSHA256 == "":
		r.Describe(found)
	case found.Generation > r.Generation && found.StoredSHA256 == r.StoredSHA256:
		r.Labels, r.Pinned, r.Generation = found.Labels, found.Pinned, found.Generation
	}
}

// Describe fills in the facts that only the manifest knows. Locations stay.
func (r *Record) Describe(found *Record) {
	was := *r
	*r = *found.Copy()
	r.status, r.Version, r.Etag = was.status, was.Version, was.Etag
	r.book = Bookkeeping{Owner: was.book.Owner, SupersededBy: was.book.SupersededBy}
}

// Drop removes the locations for which gone is true, and all that was noted about them.
func (r *Record) Drop(gone func(Location) bool) {
	for _, l := range r.Locations() {
		if gone(l) {
			r.status.Locations = slices.DeleteFunc(r.status.Locations, func(o Location) bool { return o.Backend == l.Backend })
			r.forgetFailures(l.Backend)
			r.SetOutdated(l.Backend, false)
		}
	}
	r.derive()
}

// DropBackend removes the location on one backend.
func (r *Record) DropBackend(backend string) {
	r.Drop(func(l Location) bool { return l.Backend == backend })
}

// Deleting notes that the removal of a copy begins, or that of data which no caller was told of.
func (r *Record) Deleting(backend string, now time.Time) {
	l := r.location(backend)
	if l == nil {
		return
	}
	l.State, l.UpdateTime = StateDeleting, now.UTC()
	if l.Size > 0 {
		l.Error = ""
	}
	r.derive()
}

// RemovalFailed notes why a copy that is being removed is still there.
func (r *Record) RemovalFailed(backend string, err error) {
	if l := r.location(backend); l != nil {
		l.Error = err.Error()
	}
}

// CopyFailed notes that a READY copy is not the snapshot's. bytes says that its data was read and is damaged: no
// listing shows that, so the record remembers it. It reports whether there was such a copy.
func (r *Record) CopyFailed(backend string, why error, bytes bool, now time.Time) bool {
	l := r.location(backend)
	if l == nil || l.State != StateReady {
		return false
	}
	l.State, l.Error, l.UpdateTime = StateFailed, why.Error(), now.UTC()
	r.setDamaged(backend, bytes)
	r.book.Failures = append(r.book.Failures, newFailure(backend, why))
	r.derive()
	return true
}

// CopyGood notes that a copy which was damaged was read and is good.
func (r *Record) CopyGood(backend string, now time.Time) {
	l := r.location(backend)
	if l == nil || l.State != StateFailed || !r.Damaged(backend) {
		return
	}
	l.State, l.Error, l.UpdateTime = StateReady, "", now.UTC()
	r.setDamaged(backend, false)
	r.forgetFailures(backend)
	r.derive()
}

// AsSaved returns the record as its save has left it: a copy that was read and found damaged since was stored.
func (r *Record) AsSaved() *Record {
	saved := r.Copy()
	for _, l := range r.Locations() {
		saved.CopyGood(l.Backend, l.UpdateTime)
	}
	return saved
}

// Verified notes a verdict, and keeps the ones before it. disproved says that the stored bytes are right, and that the
// database in them is not: the proof, if there is one, stays as that of the last drill that passed, and does not hold
// any more.
func (r *Record) Verified(v Verification, disproved bool) {
	if r.Verification != nil {
		earlier := append([]Verification{r.Verification.earlier()}, r.Earlier...)
		r.Earlier = earlier[:min(len(earlier), MaxEarlier)]
	}
	r.Verification = &v
	switch {
	case disproved && r.Proof != nil:
		void := *r.Proof
		void.Error = "it does not hold any more: " + v.Error
		r.Proof = &void
	case v.Proves():
		r.Proof = &v
	}
}

// Repaired notes a copy that was made. order is the order of the configuration, in which the locations stay.
func (r *Record) Repaired(l Location, order []string) {
	l.State, l.Error = StateReady, ""
	if have := r.location(l.Backend); have != nil {
		*have = l
	} else {
		r.status.Locations = append(r.status.Locations, l)
		slices.SortStableFunc(r.status.Locations, func(a, b Location) int {
			return slices.Index(order, a.Backend) - slices.Index(order, b.Backend)
		})
	}
	r.setDamaged(l.Backend, false)
	r.SetOutdated(l.Backend, false)
	r.forgetFailures(l.Backend)
	r.SetFallback("")
}

// setDamaged notes that the bytes of a copy were read and are not the snapshot's, or with false that they are again.
func (r *Record) setDamaged(backend string, damaged bool) {
	r.book.Damaged = slices.DeleteFunc(r.book.Damaged, func(b string) bool { return b == backend })
	if damaged {
		r.book.Damaged = append(r.book.Damaged, backend)
	}
}

// forgetFailures forgets why a backend has failed: it has the copy, its location goes, or another failure is noted
// next.
func (r *Record) forgetFailures(backend string) {
	r.book.Failures = slices.DeleteFunc(r.book.Failures, func(f Failure) bool { return f.Backend == backend })
}

// derive sets the state and the error of the snapshot from its locations, and forgets repairs that are not needed any
// more. A save under way stays SAVING until it is concluded.
func (r *Record) derive() {
	if r.status.State == StateSaving {
		return
	}
	r.book.Repairs = slices.DeleteFunc(r.book.Repairs, func(p Repair) bool {
		l := r.location(p.Backend)
		return l == nil || l.State != StateFailed
	})
	state, why := stateOf(r.status.Locations)
	r.status.State = state
	switch {
	case state == StateReady:
		r.status.Error, r.book.Failures = "", nil
	case state == StateDeleting:
		r.status.Error = ""
	case len(why) > 0:
		r.status.Error = strings.Join(why, "; ") + r.fallbackNote()
	}
}

// stateOf returns the state of a snapshot with these locations, and why it is not READY.
func stateOf(locations []Location) (state State, why []string) {
	var ready, failed, deleting int
	for _, l := range locations {
		switch {
		case l.State == StateReady:
			ready++
		case l.State == StateDeleting && l.Size > 0:
			deleting++
		case l.State == StateDeleting: // its leftovers are swept, and it never held anything
			failed++
		default:
			failed++
			if l.Error != "" {
				why = append(why, l.Error)
			}
		}
	}
	switch {
	case failed == 0 && ready > 0:
		return StateReady, nil
	case ready > 0:
		return StatePartial, why
	case deleting > 0:
		return StateDeleting, nil
	}
	return StateFailed, why
}
