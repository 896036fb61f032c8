package status

import (
	"fmt"
	"slices"
	"strings"

	"github.com/snapshotd/snapshotd/snapshot"
)

// facts takes the facts that are shown from the records.
func (v *verdict) facts() {
	for _, rec := range v.records {
		if rec.State() == snapshot.StateSaving && v.c.Saving == nil {
			v.c.Saving = rec
		}
		if ended(rec) && v.last == nil {
			v.last, v.c.LastSave = rec, rec
		}
		if wholeCopy(rec) == nil {
			continue
		}
		if v.newest == nil {
			v.newest = rec
		}
		if rec.State() == snapshot.StateReady && !failedVerification(rec) && v.c.Newest == nil {
			v.c.Newest = rec
		}
		v.countProof(rec)
	}
	for _, rec := range v.known.Older {
		if wholeCopy(rec) != nil {
			v.countProof(rec)
		}
	}
}

// seen are all records that were read.
func (k *Known) seen() []*snapshot.Record { return slices.Concat(k.Records, k.Older) }

// countProof takes the newest proof. One that a clock was ahead for would hide that there is none for as long.
func (v *verdict) countProof(rec *snapshot.Record) {
	switch at := rec.Proven(); {
	case at.IsZero():
	case snapshot.Ahead(at, v.now):
		v.undated = rec
	case v.c.Proven == nil || at.After(v.c.Proven.Proven()):
		v.c.Proven = rec
	}
}

// backend returns the facts about one backend.
func (v *verdict) backend(p Place) Backend {
	name := p.Name
	b := Backend{Name: name, Kind: p.Kind, URI: p.URI, URL: p.URL, Free: p.Free, Snapshots: -1, Bytes: -1}
	if t, ok := v.tally.Totals[name]; ok {
		b.Snapshots, b.Bytes = t.Snapshots, t.Bytes
	}
	last := false
	for _, rec := range v.records {
		l := rec.Location(name)
		if ended(rec) && !last {
			last = true
			if l != nil {
				b.Last, b.Error = rec.AsSaved().Location(name).State.String(), l.Error
			}
		}
		if l == nil {
			continue
		}
		if l.State == snapshot.StateReady && b.Newest == nil {
			b.Newest = rec
		}
		if l.State == snapshot.StateFailed && waits(rec) {
			b.Waiting++
			b.soonest(rec)
		}
	}
	return b
}

func (b *Backend) soonest(rec *snapshot.Record) {
	for _, r := range rec.Repairs() {
		if r.Backend == b.Name && (b.Next.IsZero() || r.Next.Before(b.Next)) {
			b.Next = r.Next
		}
	}
}

// waits reports whether a copy that is missing on a backend can be made from another backend, or from a replica's disk.
func waits(rec *snapshot.Record) bool {
	return rec.State() == snapshot.StatePartial && rec.Trigger != snapshot.TriggerAdopted && rec.StoredSHA256 != "" ||
		rec.State() == snapshot.StateFailed && rec.FallbackNode() != ""
}

// ended reports whether a record is of a save of this service that has ended.
func ended(rec *snapshot.Record) bool {
	return rec.Trigger != snapshot.TriggerAdopted && rec.SupersededBy() == "" &&
		(rec.State() == snapshot.StateReady || rec.State() == snapshot.StatePartial || rec.State() == snapshot.StateFailed)
}

// disproved reports whether a verification failed although the bytes are right. A copy with wrong bytes is FAILED
// already, and a copy that changed after the verification was not verified.
func disproved(rec *snapshot.Record) bool {
	return failedVerification(rec) && !slices.ContainsFunc(rec.Locations(), func(l snapshot.Location) bool {
		return l.UpdateTime.After(rec.Verification.Time)
	})
}

// failedVerification reports whether a snapshot did not pass its last verification, of any copy.
func failedVerification(rec *snapshot.Record) bool {
	return rec.Verification != nil && !rec.Verification.Passed
}

func wholeCopy(rec *snapshot.Record) *snapshot.Location {
	i := slices.IndexFunc(rec.Locations(), func(l snapshot.Location) bool { return l.State == snapshot.StateReady })
	if i < 0 || rec.State() == snapshot.StateDeleting {
		return nil
	}
	return &rec.Locations()[i]
}

// why returns for a person why a snapshot is not READY.
func why(rec *snapshot.Record) string {
	if rec.ErrorText() != "" {
		return rec.ErrorText()
	}
	var all []string
	for _, l := range rec.Locations() {
		if l.State != snapshot.StateReady {
			all = append(all, fmt.Sprintf("%s is %s: %s", l.Backend, l.State, l.Error))
		}
	}
	return strings.Join(all, "; ")
}
