// Package message makes the API's messages of clusters: their verdicts, pages of them, their journals and backends.
package message

import (
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Window returns the message of a recovery window.
func Window(w *status.Window) *snapshotdv1.RecoveryWindow {
	m := Journal(w.Journal)
	if m == nil {
		m = &snapshotdv1.RecoveryWindow{}
	}
	for _, t := range w.Timelines {
		timeline := &snapshotdv1.RecoveryWindow_Timeline{
			Name: t.Name, StartTime: wire.Time(t.Start), Reason: wire.Text(t.Reason),
		}
		for _, r := range t.Ranges {
			timeline.Ranges = append(timeline.Ranges, &snapshotdv1.RecoveryWindow_Range{
				FirstRevision: r.First, LastRevision: r.Last, FirstTime: wire.Time(r.FirstTime), LastTime: wire.Time(r.LastTime),
				CompleteTime: wire.Time(r.Complete), RestorableFromRevision: r.From, Base: r.Base,
			})
		}
		m.Timelines = append(m.Timelines, timeline)
	}
	for _, g := range w.Gaps {
		m.Gaps = append(m.Gaps, &snapshotdv1.RecoveryWindow_Gap{
			AfterRevision: g.After, BeforeRevision: g.Before,
			AfterTime: wire.Time(g.AfterTime), BeforeTime: wire.Time(g.BeforeTime),
			Reason: wire.Text(g.Reason), Timeline: g.Timeline,
		})
	}
	for _, s := range w.Snapshots {
		m.Snapshots = append(m.Snapshots, &snapshotdv1.RecoveryWindow_Snapshot{
			Name: s.Name, OldestRevision: s.Oldest, Revision: s.Revision, CreateTime: wire.Time(s.Created),
			JournalProof: wire.VerificationToProto(s.JournalProof),
		})
	}
	m.Estimates = w.Estimates
	for _, u := range w.Unread {
		m.Unread = append(m.Unread, wire.Text(u))
	}
	return m
}

// Journal returns the part of a recovery window that is known without asking the backends; nil without
// a journal.
func Journal(j *status.Journal) *snapshotdv1.RecoveryWindow {
	if j == nil {
		return nil
	}
	m := &snapshotdv1.RecoveryWindow{Journaled: true, Endpoint: j.Endpoint}
	if j.Following && j.Endpoint != "" { // else etcd goes on, and nobody counts
		m.LagRevisions = &j.Lag
	}
	if j.Kept > 0 {
		m.Kept = durationpb.New(j.Kept)
	}
	if d := j.Notes.Drill; d != nil {
		m.Drill = &snapshotdv1.RecoveryWindow_Drill{
			Revision: d.Revision, Timeline: wire.Text(d.Timeline), Base: wire.Text(d.Base),
			Verdict: wire.VerificationToProto(&d.Verdict),
		}
	}
	for _, p := range j.Points {
		m.RecoveryPoints = append(m.RecoveryPoints, &snapshotdv1.RecoveryWindow_RecoveryPoint{
			Backend: p.Backend, Age: durationpb.New(p.Age), Error: wire.Text(p.Error),
		})
	}
	return m
}

// Removals returns the messages of segments that go, those of some backends or of all. err is why that is not known.
func Removals(cluster string, all []status.JournalRemoval, backends []string, err error) []*snapshotdv1.JournalRemoval {
	if err != nil {
		return []*snapshotdv1.JournalRemoval{{Error: wire.Status(err, cluster, nil).Proto()}}
	}
	var some []*snapshotdv1.JournalRemoval
	for _, r := range all {
		if !snapshot.IsChosen(r.Backend, backends) {
			continue
		}
		some = append(some, &snapshotdv1.JournalRemoval{
			Backend: r.Backend, Timeline: r.Timeline, FirstRevision: r.First, LastRevision: r.Last, Segments: r.Segments,
			SizeBytes: r.Bytes, Why: wire.Text(r.Why),
		})
	}
	return some
}

// Copies returns the messages of the copies of a cluster's journal.
func Copies(cluster string, all []status.JournalCopies) (some []*snapshotdv1.JournalReconciliation) {
	for _, c := range all {
		m := &snapshotdv1.JournalReconciliation{
			Cluster: cluster, Backend: c.Backend, Segments: c.Segments, SizeBytes: c.Bytes, LackingRevisions: c.Lacking,
			DamagedSegments: c.Damaged,
		}
		if c.Err != nil {
			m.Error = wire.Status(c.Err, cluster, nil).Proto()
		}
		some = append(some, m)
	}
	return some
}
