package catalog

import (
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

// encode returns a record as it is stored: the same bytes for the same record. Messages of backends and systems may
// hold any bytes; protobuf takes valid UTF-8 only.
func encode(r *snapshot.Record) (string, error) {
	b := r.Bookkeeping()
	m := &catalogv1.Record{
		Snapshot: wire.SnapshotToProto(&r.Snapshot), RequestId: r.RequestID, File: r.File, Generation: r.Generation,
		Owner: b.Owner, Damaged: b.Damaged, SupersededBy: b.SupersededBy, KeptOn: b.FallbackNode,
	}
	m.Snapshot.Etag = "" // it is the revision of the key
	if !b.Proven.IsZero() {
		m.ProvenTime = timestamppb.New(b.Proven)
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
	doc, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return "", snapshot.ReasonInternal.New("encode the record of %q", r.Name).Because(err)
	}
	return string(doc), nil
}

func utf8(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// decode returns the record of a key. A record that cannot be read is an error that names the key, also in a listing: a
// record that is left out would be taken for a snapshot that is gone.
func (c *Catalog) decode(kv *mvccpb.KeyValue) (*snapshot.Record, error) {
	var m catalogv1.Record
	err := proto.Unmarshal(kv.Value, &m)
	if err == nil && (m.GetSnapshot() == nil || c.keys.record(m.GetSnapshot().GetName()) != string(kv.Key)) {
		err = fmt.Errorf("it is of the snapshot %q", m.GetSnapshot().GetName())
	}
	if err != nil {
		return nil, damaged(string(kv.Key), err)
	}
	r := snapshot.WithBookkeeping(wire.SnapshotFromProto(m.GetSnapshot()), bookkeepingOf(&m))
	r.RequestID, r.File, r.Generation = m.GetRequestId(), m.GetFile(), m.GetGeneration()
	for backend, at := range m.GetSeen() {
		if r.Seen == nil {
			r.Seen = map[string]time.Time{}
		}
		r.Seen[backend] = at.AsTime()
	}
	setVersion(r, kv.ModRevision)
	return r, nil
}

func bookkeepingOf(m *catalogv1.Record) snapshot.Bookkeeping {
	b := snapshot.Bookkeeping{
		Owner: m.GetOwner(), Damaged: m.GetDamaged(), SupersededBy: m.GetSupersededBy(), FallbackNode: m.GetKeptOn(),
	}
	if m.GetProvenTime() != nil {
		b.Proven = m.GetProvenTime().AsTime()
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

func damaged(key string, err error) error {
	return snapshot.ReasonCatalogUnavailable.New("read the record under %q", key).Final().
		Because(fmt.Errorf("its value is damaged or was written by something else: %w", err)).
		Advise("remove the key (etcdctl del) and reconcile: what the backends hold gets its record back")
}

func setVersion(r *snapshot.Record, revision int64) {
	r.Version, r.Etag = revision, strconv.FormatInt(revision, 16)
}
