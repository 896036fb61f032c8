package output

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	agekey "github.com/snapshotd/snapshotd/internal/codec/age"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Columns writes rows whose cells are separated by tabs, aligned.
func Columns(w io.Writer, rows func(row func(cells ...string))) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	rows(func(cells ...string) {
		for i, c := range cells {
			cells[i] = Plain(c)
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	})
	return tw.Flush()
}

// ListTable writes one line for each snapshot that a service knows; wide has more columns.
func ListTable(w io.Writer, snapshots []*snapshotdv1.Snapshot, now time.Time, wide bool) error {
	return Columns(w, func(row func(...string)) {
		head := []string{"NAME", "STATE", "CREATED", "AGE", "REVISION", "KEYS", "SIZE", "STORED", "PINNED", "PROVEN"}
		if wide {
			head = append(head, "ALARMS", "NODE", "TRIGGER", "SCHEDULE", "LABELS")
		}
		row(append(head, "LOCATIONS")...)
		for _, s := range snapshots {
			cells := append(facts(s, now), mark(s.GetPinned()), OrDash(proven(s, now)))
			if wide {
				cells = append(cells, alarms(s), OrDash(s.GetNode()), trigger(s), OrDash(s.GetSchedule()),
					OrDash(labels(s.GetLabels())))
			}
			row(append(cells, locations(s))...)
		}
	})
}

// PlaceTable writes one line for each snapshot that was found in a place without a service, and what was checked of it:
// READY of such a listing is less than that of a catalog.
func PlaceTable(w io.Writer, snapshots []*snapshotdv1.Snapshot, now time.Time, wide bool) error {
	return Columns(w, func(row func(...string)) {
		head := []string{"NAME", "STATE", "CREATED", "AGE", "REVISION", "KEYS", "SIZE", "STORED", "CHECKED"}
		if wide {
			head = append(head, "ALARMS", "NODE", "TRIGGER", "LABELS", "WHERE")
		}
		row(head...)
		for _, s := range snapshots {
			checked := "manifest, size, first bytes"
			if s.GetTrigger() == snapshotdv1.Snapshot_TRIGGER_ADOPTED {
				checked = "first bytes, no manifest"
			}
			cells := append(facts(s, now), checked)
			if wide {
				cells = append(cells, alarms(s), OrDash(s.GetNode()), trigger(s), OrDash(labels(s.GetLabels())), uri(s))
			}
			row(cells...)
		}
	})
}

// facts are the cells that every list begins with.
func facts(s *snapshotdv1.Snapshot, now time.Time) []string {
	created := s.GetCreateTime().AsTime()
	return []string{
		s.GetName(), State(s.GetState()), created.UTC().Format(time.RFC3339), Age(now.Sub(created)), Number(s.GetRevision()),
		Number(s.GetTotalKeys()), Size(s.GetDbSizeBytes()), Size(s.GetStoredSizeBytes()),
	}
}

func mark(set bool) string {
	if set {
		return "yes"
	}
	return "-"
}

// proven returns how long ago a drill has proven a snapshot; empty when none has, or when it was found damaged since.
func proven(s *snapshotdv1.Snapshot, now time.Time) string {
	if p := s.GetProof(); p != nil && p.GetError() == "" {
		return Age(now.Sub(p.GetTime().AsTime())) + " ago"
	}
	return ""
}

func alarms(s *snapshotdv1.Snapshot) string { return OrDash(strings.Join(s.GetAlarms(), ", ")) }

// AlarmNote returns which snapshots have alarms in them, for a person who may be about to choose one; empty when none
// has.
func AlarmNote(snapshots []*snapshotdv1.Snapshot) string {
	count, first := 0, ""
	for _, s := range snapshots {
		if len(s.GetAlarms()) == 0 {
			continue
		}
		if count++; count == 1 {
			first = s.GetName() + " " + snapshot.AlarmNote(s.GetAlarms())
		}
	}
	if count > 1 {
		first += fmt.Sprintf("; %d more have alarms, see -o wide", count-1)
	}
	return first
}

func trigger(s *snapshotdv1.Snapshot) string {
	if s.GetTrigger() == snapshotdv1.Snapshot_TRIGGER_UNSPECIFIED {
		return "-"
	}
	return strings.TrimPrefix(s.GetTrigger().String(), "TRIGGER_")
}

// uri returns where the only copy is.
func uri(s *snapshotdv1.Snapshot) string {
	for _, l := range s.GetLocations() {
		return l.GetUri()
	}
	return "-"
}

// locations returns the backends of a snapshot, with the states of those that do not hold it.
func locations(s *snapshotdv1.Snapshot) string {
	var out []string
	for _, l := range s.GetLocations() {
		text := l.GetBackend()
		if l.GetState() != snapshotdv1.Snapshot_STATE_READY {
			text += " (" + State(l.GetState()) + ")"
		}
		out = append(out, text)
	}
	return OrDash(strings.Join(out, ", "))
}

