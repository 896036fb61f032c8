package console

import (
	"fmt"
	"slices"
	"strings"

	"github.com/snapshotd/snapshotd/snapshot"
)

// backend says what one backend holds.
func (j *judge) backend(name string) Backend {
	b := Backend{Name: name}
	last := false
	for _, rec := range j.records {
		l := rec.Location(name)
		if ended(rec) && !last {
			last = true
			if l != nil {
				b.Last, b.Error = l.State.String(), l.Error
			}
		}
		if l == nil {
			continue
		}
		if l.State == snapshot.StateReady && b.Newest == nil {
			b.Newest = shown(rec)
			b.Newest.URI = l.URI
		}
		if l.State == snapshot.StateFailed && waits(rec) {
			b.Waiting++
			b.soonest(rec)
		}
	}
	return b
}

func (b *Backend) soonest(rec *snapshot.Record) {
	for _, r := range rec.Repairs {
		if r.Backend == b.Name && (b.Next.IsZero() || r.Next.Before(b.Next)) {
			b.Next = r.Next
		}
	}
}

// waits reports whether a copy of a snapshot that is not on a backend can be had from another one, or from a replica's disk.
func waits(rec *snapshot.Record) bool {
	return rec.State == snapshot.StatePartial && rec.Trigger != snapshot.TriggerAdopted && rec.StoredSHA256 != "" ||
		rec.State == snapshot.StateFailed && rec.KeptOn != ""
}

// ended reports whether a record is of a save of ours that has come to an end.
func ended(rec *snapshot.Record) bool {
	return rec.Trigger != snapshot.TriggerAdopted && rec.SupersededBy == "" &&
		(rec.State == snapshot.StateReady || rec.State == snapshot.StatePartial || rec.State == snapshot.StateFailed)
}

// condemned reports whether a snapshot was found not to be what it should be though its bytes are right. A copy whose bytes
// are wrong is FAILED by then, and what has changed since the verification was not verified.
func condemned(rec *snapshot.Record) bool {
	return doubted(rec) && !slices.ContainsFunc(rec.Locations, func(l snapshot.Location) bool { return l.UpdateTime.After(rec.Verification.Time) })
}

// doubted reports whether the last verification of a snapshot, of whichever copy, was not passed.
func doubted(rec *snapshot.Record) bool { return rec.Verification != nil && !rec.Verification.Passed }

func wholeCopy(rec *snapshot.Record) *snapshot.Location {
	i := slices.IndexFunc(rec.Locations, func(l snapshot.Location) bool { return l.State == snapshot.StateReady })
	if i < 0 || rec.State == snapshot.StateDeleting {
		return nil
	}
	return &rec.Locations[i]
}

// why is what a person is told of a snapshot that is not READY.
func why(rec *snapshot.Record) string {
	if rec.Error != "" {
		return rec.Error
	}
	var all []string
	for _, l := range rec.Locations {
		if l.State != snapshot.StateReady {
			all = append(all, fmt.Sprintf("%s is %s: %s", l.Backend, l.State, l.Error))
		}
	}
	return strings.Join(all, "; ")
}

func shown(rec *snapshot.Record) *Snapshot {
	s := &Snapshot{
		Name: rec.Name, State: rec.State.String(), Trigger: rec.Trigger.String(), Error: why(rec), Created: rec.CreateTime,
		Seconds: rec.Duration.Seconds(), Revision: rec.Revision, Keys: rec.TotalKeys, Bytes: rec.DBSize,
		Sealed: len(rec.EncryptionRecipients) > 0,
	}
	if l := wholeCopy(rec); l != nil {
		s.URI = l.URI
	}
	return s
}
