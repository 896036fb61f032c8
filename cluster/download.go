package cluster

import (
	"context"
	"errors"
	"io"
	"path"
	"sync"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// downloads is how many downloads of a cluster's snapshots are read at the same time: each one holds parts of an
// object and frames, about 60 MiB of a large one in a bucket, until it is closed.
const downloads = 2

// Download is the bytes of a snapshot from an offset on. From offset 0 a Read returns io.EOF only when all checksums
// were right; damage is a [snapshot.Error] with ReasonChecksumMismatch. From a later offset only the number of bytes
// is compared.
type Download struct {
	io.Reader
	Name        string
	Backend     string
	Size        int64  // of the whole
	SHA256      string // of its first SHA256Bytes bytes, in hex
	SHA256Bytes int64  // all of the stored bytes; all of a database but the checksum that etcd sends behind it
	FileName    string

	close func() error
}

// NewDownload returns d with its bytes, which r has.
func NewDownload(r io.ReadCloser, d Download) *Download {
	d.Reader, d.close = r, sync.OnceValue(r.Close)
	return &d
}

// Close ends the reading, wherever it is. It may be called again, and at the same time.
func (d *Download) Close() error { return d.close() }

// Download opens a snapshot for reading, and waits while two are being read. When no backend is named, the next one is
// tried after a copy that cannot be read. The caller closes the download.
func (c *Cluster) Download(ctx context.Context, req DownloadRequest) (*Download, error) {
	rec, err := c.Get(ctx, req.Name)
	if err != nil {
		return nil, err
	}
	if req.Backend != "" {
		if req.Backend, err = c.named("backend", req.Backend); err != nil {
			return nil, err
		}
	}
	d := downloadOf(rec, req.Decoded)
	if err := checkDownload(rec, req, d.Size); err != nil {
		return nil, err
	}
	copies := c.copiesOf(rec, req.Backend, func(l *snapshot.Location) bool { return req.Backend != "" || l.State == snapshot.StateReady })
	if distant := c.node.HeldElsewhere(rec); len(copies) == 0 && len(distant) > 0 {
		return nil, c.node.OnOther(distant, "download %s", rec.Name)
	}
	if len(copies) == 0 {
		return nil, snapshot.NoGoodCopy("download", rec.Name, req.Backend)
	}
	release, err := c.downloading.take(ctx, "download %s", rec.Name)
	if err != nil {
		return nil, err
	}
	in, backend, err := c.openFirst(ctx, copies, rec, repository.Part{
		Decoded: req.Decoded, Offset: req.Offset, Size: d.Size, Identities: c.identitiesFor(rec),
	})
	if err != nil {
		release()
		return nil, err
	}
	d.Reader, d.Backend = in, backend
	d.close = sync.OnceValue(func() error {
		defer release()
		return in.Close()
	})
	return &d, nil
}

// openFirst opens the first copy that can be read. The errors of all copies are returned when there is none: the
// first one alone would hide that the others were tried.
func (c *Cluster) openFirst(
	ctx context.Context, copies []*repository.Repository, rec *snapshot.Record, part repository.Part,
) (in io.ReadCloser, backend string, err error) {
	var errs []error
	for _, r := range copies {
		in, err := r.OpenPart(ctx, rec, part)
		if err == nil {
			return in, r.Name(), nil
		}
		if ctx.Err() != nil {
			return nil, "", snapshot.Cancelled(ctx, "download %s", rec.Name)
		}
		c.log.WarnContext(ctx, "copy cannot be downloaded", "snapshot", rec.Name, "backend", r.Name(), "error", err)
		errs = append(errs, err)
	}
	return nil, "", errors.Join(errs...)
}

// checkDownload refuses a snapshot of which nothing can be read yet, and an offset that is not in it.
func checkDownload(rec *snapshot.Record, req DownloadRequest, size int64) error {
	switch {
	case len(rec.ReadyOn()) == 0 && rec.CheckIdle() != nil: // while others are written, a backend that is READY has all of it
		return rec.CheckIdle()
	case req.Offset < 0 || req.Offset > size:
		return snapshot.Invalid("offset", "is %d, and there are %d bytes", req.Offset, size)
	}
	return nil
}

// downloadOf describes the download of a snapshot. The sizes come from the record, so that a caller knows them before
// the first byte, and can resume with an offset.
func downloadOf(rec *snapshot.Record, decoded bool) Download {
	if decoded {
		return Download{
			Name: rec.Name, Size: min(rec.DBSize, repository.MaxSize) + repository.ChecksumSize,
			SHA256: rec.SHA256, SHA256Bytes: rec.DBSize, FileName: rec.Name + snapshot.DataSuffix,
		}
	}
	return Download{
		Name: rec.Name, Size: rec.StoredSize, SHA256: rec.StoredSHA256, SHA256Bytes: rec.StoredSize, FileName: path.Base(rec.DataKey()),
	}
}