// GetTable writes all facts about one snapshot.
func GetTable(w io.Writer, s *snapshotdv1.Snapshot, now time.Time) error {
	created := s.GetCreateTime().AsTime()
	err := Columns(w, func(row func(...string)) {
		field := func(name, value string) {
			if value != "" && value != "-" {
				row(name, value)
			}
		}
		field("name", s.GetName())
		field("cluster", s.GetCluster())
		field("state", State(s.GetState()))
		field("error", s.GetError())
		field("created", fmt.Sprintf("%s (%s ago)", created.Format(time.RFC3339), Age(now.Sub(created))))
		if d := s.GetDuration().AsDuration(); d > 0 { // an adopted snapshot does not have it
			field("took", Took(d))
		}
		field("trigger", trigger(s))
		field("schedule", s.GetSchedule())
		field("node", s.GetNode())
		field("labels", labels(s.GetLabels()))
		if s.GetPinned() {
			field("pinned", "yes: retention leaves it alone")
		}
		field("revision", Number(s.GetRevision()))
		if oldest := s.GetOldestRevision(); oldest > 0 {
			field("goes back to", Number(oldest)+", with restore --revision")
		}
		field("keys", Number(s.GetTotalKeys()))
		if s.GetHash() != 0 {
			field("hash", fmt.Sprintf("%08x", s.GetHash()))
		}
		field("size", withBytes(s.GetDbSizeBytes()))
		field("sha256", s.GetSha256())
		field("compression", strings.TrimPrefix(s.GetCompression().String(), "COMPRESSION_"))
		for _, r := range s.GetEncryptionRecipients() {
			field("encrypted for", agekey.Short(r))
		}
		field("stored size", withBytes(s.GetStoredSizeBytes()))
		field("stored sha256", s.GetStoredSha256())
		field("etcd", s.GetEtcdVersion())
		field("storage version", s.GetStorageVersion())
		field("etcd cluster", s.GetEtcdClusterId())
		field("etcd member", s.GetEtcdMemberId())
		field("trace", s.GetTraceId())
		if len(s.GetAlarms()) > 0 {
			field("alarms", "it "+snapshot.AlarmNote(s.GetAlarms()))
		}
		field("verified", verdictLine(s.GetVerification(), now))
		for _, v := range s.GetEarlierVerifications() {
			field("before", verdictLine(v, now))
		}
		field("proven", proofLine(s.GetProof(), now))
		field("journal", journalLine(s.GetJournalProof(), now))
	})
	if err != nil || len(s.GetLocations()) == 0 {
		return err
	}
	fmt.Fprintln(w)
	return Columns(w, func(row func(...string)) {
		row("BACKEND", "STATE", "SIZE", "WHERE")
		for _, l := range s.GetLocations() {
			where := l.GetUri()
			if l.GetError() != "" {
				where = l.GetError()
			}
			row(l.GetBackend(), State(l.GetState()), Size(l.GetSizeBytes()), OrDash(where))
		}
	})
}

// verdictLine returns the last verdict on a snapshot; empty when there was none.
func verdictLine(v *snapshotdv1.Verification, now time.Time) string {
	if v == nil {
		return ""
	}
	line := fmt.Sprintf("%s, %s on %s, %s ago", strings.TrimPrefix(v.GetState().String(), "STATE_"),
		strings.TrimPrefix(v.GetLevel().String(), "LEVEL_"),
		strings.Join(v.GetBackends(), ", "), Age(now.Sub(v.GetTime().AsTime())))
	if v.GetStoredOnly() {
		line += ", as it is stored"
	}
	return WithReason(line, v.GetError())
}

// proofLine returns the last drill that passed; empty when none has.
func proofLine(v *snapshotdv1.Verification, now time.Time) string {
	if v == nil {
		return ""
	}
	line := "by a drill"
	if len(v.GetBackends()) > 0 {
		line += " of the copy on " + strings.Join(v.GetBackends(), ", ")
	}
	return WithReason(line+fmt.Sprintf(", %s ago", Age(now.Sub(v.GetTime().AsTime()))), v.GetError())
}

// journalLine returns the verdict on the journal before a snapshot; empty when there is none.
func journalLine(v *snapshotdv1.Verification, now time.Time) string {
	if v == nil {
		return ""
	}
	line := "it does NOT lead here"
	if v.GetState() == snapshotdv1.Verification_STATE_PASSED {
		line = "it leads here " + v.GetLive()
	}
	return WithReason(line+fmt.Sprintf(", checked %s ago", Age(now.Sub(v.GetTime().AsTime()))), v.GetError())
}

func withBytes(n int64) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf("%s (%d bytes)", Size(n), n)
}

func labels(m map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return strings.Join(out, ", ")
}
