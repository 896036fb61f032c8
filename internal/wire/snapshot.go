package wire

import (
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// SnapshotToProto returns the API's message of a snapshot; nil of nil. The enums have the same numbers on both sides.
func SnapshotToProto(s *snapshot.Snapshot) *snapshotdv1.Snapshot {
	if s == nil {
		return nil
	}
	m := &snapshotdv1.Snapshot{
		Name: s.Name, Cluster: s.Cluster,
		State: snapshotdv1.Snapshot_State(s.State()), Error: text(s.ErrorText()), Labels: s.Labels, Pinned: s.Pinned,
		Trigger:    snapshotdv1.Snapshot_Trigger(s.Trigger),
		CreateTime: Time(s.CreateTime), Node: s.Node,
		EtcdVersion: s.EtcdVersion, StorageVersion: s.StorageVersion,
		EtcdClusterId: s.EtcdClusterID, EtcdMemberId: s.EtcdMemberID,
		Revision: s.Revision, OldestRevision: s.OldestRevision, TotalKeys: s.TotalKeys, DbSizeBytes: s.DBSize,
		Sha256: s.SHA256, Hash: s.Hash,
		Compression: snapshotdv1.Snapshot_Compression(s.Compression), EncryptionRecipients: s.EncryptionRecipients,
		StoredSizeBytes: s.StoredSize, StoredSha256: s.StoredSHA256,
		Etag: s.Etag, Schedule: s.Schedule, TraceId: s.TraceID,
	}
	if s.Duration != 0 {
		m.Duration = durationpb.New(s.Duration)
	}
	m.Verification, m.Proof = VerificationToProto(s.Verification), VerificationToProto(s.Proof)
	m.JournalProof = VerificationToProto(s.JournalProof)
	for i := range s.Earlier {
		m.EarlierVerifications = append(m.EarlierVerifications, VerificationToProto(&s.Earlier[i]))
	}
	m.Alarms = texts(s.Alarms)
	for _, l := range s.Locations() {
		m.Locations = append(m.Locations, &snapshotdv1.Location{
			Backend: l.Backend, Kind: snapshotdv1.Location_BackendKind(l.Kind), Uri: text(l.URI), SizeBytes: l.Size,
			State: snapshotdv1.Snapshot_State(l.State), Error: text(l.Error), UpdateTime: Time(l.UpdateTime),
		})
	}
	return m
}

// SnapshotFromProto returns the snapshot of a message; nil of nil.
func SnapshotFromProto(m *snapshotdv1.Snapshot) *snapshot.Snapshot {
	if m == nil {
		return nil
	}
	s := snapshot.Snapshot{
		Name: m.GetName(), Cluster: m.GetCluster(), Labels: m.GetLabels(), Pinned: m.GetPinned(),
		Trigger:    snapshot.Trigger(m.GetTrigger()),
		CreateTime: timeFromProto(m.GetCreateTime()), Duration: m.GetDuration().AsDuration(), Node: m.GetNode(),
		EtcdVersion: m.GetEtcdVersion(), StorageVersion: m.GetStorageVersion(),
		EtcdClusterID: m.GetEtcdClusterId(), EtcdMemberID: m.GetEtcdMemberId(),
		Revision: m.GetRevision(), OldestRevision: m.GetOldestRevision(), TotalKeys: m.GetTotalKeys(),
		DBSize: m.GetDbSizeBytes(),
		SHA256: m.GetSha256(), Hash: m.GetHash(),
		Compression: snapshot.Compression(m.GetCompression()), EncryptionRecipients: m.GetEncryptionRecipients(),
		StoredSize: m.GetStoredSizeBytes(), StoredSHA256: m.GetStoredSha256(),
		Etag: m.GetEtag(), Schedule: m.GetSchedule(), TraceID: m.GetTraceId(),
	}
	s.Verification, s.Proof = VerificationFromProto(m.GetVerification()), VerificationFromProto(m.GetProof())
	s.JournalProof = VerificationFromProto(m.GetJournalProof())
	for _, v := range first(m.GetEarlierVerifications(), snapshot.MaxEarlier) {
		s.Earlier = append(s.Earlier, *VerificationFromProto(v))
	}
	s.Alarms = m.GetAlarms()
	status := snapshot.Status{State: snapshot.State(m.GetState()), Error: m.GetError()}
	for _, l := range m.GetLocations() {
		status.Locations = append(status.Locations, snapshot.Location{
			Backend: l.GetBackend(), Kind: snapshot.BackendKind(l.GetKind()), URI: l.GetUri(), Size: l.GetSizeBytes(),
			State: snapshot.State(l.GetState()), Error: l.GetError(), UpdateTime: timeFromProto(l.GetUpdateTime()),
		})
	}
	return snapshot.WithStatus(s, status)
}

// VerificationToProto returns the API's message of a verdict; nil of nil.
func VerificationToProto(v *snapshot.Verification) *snapshotdv1.Verification {
	if v == nil {
		return nil
	}
	state := snapshotdv1.Verification_STATE_FAILED
	if v.Passed {
		state = snapshotdv1.Verification_STATE_PASSED
	}
	return &snapshotdv1.Verification{
		Level: snapshotdv1.Verification_Level(v.Level), State: state, Error: text(v.Error), Time: Time(v.Time),
		Duration: durationpb.New(v.Duration), Backends: v.Backends,
		HashKv: v.HashKV, Live: text(v.Live), StoredOnly: v.StoredOnly, Disarmed: texts(v.Disarmed),
	}
}

// VerificationFromProto returns the verdict of a message; nil of nil.
func VerificationFromProto(v *snapshotdv1.Verification) *snapshot.Verification {
	if v == nil {
		return nil
	}
	return &snapshot.Verification{
		Level: snapshot.Level(v.GetLevel()), Passed: v.GetState() == snapshotdv1.Verification_STATE_PASSED,
		Error: v.GetError(), Time: timeFromProto(v.GetTime()), Duration: v.GetDuration().AsDuration(),
		Backends: v.GetBackends(), HashKV: v.GetHashKv(), Live: v.GetLive(), StoredOnly: v.GetStoredOnly(),
		Disarmed: v.GetDisarmed(),
	}
}

// text returns the text of a server or file system as valid UTF-8, the only text that protobuf takes.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// Text does the same for texts outside of this package.
func Text(s string) string { return text(s) }

func texts(all []string) []string {
	var valid []string
	for _, s := range all {
		valid = append(valid, text(s))
	}
	return valid
}

// Time returns the message of a time; nil when it is zero.
func Time(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func timeFromProto(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// first returns the first n elements, or all when there are no more.
func first[T any](all []T, n int) []T { return all[:min(n, len(all))] }
