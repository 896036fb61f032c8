// Package fetch downloads a snapshot through a service, in as many calls as it takes, and compares the checksum of all
// its bytes.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/internal/cli/exit"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

const (
	// tries is how often a download is tried without any progress.
	tries = 5
	// firstPause is the pause before the second try; each further pause is twice as long.
	firstPause = 200 * time.Millisecond
)

// Download is one download.
type Download struct {
	client   snapshotdv1.SnapshotServiceClient
	req      *snapshotdv1.DownloadRequest // its offset is the number of bytes so far
	header   *snapshotdv1.DownloadHeader  // of the first call; the later ones must be the same
	part     *partFile                    // nil when it goes to standard output
	to       *sum
	progress func(backend string, done, total int64)
}

// New returns a download that has not begun.
func New(
	client snapshotdv1.SnapshotServiceClient, req *snapshotdv1.DownloadRequest,
	progress func(backend string, done, total int64),
) *Download {
	return &Download{client: client, req: req, progress: progress}
}

// Write downloads to w. The bytes are good only when there is no error.
func (d *Download) Write(ctx context.Context, w io.Writer) error {
	d.to = newSum(w)
	return d.run(ctx)
}

// Result describes a file that was downloaded.
type Result struct {
	Header *snapshotdv1.DownloadHeader
	SHA256 string // of the file, hex
}

// File downloads to a file, which appears when it is whole. An existing one is replaced only with force.
func (d *Download) File(ctx context.Context, file string, force bool) (Result, error) {
	part, err := openPart(file, force, d.req)
	if err != nil {
		return Result{}, err
	}
	defer part.close()
	d.part, d.to, d.req.Offset = part, part.sum, part.sum.n
	if err := d.run(ctx); err != nil {
		if exit.IsDamaged(err) || part.empty() {
			part.remove()
		}
		return Result{}, err
	}
	if err := part.finish(force); err != nil {
		return Result{}, err
	}
	return Result{d.header, part.sum.hex()}, nil
}

// run downloads all bytes and compares their checksum.
func (d *Download) run(ctx context.Context) error {
	for try := 1; ; try++ {
		before := d.to.n
		err := d.once(ctx)
		switch {
		case err == nil:
			return d.verify()
		case exit.Status(err) == codes.DataLoss:
			return exit.Damaged(errors.New(status.Convert(err).Message()))
		case d.header == nil || !broke(err) || ctx.Err() != nil:
			return err
		}
		if d.to.n > before {
			try = 1
		}
		if try == tries {
			return err
		}
		if backoff.Wait(ctx, backoff.Delay(firstPause, time.Minute, try)) != nil {
			return err
		}
	}
}

// broke reports whether a download can go on after an error: the connection failed, the service stopped, or this
// program was slow. The service has reported nothing about the snapshot then.
func broke(err error) bool {
	switch wire.DetailsOf(err).Reason {
	case "":
		return exit.Status(err) == codes.Unavailable
	case snapshot.ReasonShuttingDown, snapshot.ReasonSlowConsumer:
		return true
	}
	return false
}

// FileName asks the service for the name of its file.
func (d *Download) FileName(ctx context.Context) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if _, err := d.open(ctx); err != nil {
		return "", err
	}
	name := filepath.Base(d.header.GetFileName())
	d.header = nil // the download itself begins with a header of its own
	return name, nil
}

// once downloads missing bytes until all are there or something breaks.
func (d *Download) once(all context.Context) error {
	ctx, cancel := context.WithCancel(all)
	defer cancel()
	stream, err := d.open(ctx)
	if errors.Is(err, errAnew) {
		cancel() // otherwise the service reads both, or waits for the end of this one
		return d.once(all)
	}
	if err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := d.to.Write(m.GetData()); err != nil {
			return fmt.Errorf("write the download: %w", err)
		}
		d.req.Offset = d.to.n
		d.progress(d.header.GetBackend(), d.to.n, d.header.GetTotalBytes())
	}
}

var errNoHeader = errors.New("the service answered without a snapshot")

// errAnew: the part was of other bytes, and another call begins at the start.
var errAnew = errors.New("the download begins again")

// open begins a call. A part of other bytes is errAnew; a snapshot that changes half-way is an error.
func (d *Download) open(ctx context.Context) (snapshotdv1.SnapshotService_DownloadClient, error) {
	stream, err := d.client.Download(ctx, d.req)
	if err != nil {
		return nil, err
	}
	m, err := stream.Recv()
	if errors.Is(err, io.EOF) || err == nil && m.GetHeader() == nil {
		err = errNoHeader
	}
	if err != nil {
		return nil, err
	}
	h := m.GetHeader()
	switch {
	case d.header != nil && !sameDownload(d.header, h):
		return nil, fmt.Errorf("the snapshot %s was replaced by another one meanwhile; download it again",
			h.GetName())
	case d.part != nil && d.header == nil:
		again, err := d.part.begin(h)
		if err != nil {
			return nil, err
		}
		if again {
			d.req.Offset, d.header = 0, h
			return nil, errAnew
		}
	}
	d.header = h
	return stream, nil
}

// verify compares the checksum of all bytes.
func (d *Download) verify() error {
	h := d.header
	if d.to.n == h.GetTotalBytes() && d.to.fits(h) {
		return nil
	}
	return exit.Damaged(fmt.Errorf("download %s: got %d bytes with sha256 %s, want %d bytes with sha256 %s; "+
		"download it again, and verify it",
		h.GetName(), d.to.n, d.to.hex(), h.GetTotalBytes(), h.GetSha256()))
}
