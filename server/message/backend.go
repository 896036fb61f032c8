package message

import (
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Backend returns the message of the facts about one backend of a cluster.
func Backend(b status.Backend) *snapshotdv1.Cluster_Backend {
	m := &snapshotdv1.Cluster_Backend{
		Name: b.Name, Kind: snapshotdv1.Location_BackendKind(b.Kind), Uri: b.URI, Url: b.URL, Snapshots: b.Snapshots,
		SizeBytes: b.Bytes, FreeBytes: b.Free, LastError: wire.Text(b.Error), Waiting: int64(b.Waiting),
		NextRepairTime: wire.Time(b.Next),
	}
	if b.Newest != nil {
		m.Newest = b.Newest.Name
	}
	for s := snapshot.StateSaving; s <= snapshot.StateDeleting; s++ {
		if b.Last == s.String() {
			m.LastState = snapshotdv1.Snapshot_State(s)
		}
	}
	return m
}
