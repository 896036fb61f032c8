package catalog

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	catalogv1 "github.com/snapshotd/snapshotd/proto/snapshotd/catalog/v1"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Limits of a record, besides those of [snapshot]. They leave room above all that a replica writes, and below the
// numbers with which pauses and dates go wrong.
const (
	maxRecord   = 1 << 20   // bytes of the value; etcd takes 1.5 MiB
	maxNameLen  = 1024      // bytes of a snapshot's name; S3 has no longer keys
	maxLabels   = 256 << 10 // bytes of all labels; a manifest has no more texts
	maxAttempts = 1 << 31   // at a repair
	maxDuration = 100 * 365 * 24 * time.Hour
)

// errNewer says that a record has a value of a newer version.
var errNewer = errors.New("this version does not know it")

// check returns why a message is not the record of a snapshot with this name. size is that of the stored value.
//
// A state, trigger or compression that this version does not know makes the record unreadable: they decide which bytes
// belong to the snapshot and whether they may be removed, so a replica that does not understand them leaves it alone.
// Other numbers that it does not know are for people only, and are kept as they are.
func check(name string, m *catalogv1.Record, size int) error {
	s := m.GetSnapshot()
	switch {
	case size > maxRecord:
		return fmt.Errorf("it has %d bytes, more than the %d of the largest record", size, maxRecord)
	case s == nil:
		return errors.New("it has no snapshot")
	case s.GetName() != name:
		return fmt.Errorf("it is of the snapshot %.100q", s.GetName())
	case !snapshot.ValidName(name) || len(name) > maxNameLen:
		return fmt.Errorf("%.100q is not a snapshot's name", name)
	}
	for _, err := range []error{
		checkEnums(s), checkNumbers(m), checkTimes(m), checkLabels(s.GetLabels()), checkLocations(s.GetLocations()),
		checkFile(m),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

func checkEnums(s *snapshotdv1.Snapshot) error {
	known := func(what string, number int32, names map[int32]string) error {
		if _, ok := names[number]; ok {
			return nil
		}
		if number < 0 {
			return fmt.Errorf("%s %d is none", what, number)
		}
		return fmt.Errorf("%s %d: %w", what, number, errNewer)
	}
	errs := []error{
		known("state", int32(s.GetState()), snapshotdv1.Snapshot_State_name),
		known("trigger", int32(s.GetTrigger()), snapshotdv1.Snapshot_Trigger_name),
		known("compression", int32(s.GetCompression()), snapshotdv1.Snapshot_Compression_name),
	}
	for _, l := range s.GetLocations() {
		errs = append(errs, known("a location's state", int32(l.GetState()), snapshotdv1.Snapshot_State_name))
	}
	return first(errs)
}

func checkNumbers(m *catalogv1.Record) error {
	s := m.GetSnapshot()
	within := func(what string, n, most int64) error {
		if n < 0 || n > most {
			return fmt.Errorf("%s %d is not between 0 and %d", what, n, most)
		}
		return nil
	}
	errs := []error{
		within("revision", s.GetRevision(), snapshot.MaxRevision),
		within("oldest_revision", s.GetOldestRevision(), snapshot.MaxRevision),
		within("total_keys", s.GetTotalKeys(), snapshot.MaxSize),
		within("generation", m.GetGeneration(), snapshot.MaxGeneration),
		within("db_size_bytes", s.GetDbSizeBytes(), snapshot.MaxSize),
		within("stored_size_bytes", s.GetStoredSizeBytes(), snapshot.MaxSize),
	}
	for _, l := range s.GetLocations() {
		errs = append(errs, within("size_bytes", l.GetSizeBytes(), snapshot.MaxSize))
	}
	for _, p := range m.GetRepairs() {
		errs = append(errs, within("attempts", p.GetAttempts(), maxAttempts))
	}
	return first(errs)
}

func checkTimes(m *catalogv1.Record) error {
	s := m.GetSnapshot()
	valid := func(what string, t *timestamppb.Timestamp) error {
		if t != nil && !t.IsValid() {
			return fmt.Errorf("%s is not between the years 1 and 9999", what)
		}
		return nil
	}
	short := func(what string, d *durationpb.Duration) error {
		if d != nil && (!d.IsValid() || d.AsDuration().Abs() > maxDuration) {
			return fmt.Errorf("%s is longer than 100 years", what)
		}
		return nil
	}
	v, proof, journal := s.GetVerification(), s.GetProof(), s.GetJournalProof()
	errs := []error{
		valid("create_time", s.GetCreateTime()), valid("proven_time", m.GetProvenTime()),
		valid("verification's time", v.GetTime()), valid("proof's time", proof.GetTime()),
		short("duration", s.GetDuration()), short("verification's duration", v.GetDuration()),
		short("proof's duration", proof.GetDuration()),
		valid("journal proof's time", journal.GetTime()), short("journal proof's duration", journal.GetDuration()),
	}
	for _, v := range s.GetEarlierVerifications() {
		errs = append(errs, valid("earlier verification's time", v.GetTime()),
			short("earlier verification's duration", v.GetDuration()))
	}
	for _, l := range s.GetLocations() {
		errs = append(errs, valid("update_time", l.GetUpdateTime()))
	}
	for _, t := range m.GetSeen() {
		errs = append(errs, valid("seen", t))
	}
	for _, p := range m.GetRepairs() {
		errs = append(errs, valid("next_time", p.GetNextTime()))
	}
	return first(errs)
}

func checkLabels(labels map[string]string) error {
	size := 0
	for k, v := range labels {
		size += len(k) + len(v)
	}
	if size > maxLabels {
		return fmt.Errorf("its labels have %d bytes, more than %d", size, maxLabels)
	}
	return nil
}

// checkFile returns why a record does not name the file of its snapshot: a record never names what it may not touch.
func checkFile(m *catalogv1.Record) error {
	s := m.GetSnapshot()
	if s.GetTrigger() != snapshotdv1.Snapshot_TRIGGER_ADOPTED || snapshot.FileOf(s.GetName(), m.GetFile()) {
		return nil
	}
	return fmt.Errorf("%.100q is not the file of a snapshot of this name that another program took", m.GetFile())
}

func checkLocations(locations []*snapshotdv1.Location) error {
	if len(locations) > snapshot.MaxLocations {
		return fmt.Errorf("it has %d locations, more than %d", len(locations), snapshot.MaxLocations)
	}
	seen := map[string]bool{}
	for _, l := range locations {
		switch backend := l.GetBackend(); {
		case backend == "":
			return errors.New("a location has no backend")
		case seen[backend]:
			return fmt.Errorf("there are two locations on backend %.100q", backend)
		case l.GetState() == snapshotdv1.Snapshot_STATE_PARTIAL:
			return fmt.Errorf("the location on backend %.100q is PARTIAL, which none can be", backend)
		default:
			seen[backend] = true
		}
	}
	return nil
}

// first returns the first error; nil when there is none.
func first(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
