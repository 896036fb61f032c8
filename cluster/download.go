package cluster

import (
	"context"

	"github.com/snapshotd/snapshotd/cluster/downloading"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Download opens a snapshot for reading, and waits while two are being read. When no backend is named, the next one is
// tried after a copy that cannot be read. The caller closes the download.
func (c *Cluster) Download(ctx context.Context, req DownloadRequest) (*downloading.Download, error) {
	rec, err := c.Get(ctx, req.Name)
	if err != nil {
		return nil, err
	}
	if req.Backend != "" {
		if req.Backend, err = c.named("backend", req.Backend); err != nil {
			return nil, err
		}
	}
	d := downloading.Downloading{Record: rec, Logger: c.log, Part: repository.Part{
		Decoded: req.Decoded, Offset: req.Offset, Identities: c.identitiesFor(rec),
	}}
	if err := d.Check(); err != nil {
		return nil, err
	}
	copies := c.copiesOf(rec, req.Backend, snapshot.StateReady)
	if req.Backend != "" {
		copies = c.copiesOf(rec, req.Backend) // the caller has chosen, and may want a copy that is not READY
	}
	if len(copies) == 0 {
		return nil, c.noCopy("download", rec, req.Backend)
	}
	release, err := c.downloading.Take(ctx, "download %s", rec.Name)
	if err != nil {
		return nil, err
	}
	// The place is given back when the download is closed, and not when this call returns.
	return d.Open(ctx, copies, release)
}
