package console

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Judge says what is known of a cluster from its newest records, newest first. All says that there are no others.
func Judge(name string, backends []string, records []*snapshot.Record, all bool, now time.Time) Cluster {
	j := &judge{records: records, now: now, c: Cluster{Name: name, Verdict: Safe, Findings: []Finding{}, Mark: mark(records), Looked: len(records), All: all}}
	for _, b := range backends {
		j.c.Backends = append(j.c.Backends, j.backend(b))
	}
	j.look()
	j.whole()
	j.lastSave()
	j.backends()
	j.schedule()
	j.proof()
	rank := []Verdict{Danger, Attention, Safe}
	slices.SortStableFunc(j.c.Findings, func(a, b Finding) int {
		return slices.Index(rank, a.Verdict) - slices.Index(rank, b.Verdict)
	})
	if len(j.c.Findings) > 0 {
		j.c.Verdict = j.c.Findings[0].Verdict
	}
	return j.c
}

// Unreadable is a cluster whose catalog could not be read.
func Unreadable(name string, backends []string, err error) Cluster {
	c := Cluster{Name: name, Verdict: Unknown, Findings: []Finding{{
		Verdict: Unknown,
		Text:    "The catalog cannot be read, so nothing is known here: " + err.Error() + ". Saving and restoring do without it, and this lists what a backend holds.",
		Do:      []string{"list", "--from", "URL"},
	}}}
	for _, b := range backends {
		c.Backends = append(c.Backends, Backend{Name: b})
	}
	return c
}

type judge struct {
	c       Cluster
	records []*snapshot.Record
	now     time.Time
	last    *snapshot.Record // of which the save has ended
	holder  *snapshot.Record // the newest that is whole anywhere
}

// mark is the same as long as the catalog has these records as they are.
func mark(records []*snapshot.Record) string {
	h := fnv.New64a()
	for _, rec := range records {
		_, _ = fmt.Fprintf(h, "%q %d\n", rec.Name, rec.Version) // a hash takes everything
	}
	return strconv.FormatUint(h.Sum64(), 36)
}

func (j *judge) find(v Verdict, do []string, format string, args ...any) {
	j.c.Findings = append(j.c.Findings, Finding{Verdict: v, Text: fmt.Sprintf(format, args...), Do: do})
}

// look takes from the records what is shown.
func (j *judge) look() {
	for _, rec := range j.records {
		if rec.State == snapshot.StateSaving && j.c.Saving == nil {
			j.c.Saving = shown(rec)
		}
		if ended(rec) && j.last == nil {
			j.last, j.c.LastSave = rec, shown(rec)
		}
		if wholeCopy(rec) == nil {
			continue
		}
		if j.holder == nil {
			j.holder = rec
		}
		if rec.State == snapshot.StateReady && !doubted(rec) && j.c.Newest == nil {
			j.c.Newest = shown(rec)
		}
		if !rec.Proven.IsZero() && (j.c.Proven == nil || rec.Proven.After(j.c.Proven.Time)) {
			j.c.Proven = &Proof{Snapshot: *shown(rec), Time: rec.Proven}
		}
	}
}

// whole says whether there is anything to restore.
func (j *judge) whole() {
	among := ""
	if !j.c.All {
		among = fmt.Sprintf(" among the newest %d", j.c.Looked)
	}
	switch {
	case j.holder == nil && len(j.records) > 0 && j.records[0].KeptOn != "":
		j.find(Danger, []string{"reconcile", "--repair"}, "No backend holds a snapshot%s; one is on the disk of %s alone.", among, j.records[0].KeptOn)
	case j.holder == nil && j.c.Saving != nil:
		j.find(Danger, []string{"watch"}, "There is no snapshot that could be restored%s; one is being saved.", among)
	case j.holder == nil:
		j.find(Danger, []string{"save"}, "There is no snapshot that could be restored%s.", among)
	case condemned(j.holder):
		j.find(Danger, []string{"save"}, "The newest snapshot, %s, did not pass its verification: %s", j.holder.Name, j.holder.Verification.Error)
	case j.c.Newest == nil:
		j.find(Attention, []string{"reconcile", "--repair"}, "No snapshot%s is on all of its backends; the newest that can be restored is %s.", among, j.holder.Name)
	}
	for _, rec := range j.records {
		if doubted(rec) && (rec != j.holder || !condemned(rec)) {
			j.find(Attention, []string{"verify", rec.Name}, "%s did not pass its last verification, and none since was: %s", rec.Name, rec.Verification.Error)
			return // the list has the others
		}
	}
}

