package wire

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

var eventTypes = map[snapshot.EventType]snapshotdv1.WatchResponse_Type{
	snapshot.EventStarted:      snapshotdv1.WatchResponse_TYPE_STARTED,
	snapshot.EventProgress:     snapshotdv1.WatchResponse_TYPE_PROGRESS,
	snapshot.EventLocationDone: snapshotdv1.WatchResponse_TYPE_LOCATION_DONE,
	snapshot.EventFinished:     snapshotdv1.WatchResponse_TYPE_FINISHED,
	snapshot.EventDeleted:      snapshotdv1.WatchResponse_TYPE_DELETED,
}

// EventToProto returns an event as Watch sends it.
func EventToProto(ev snapshot.Event) *snapshotdv1.WatchResponse {
	m := &snapshotdv1.WatchResponse{
		Type:       eventTypes[ev.Type],
		Time:       timestamppb.New(ev.Time),
		Cluster:    ev.Cluster,
		Name:       ev.Name,
		RequestId:  ev.RequestID,
		Backend:    ev.Backend,
		DoneBytes:  ev.Done,
		TotalBytes: ev.Total,
		Phase:      snapshotdv1.WatchResponse_Phase(ev.Phase), // the numbers are the same
	}
	if ev.Snapshot != nil {
		m.Snapshot = SnapshotToProto(ev.Snapshot)
	}
	return m
}
