package repository

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/snapshotd/snapshotd/internal/codec/strictjson"
	"github.com/snapshotd/snapshotd/repository/signing"
	"github.com/snapshotd/snapshotd/snapshot"
)

// maxNames bounds the recipients and the alarms of a manifest.
const maxNames = 4096

var (
	sha256Text = regexp.MustCompile(`^[0-9a-f]{64}$`)
	etcdID     = regexp.MustCompile(`^([0-9a-f]{16})?$`) // empty when it is not known
	traceID    = regexp.MustCompile(`^([0-9a-f]{32})?$`) // empty when the save had none
	alarmText  = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,39} [0-9a-f]{16}$`)
)

// ParseStrict reads a manifest of a format, up to a version of it, into the struct of its members. It is strict,
// because the manifest may be forged. Members that are not known are those of a later version, and are ignored.
func ParseStrict[T any](doc []byte, version int) (*T, error) {
	m, err := strictjson.Parse(doc)
	if err != nil {
		return nil, err
	}
	switch has, err := m.Version(); {
	case err != nil:
		return nil, err
	case has > version:
		return nil, fmt.Errorf("its format version is %d, and this program reads up to %d; use a newer snapshotd",
			has, version)
	}
	var d T
	if err := m.Written(d, signing.Member); err != nil {
		return nil, err
	}
	// A signature at another place would never be verified.
	if _, ok := m[signing.Member]; ok && !signing.Signed(doc) {
		return nil, errors.New("its signature is not the last member, in the form of one")
	}
	return &d, json.Unmarshal(doc, &d)
}

// CheckSHA256 returns an error when a checksum is not written as one.
func CheckSHA256(text string) error {
	if !sha256Text.MatchString(text) {
		return errors.New("a checksum is not 64 hex digits")
	}
	return nil
}

// CheckRecipients bounds the recipients of a manifest.
func CheckRecipients(recipients []string) error {
	switch {
	case len(recipients) > maxNames:
		return fmt.Errorf("it has %d recipients; up to %d are allowed", len(recipients), maxNames)
	case slices.Contains(recipients, ""):
		return errors.New("a recipient has no key")
	}
	return nil
}

// parseDocument reads the manifest of a snapshot.
func parseDocument(doc []byte) (*document, error) {
	d, err := ParseStrict[document](doc, manifestVersion)
	if err != nil {
		return nil, err
	}
	// Absent and empty are the same.
	if len(d.Labels) == 0 {
		d.Labels = nil
	}
	if len(d.Recipients) == 0 {
		d.Recipients = nil
	}
	if len(d.Alarms) == 0 {
		d.Alarms = nil
	}
	return d, cmp.Or(d.checkFacts(), d.checkTexts())
}

// checkFacts holds the facts of a manifest to those that a save can write. A value that no save writes would otherwise
// reach the retention, the room that a restore reserves, or a command that an operator pastes.
func (d *document) checkFacts() error {
	switch {
	case d.Trigger != triggerPrefix+snapshot.TriggerManual.String() &&
		d.Trigger != triggerPrefix+snapshot.TriggerScheduled.String():
		return fmt.Errorf("%.100q is not a trigger of a save", d.Trigger)
	case d.Compression != compressionPrefix+snapshot.CompressionNone.String() &&
		d.Compression != compressionPrefix+snapshot.CompressionZstd.String():
		return fmt.Errorf("%.100q is not a compression of a save", d.Compression)
	case max(d.DBSize, d.StoredSize) > snapshot.MaxSize:
		return fmt.Errorf("no database or object has %d bytes", max(d.DBSize, d.StoredSize))
	case d.Revision > snapshot.MaxRevision:
		return fmt.Errorf("%d is not a revision", d.Revision)
	// Each key has at least one byte.
	case d.TotalKeys > snapshot.MaxSize:
		return fmt.Errorf("no database has %d keys", d.TotalKeys)
	case !etcdID.MatchString(d.EtcdClusterID), !etcdID.MatchString(d.EtcdMemberID):
		return errors.New("an id of etcd is not 16 hex digits")
	case !traceID.MatchString(d.TraceID):
		return errors.New("the id of its trace is not 32 hex digits")
	case d.CreateTime.UTC().Year() > 9999:
		return errors.New("createTime is beyond the year 9999")
	}
	return cmp.Or(CheckSHA256(d.SHA256), CheckSHA256(d.StoredSHA256))
}

// checkTexts bounds labels and lists.
func (d *document) checkTexts() error {
	switch {
	case len(d.Backends) > snapshot.MaxLocations:
		return fmt.Errorf("it has %d backends; up to %d are allowed", len(d.Backends), snapshot.MaxLocations)
	case len(d.Alarms) > maxNames:
		return fmt.Errorf("it has %d alarms; up to %d are allowed", len(d.Alarms), maxNames)
	case slices.ContainsFunc(d.Alarms, func(a string) bool { return !alarmText.MatchString(a) }):
		return errors.New("an alarm is not its name and a member's id")
	}
	return cmp.Or(CheckRecipients(d.Recipients), snapshot.ValidateLabels(d.Labels))
}
