package catalog

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/snapshotd/snapshotd/internal/wire"
	catalogv1 "github.com/snapshotd/snapshotd/proto/snapshotd/catalog/v1"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// keepUnknown puts into m the fields of the stored record that this version does not know, so that a replica of an
// older version does not take them away from those of a newer one. Those of a location or a repair stay as long as
// there is one on that backend, those of a verdict or a failure as long as that is the same.
//
// The domain does not carry them: a change is made on condition that the stored record is the one that was read, and it
// is read again for that anyway.
func keepUnknown(m, stored *catalogv1.Record) {
	if stored == nil {
		return
	}
	keep(m, stored)
	was, now := stored.GetSnapshot(), m.GetSnapshot()
	keep(now, was)
	if v := was.GetVerification(); v != nil && proto.Equal(now.GetVerification(), asKnown(v)) {
		now.Verification = v
	}
	if p := was.GetProof(); p != nil && proto.Equal(now.GetProof(), asKnown(p)) {
		now.Proof = p
	}
	if p := was.GetJournalProof(); p != nil && proto.Equal(now.GetJournalProof(), asKnown(p)) {
		now.JournalProof = p
	}
	earlier := was.GetEarlierVerifications()
	earlier = earlier[:min(len(earlier), snapshot.MaxEarlier)] // somebody else may have written any number of them
	for i, v := range now.GetEarlierVerifications() {
		same := func(was *snapshotdv1.Verification) bool { return proto.Equal(v, asKnown(was)) }
		if at := slices.IndexFunc(earlier, same); at >= 0 {
			now.EarlierVerifications[i] = earlier[at]
		}
	}
	for _, l := range now.GetLocations() {
		keepOf(l, was.GetLocations(), func(o *snapshotdv1.Location) bool { return o.GetBackend() == l.GetBackend() })
	}
	for _, p := range m.GetRepairs() {
		keepOf(p, stored.GetRepairs(), func(o *catalogv1.Repair) bool { return o.GetBackend() == p.GetBackend() })
	}
	for _, f := range m.GetFailures() {
		keepOf(f, stored.GetFailures(), func(o *catalogv1.Failure) bool {
			return o.GetBackend() == f.GetBackend() && o.GetReason() == f.GetReason() && o.GetMessage() == f.GetMessage()
		})
	}
}

// keep copies the fields that this version does not know, but not those of the messages inside.
func keep(to, from proto.Message) {
	if u := from.ProtoReflect().GetUnknown(); len(u) > 0 {
		to.ProtoReflect().SetUnknown(u)
	}
}

// keepOf does so for the first message that is the same.
func keepOf[M proto.Message](to M, from []M, same func(M) bool) {
	if i := slices.IndexFunc(from, same); i >= 0 {
		keep(to, from[i])
	}
}

// asKnown returns a verdict as this version writes it.
func asKnown(v *snapshotdv1.Verification) *snapshotdv1.Verification {
	return wire.SnapshotToProto(wire.SnapshotFromProto(&snapshotdv1.Snapshot{Verification: v})).GetVerification()
}
