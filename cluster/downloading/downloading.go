// Package downloading gives the bytes of a snapshot to a caller, from the first copy that can be read.
package downloading

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path"
	"sync"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

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

// New returns d with its bytes, which r has.
func New(r io.ReadCloser, d Download) *Download {
	d.Reader, d.close = r, sync.OnceValue(r.Close)
	return &d
}

// Close ends the reading, wherever it is. It may be called again, and beside a Read of a download that was opened.
func (d *Download) Close() error { return d.close() }

// Downloading is one download before it is opened.
type Downloading struct {
	Record *snapshot.Record
	Part   repository.Part // its Size is set by Open
	Logger *slog.Logger
}

// Check refuses a snapshot of which nothing can be read yet, and an offset that is not in it.
func (d *Downloading) Check() error {
	switch size := d.describe().Size; {
	// While other copies are written, a backend that is READY has all of the snapshot.
	case len(d.Record.ReadyOn()) == 0 && d.Record.CheckIdle() != nil:
		return d.Record.CheckIdle()
	case d.Part.Offset < 0 || d.Part.Offset > size:
		return snapshot.Invalid("offset", "is %d, and there are %d bytes", d.Part.Offset, size)
	}
	return nil
}

// Open opens the first copy that can be read. The errors of all copies are returned when there is none: the first one
// alone would hide that the others were tried. release is called when the download is closed, or was not opened.
func (d *Downloading) Open(ctx context.Context, copies []*repository.Repository, release func()) (*Download, error) {
	download := d.describe()
	d.Part.Size = download.Size
	ctx, stop := context.WithCancel(ctx)
	var errs []error
	for _, r := range copies {
		in, err := r.OpenPart(ctx, d.Record, d.Part)
		if err == nil {
			download.Backend = r.Name()
			return New(&opened{in: in, stop: stop, release: release}, download), nil
		}
		if ctx.Err() != nil {
			errs = []error{snapshot.Cancelled(ctx, "download %s", d.Record.Name)}
			break
		}
		d.Logger.WarnContext(ctx, "copy cannot be downloaded", "snapshot", d.Record.Name, "backend", r.Name(), "error", err)
		errs = append(errs, err)
	}
	stop()
	release()
	return nil, errors.Join(errs...)
}

// describe returns the download without its bytes. The sizes come from the record, so that a caller knows them before
// the first byte, and can resume with an offset.
func (d *Downloading) describe() Download {
	rec := d.Record
	if d.Part.Decoded {
		return Download{
			Name: rec.Name, Size: min(rec.DBSize, snapshot.MaxSize) + repository.ChecksumSize,
			SHA256: rec.SHA256, SHA256Bytes: rec.DBSize, FileName: rec.Name + snapshot.DataSuffix,
		}
	}
	return Download{
		Name: rec.Name, Size: rec.StoredSize, SHA256: rec.StoredSHA256, SHA256Bytes: rec.StoredSize,
		FileName: path.Base(rec.DataKey()),
	}
}

// opened is a copy that is read. It gives its place back when it is closed. Another goroutine closes it when its caller
// is too slow, also while the backend is waited for. A Read that is under way is ended first, because the readers below
// are not made to be closed beside it.
type opened struct {
	stop    context.CancelFunc // ends a Read
	release func()

	mu     sync.Mutex // held by Read and Close
	in     io.ReadCloser
	closed bool
}

// Read implements [io.Reader].
func (o *opened) Read(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return 0, os.ErrClosed
	}
	return o.in.Read(p)
}

// Close implements [io.Closer].
func (o *opened) Close() error {
	defer o.release()
	o.stop()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	return o.in.Close()
}
