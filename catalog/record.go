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

// encode returns a record as it is stored: the same bytes for the same record. Text that backends and systems gave may
// hold anything; protobuf takes UTF-8 alone.
func encode(r *snapshot.Record) (string, error) {
	s := r.Snapshot.Clone()
	s.Etag = ""
	s.Error = utf8(s.Error)
	for i := range s.Locations {
		s.Locations[i].Error, s.Locations[i].URI = utf8(s.Locations[i].Error), utf8(s.Locations[i].URI)
	}
	m := &catalogv1.Record{Snapshot: wire.SnapshotToProto(s), RequestId: r.RequestID, Owner: r.Owner, Damaged: r.Damaged, File: r.File, SupersededBy: r.SupersededBy, KeptOn: r.KeptOn}
	if !r.Proven.IsZero() {
		m.ProvenTime = timestamppb.New(r.Proven)
	}
	for backend, at := range r.Seen {
		if m.Seen == nil {
			m.Seen = map[string]*timestamppb.Timestamp{}
		}
		m.Seen[backend] = timestamppb.New(at)
	}
	for _, f := range r.Failures {
		m.Failures = append(m.Failures, &catalogv1.Failure{Backend: f.Backend, Reason: string(f.Reason), Message: utf8(f.Message)})
	}
	for _, p := range r.Repairs {
		m.Repairs = append(m.Repairs, &catalogv1.Repair{
			Backend: p.Backend, Attempts: p.Attempts, NextTime: timestamppb.New(p.Next), Error: utf8(p.Error),
		})
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return "", &snapshot.Error{Reason: snapshot.ReasonInternal, Message: fmt.Sprintf("encode the record of %q", r.Name), Err: err}
	}
	return string(b), nil
}

func utf8(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// decode returns the record of a key. One that cannot be read is an error that names the key, whoever asks: a record that
// is left out would be taken for a snapshot that is gone.
func (c *Catalog) decode(kv *mvccpb.KeyValue) (*snapshot.Record, error) {
	var m catalogv1.Record
	err := proto.Unmarshal(kv.Value, &m)
	if err == nil && c.keys.record(m.GetSnapshot().GetName()) != string(kv.Key) {
		err = fmt.Errorf("it is of the snapshot %q", m.GetSnapshot().GetName())
	}
	if err != nil {
		return nil, damaged(string(kv.Key), err)
	}
	r := &snapshot.Record{Snapshot: *wire.SnapshotFromProto(m.GetSnapshot()), RequestID: m.GetRequestId(), Owner: m.GetOwner(), Damaged: m.GetDamaged(), File: m.GetFile(), SupersededBy: m.GetSupersededBy(), KeptOn: m.GetKeptOn()}
	if m.GetProvenTime() != nil {
		r.Proven = m.GetProvenTime().AsTime()
	}
	for backend, at := range m.GetSeen() {
		if r.Seen == nil {
			r.Seen = map[string]time.Time{}
		}
		r.Seen[backend] = at.AsTime()
	}
	for _, f := range m.GetFailures() {
		r.Failures = append(r.Failures, snapshot.Failure{Backend: f.GetBackend(), Reason: snapshot.Reason(f.GetReason()), Message: f.GetMessage()})
	}
	for _, p := range m.GetRepairs() {
		r.Repairs = append(r.Repairs, snapshot.Repair{
			Backend: p.GetBackend(), Attempts: p.GetAttempts(), Next: p.GetNextTime().AsTime(), Error: p.GetError(),
		})
	}
	setVersion(r, kv.ModRevision)
	return r, nil
}

func damaged(key string, err error) error {
	return &snapshot.Error{
		Reason: snapshot.ReasonCatalogUnavailable, Message: fmt.Sprintf("read the record under %q", key),
		Err:  fmt.Errorf("its value is damaged or was written by something else: %w", err),
		Hint: "remove the key (etcdctl del) and reconcile: what the backends hold gets its record back",
	}
}

func setVersion(r *snapshot.Record, revision int64) {
	r.Version, r.Etag = revision, strconv.FormatInt(revision, 16)
}
