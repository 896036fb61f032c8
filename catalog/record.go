package catalog

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/snapshotd/snapshotd/internal/wire"
	catalogv1 "github.com/snapshotd/snapshotd/proto/snapshotd/catalog/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// encode returns a record as it is stored: the same bytes for the same record. stored is the record that it replaces,
// nil for a new one: it may have been written by a newer version, and the fields that this version does not know are
// kept.
//
// A record that no replica could read again is an error that wraps [snapshot.ErrBadRecord].
func (c *Catalog) encode(r *snapshot.Record, stored *catalogv1.Record) (string, error) {
	m := messageOf(r)
	keepUnknown(m, stored)
	doc, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err == nil {
		err = check(r.Name, m, len(doc))
	}
	if err != nil {
		key := c.keys.record(r.Name)
		return "", snapshot.ReasonCatalogUnavailable.New("write the record of %q", r.Name).Final().
			Because(&snapshot.BadRecord{Name: r.Name, Key: key, Err: fmt.Errorf("no replica could read it: %w", err)})
	}
	return string(doc), nil
}

// messageOf returns the message of a record. Messages of backends and systems may hold any bytes; protobuf takes valid
// UTF-8 only.
func messageOf(r *snapshot.Record) *catalogv1.Record {
	b := r.Bookkeeping()
	m := &catalogv1.Record{
		Snapshot: wire.SnapshotToProto(&r.Snapshot), RequestId: r.RequestID, File: r.File, Generation: r.Generation,
		Owner: b.Owner, Damaged: b.Damaged, SupersededBy: b.SupersededBy, KeptOn: b.FallbackNode, Outdated: b.Outdated,
		TimelineEnded: b.TimelineEnded,
	}
	m.Snapshot.Etag = "" // it is the revision of the key
	if at := r.Proven(); !at.IsZero() {
		m.ProvenTime = timestamppb.New(at)
	}
	for backend, at := range r.Seen {
		if m.Seen == nil {
			m.Seen = map[string]*timestamppb.Timestamp{}
		}
		m.Seen[backend] = timestamppb.New(at)
	}
	for _, f := range b.Failures {
		m.Failures = append(m.Failures, &catalogv1.Failure{
			Backend: f.Backend, Reason: string(f.Reason), Message: utf8(f.Message),
		})
	}
	for _, p := range b.Repairs {
		m.Repairs = append(m.Repairs, &catalogv1.Repair{
			Backend: p.Backend, Attempts: p.Attempts, NextTime: timestamppb.New(p.Next), Error: utf8(p.Error),
		})
	}
	return m
}

func utf8(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// parse returns the message under the key of a record. A record that cannot be read is an error that wraps
// [snapshot.ErrBadRecord], also in a listing: one that is left out without a word would be taken for a snapshot that is
// gone.
func (c *Catalog) parse(kv *mvccpb.KeyValue) (*catalogv1.Record, error) {
	name, ok := c.keys.nameOfRecord(string(kv.Key))
	if !ok {
		return nil, c.bad("", string(kv.Key), errors.New("no snapshot has such a key"))
	}
	m, err := decodeRecord(name, kv.Value)
	if err != nil {
		return nil, c.bad(name, string(kv.Key), err)
	}
	return m, nil
}

// decode returns the record of a key.
func (c *Catalog) decode(kv *mvccpb.KeyValue) (*snapshot.Record, error) {
	m, err := c.parse(kv)
	if err != nil {
		return nil, err
	}
	return recordOf(m, kv.ModRevision), nil
}

// bad is the error of a record that cannot be read.
func (c *Catalog) bad(name, key string, err error) error {
	e := snapshot.ReasonCatalogUnavailable.New("read the record under %q", key).Final()
	if errors.Is(err, errNewer) {
		return e.Because(&snapshot.BadRecord{Name: name, Key: key, Err: err}).
			Advise("a newer snapshotd may have written it: update this replica; if none has, remove the key (%s) "+
				"and reconcile: what the backends hold gets its record back", removal(key))
	}
	err = fmt.Errorf("its value is damaged or was written by something else: %w", err)
	return e.Because(&snapshot.BadRecord{Name: name, Key: key, Err: err}).
		Advise("remove the key (%s) and reconcile: what the backends hold gets its record back", removal(key))
}

// decodeRecord returns the message of the record with a name. It is held to the limits of replicas: whoever
// can write to etcd can put anything there.
func decodeRecord(name string, value []byte) (*catalogv1.Record, error) {
	if len(value) > maxRecord {
		return nil, fmt.Errorf("it has %d bytes, more than the %d of the largest record", len(value), maxRecord)
	}
	m := &catalogv1.Record{}
	if err := proto.Unmarshal(value, m); err != nil {
		return nil, err
	}
	if err := check(name, m, len(value)); err != nil {
		return nil, err
	}
	return m, nil
}

// recordOf returns the record of a message that was checked.
func recordOf(m *catalogv1.Record, revision int64) *snapshot.Record {
	s := wire.SnapshotFromProto(m.GetSnapshot())
	s.Proof = proofOf(m, s)
	r := snapshot.WithBookkeeping(s, bookkeepingOf(m))
	r.RequestID, r.File, r.Generation = m.GetRequestId(), m.GetFile(), m.GetGeneration()
	for backend, at := range m.GetSeen() {
		if r.Seen == nil {
			r.Seen = map[string]time.Time{}
		}
		r.Seen[backend] = at.AsTime()
	}
	setVersion(r, revision)
	return r
}

// proofOf returns the proof of a stored record. An older version writes the time of a proof alone, and takes that away
// when it finds that the snapshot cannot be restored; the proof itself it keeps as it is.
func proofOf(m *catalogv1.Record, s *snapshot.Snapshot) *snapshot.Verification {
	proof := s.Proof
	switch at := m.GetProvenTime(); {
	case proof == nil && at == nil && s.Verification.Proves():
		return s.Verification
	case at == nil && proof != nil && proof.Error == "":
		void := *proof
		void.Error = "it does not hold any more: a replica of an older version has verified the snapshot since, and it " +
			"did not pass"
		return &void
	case at == nil, proof != nil && proof.Error == "" && !proof.Time.Before(at.AsTime()):
		return proof
	case s.Verification.Proves() && s.Verification.Time.Equal(at.AsTime()):
		return s.Verification
	default:
		return &snapshot.Verification{Level: snapshot.LevelDrill, Passed: true, Time: at.AsTime()}
	}
}

func bookkeepingOf(m *catalogv1.Record) snapshot.Bookkeeping {
	b := snapshot.Bookkeeping{
		Owner: m.GetOwner(), Damaged: m.GetDamaged(), SupersededBy: m.GetSupersededBy(), FallbackNode: m.GetKeptOn(),
		TimelineEnded: m.GetTimelineEnded(), Outdated: m.GetOutdated(),
	}
	for _, f := range m.GetFailures() {
		b.Failures = append(b.Failures, snapshot.Failure{
			Backend: f.GetBackend(), Reason: snapshot.Reason(f.GetReason()), Message: f.GetMessage(),
		})
	}
	for _, p := range m.GetRepairs() {
		b.Repairs = append(b.Repairs, snapshot.Repair{
			Backend: p.GetBackend(), Attempts: p.GetAttempts(), Next: p.GetNextTime().AsTime(), Error: p.GetError(),
		})
	}
	return b
}

func setVersion(r *snapshot.Record, revision int64) {
	r.Version, r.Etag = revision, strconv.FormatInt(revision, 16)
}