// lastSave says how the last save ended.
func (j *judge) lastSave() {
	switch {
	case j.last == nil:
	case j.last.State == snapshot.StateFailed:
		j.find(Danger, []string{"save"}, "The last save failed: %s", why(j.last))
	case j.last.State == snapshot.StatePartial:
		j.find(Attention, []string{"reconcile", "--repair"}, "The last save did not reach every backend: %s", why(j.last))
	}
}

// backends says what is missing where.
func (j *judge) backends() {
	for _, b := range j.c.Backends {
		switch {
		case b.Waiting > 0:
			j.find(Attention, []string{"reconcile", "--repair"}, "%s waiting to be brought to %s; it is tried again by itself.", copies(b.Waiting), b.Name)
		case b.Newest == nil && j.holder != nil:
			j.find(Attention, []string{"reconcile", "--repair"}, "%s holds none of the snapshots that were looked at.", b.Name)
		}
	}
}

func copies(n int) string {
	if n == 1 {
		return "1 copy is"
	}
	return fmt.Sprintf("%d copies are", n)
}

// usual is how many of the newest scheduled snapshots say how often there is one. Older ones were thinned out by retention.
const usual = 6

// schedule says when a schedule has stopped. What the schedules are is no part of the catalog, but what came of them is.
func (j *judge) schedule() {
	var times []time.Time
	for _, rec := range j.records {
		if rec.Trigger == snapshot.TriggerScheduled && len(times) < usual {
			times = append(times, rec.CreateTime)
		}
	}
	if len(times) < 3 {
		return
	}
	var gaps []time.Duration
	for i := range times[1:] {
		gaps = append(gaps, times[i].Sub(times[i+1]))
	}
	slices.Sort(gaps)
	every, since := gaps[len(gaps)/2], j.now.Sub(times[0])
	if since > 2*every+time.Minute {
		j.find(Attention, []string{"save"}, "No scheduled save for %s; the ones before began about every %s. Does a replica lead, and is the schedule still configured?", round(since), round(every))
	}
}

// proof says whether it was ever shown that restoring works.
func (j *judge) proof() {
	if j.c.Proven != nil || j.holder == nil || condemned(j.holder) {
		return
	}
	do := []string{"verify", j.holder.Name, "--level", "drill"}
	if len(j.holder.EncryptionRecipients) > 0 {
		do = do[:2] // as it is stored
	}
	switch {
	case j.sealedAndRead():
		j.find(Safe, []string{"verify", j.holder.Name, "--from", "URL", "--identity", "FILE", "--level", "drill"},
			"What is stored was read back and is right. It is encrypted: unless the service has an identity (encryption.identity_files), that it can be restored is proven where one is kept, and not known here.")
	case j.c.All:
		j.find(Attention, do, "No restore was ever proven: a snapshot is worth what its restore is worth.")
	default:
		j.find(Attention, do, "No restore of the newest %d snapshots was proven.", j.c.Looked)
	}
}

// sealedAndRead reports whether snapshots are encrypted, and the stored bytes of one have passed a verification: more than that
// a service without an identity cannot know.
func (j *judge) sealedAndRead() bool {
	return len(j.holder.EncryptionRecipients) > 0 && slices.ContainsFunc(j.records, func(rec *snapshot.Record) bool {
		return rec.Verification != nil && rec.Verification.Passed
	})
}

// round makes a duration one of about two figures.
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
