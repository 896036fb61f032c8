package server

import (
	"context"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

// GetRecoveryWindow implements the RPC.
func (s *clusterService) GetRecoveryWindow(
	ctx context.Context, req *snapshotdv1.GetRecoveryWindowRequest,
) (*snapshotdv1.GetRecoveryWindowResponse, error) {
	c, err := s.api.cluster(ctx, req.GetCluster())
	if err != nil {
		return nil, err
	}
	page, err := c.List(ctx, snapshot.Query{
		States: []snapshot.State{snapshot.StateReady, snapshot.StatePartial}, PageSize: judgedSnapshots,
	})
	if err != nil {
		return nil, err
	}
	w := status.Window{}
	if c.Facts != nil {
		if w, err = c.Facts.Window(ctx); err != nil {
			return nil, err
		}
	}
	status.PutBases(&w, page.Records)
	return &snapshotdv1.GetRecoveryWindowResponse{Window: windowToProto(&w), Time: timestamppb.Now()}, nil
}

func windowToProto(w *status.Window) *snapshotdv1.RecoveryWindow {
	m := journalToProto(w.Journal)
	if m == nil {
		m = &snapshotdv1.RecoveryWindow{}
	}
	for _, t := range w.Timelines {
		timeline := &snapshotdv1.RecoveryWindow_Timeline{Name: t.Name, StartTime: timeOrNil(t.Start), Reason: wire.Text(t.Reason)}
		for _, r := range t.Ranges {
			timeline.Ranges = append(timeline.Ranges, &snapshotdv1.RecoveryWindow_Range{
				FirstRevision: r.First, LastRevision: r.Last, FirstTime: timeOrNil(r.FirstTime), LastTime: timeOrNil(r.LastTime),
				CompleteTime: timeOrNil(r.Complete), RestorableFromRevision: r.From, Base: r.Base,
			})
		}
		m.Timelines = append(m.Timelines, timeline)
	}
	for _, g := range w.Gaps {
		m.Gaps = append(m.Gaps, &snapshotdv1.RecoveryWindow_Gap{
			AfterRevision: g.After, BeforeRevision: g.Before, AfterTime: timeOrNil(g.AfterTime), BeforeTime: timeOrNil(g.BeforeTime),
			Reason: wire.Text(g.Reason), Timeline: g.Timeline,
		})
	}
	for _, s := range w.Snapshots {
		m.Snapshots = append(m.Snapshots, &snapshotdv1.RecoveryWindow_Snapshot{
			Name: s.Name, OldestRevision: s.Oldest, Revision: s.Revision, CreateTime: timeOrNil(s.Created),
		})
	}
	m.Estimates = w.Estimates
	for _, u := range w.Unread {
		m.Unread = append(m.Unread, wire.Text(u))
	}
	return m
}

// journalToProto returns the part of a recovery window that this replica knows without asking the backends; nil without
// a journal.
func journalToProto(j *status.Journal) *snapshotdv1.RecoveryWindow {
	if j == nil {
		return nil
	}
	m := &snapshotdv1.RecoveryWindow{Journaled: true, Endpoint: j.Endpoint}
	for _, p := range j.Points {
		m.RecoveryPoints = append(m.RecoveryPoints, &snapshotdv1.RecoveryWindow_RecoveryPoint{
			Backend: p.Backend, Age: durationpb.New(p.Age), Error: wire.Text(p.Error),
		})
	}
	return m
}
