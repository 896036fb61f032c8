package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

const (
	// downloadTries is how often a download is tried without any progress.
	downloadTries = 5
	// downloadPause is the pause before the second try; each further pause is twice as long.
	downloadPause = 200 * time.Millisecond
)

type downloadOptions struct {
	client  clientOptions
	backend string
	decoded bool
	force   bool
	file    string
}

func newDownload(sys System) *cobra.Command {
	var opts downloadOptions
	cmd := &cobra.Command{
		Use:   "download (NAME | latest)",
		Short: "Fetch a snapshot through the service",
		Long: `Fetch a snapshot through the service: the bytes as they are stored, or with --decoded the database as
etcd sent it, which etcdutl takes. They go to standard output, or to a file: the one that --output
names, or on a terminal one in this directory, named after the snapshot.

The checksum of all bytes is compared, also after an interruption. The file appears only when it is
right: until then there is FILE.part, and FILE.part.json with its header. The same command goes on
where it left off. Broken connections are made again. An existing file is replaced only with --force.

The bytes on standard output are good only when the exit code is 0.

Exits 4 when the stored bytes are damaged, 6 when there is no such snapshot.`,
		Example: `  snapshotd download latest --decoded --output snapshot.db
  snapshotd download NAME --backend s3 | zstd -d > snapshot.db`,
		Args:              oneName,
		ValidArgsFunction: completeName(sys, latestOffered),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := opts.file // SNAPSHOTD_OUTPUT is the format of the other verbs
			return withClient(sys, cmd, &opts.client, func(ctx context.Context, c *client) error {
				opts.file = file
				return runDownload(ctx, sys, opts, c, args[0])
			})
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&opts.backend, "backend", "",
		"read the copy on this backend (`name`; default the first that can be read)")
	fs.BoolVar(&opts.decoded, "decoded", false, "the database as etcd sent it, decrypted and decompressed")
	fs.StringVar(&opts.file, "output", "",
		"`file` to make (default standard output, or on a terminal a file named after the snapshot)")
	fs.BoolVar(&opts.force, "force", false, "replace the file if it exists")
	opts.client.addFlags(fs)
	return cmd
}

func runDownload(ctx context.Context, sys System, opts downloadOptions, c *client, name string) error {
	name, err := c.resolve(ctx, name, opts.backend)
	if err != nil {
		return err
	}
	d := &download{client: c, bar: newBar(sys.Stderr, "download"), req: &snapshotdv1.DownloadRequest{
		Cluster: c.cluster, Name: name, Backend: opts.backend, Decoded: opts.decoded,
	}}
	defer d.bar.clear()
	if _, terminal := terminalWidth(sys.Stdout); opts.file == "" && terminal {
		if opts.file, err = d.fileName(ctx); err != nil {
			return err
		}
	}
	if opts.file == "" {
		d.to = newSum(sys.Stdout)
		return d.run(ctx)
	}
	part, err := openPart(opts.file, opts.force, d.req)
	if err != nil {
		return err
	}
	defer part.close()
	d.part, d.to, d.req.Offset = part, part.sum, part.sum.n
	if err := d.run(ctx); err != nil {
		if _, damaged := errors.AsType[*damagedError](err); damaged || part.empty() {
			part.remove()
		}
		return err
	}
	if err := part.finish(opts.force); err != nil {
		return err
	}
	d.bar.clear()
	_, err = fmt.Fprintf(sys.Stdout, "%s  %s, sha256 %s%s\n", opts.file, size(d.header.GetTotalBytes()), part.sum.hex(),
		sumOfDatabase(d.header))
	return err
}

// sumOfDatabase returns the checksum that get shows, for a file with etcd's own checksum behind the database, whose
// checksum differs.
func sumOfDatabase(h *snapshotdv1.DownloadHeader) string {
	if h.GetSha256Bytes() == h.GetTotalBytes() {
		return ""
	}
	return "; without etcd's checksum at its end " + h.GetSha256() + ", as get shows it"
}

// download is one download, in as many calls as it takes.
type download struct {
	client *client
	req    *snapshotdv1.DownloadRequest // its offset is the number of bytes so far
	header *snapshotdv1.DownloadHeader  // of the first call; the later ones must be the same
	part   *partFile                    // nil when it goes to standard output
	to     *sum
	bar    *bar
}

// run downloads all bytes and compares their checksum.
func (d *download) run(ctx context.Context) error {
	for try := 1; ; try++ {
		before := d.to.n
		err := d.once(ctx)
		switch {
		case err == nil:
			return d.verify()
		case statusCode(err) == codes.DataLoss:
			return &damagedError{errors.New(status.Convert(err).Message())}
		case d.header == nil || !broke(err) || ctx.Err() != nil:
			return err
		}
		if d.to.n > before {
			try = 1
		}
		if try == downloadTries {
			return err
		}
		if backoff.Wait(ctx, backoff.Delay(downloadPause, time.Minute, try)) != nil {
			return err
		}
	}
}

// broke reports whether a download can go on after an error: the connection failed, the service stopped, or this
// program was slow. The service has reported nothing about the snapshot then.
func broke(err error) bool {
	switch wire.DetailsOf(err).Reason {
	case "":
		return statusCode(err) == codes.Unavailable
	case snapshot.ReasonShuttingDown, snapshot.ReasonSlowConsumer:
		return true
	}
	return false
}

// fileName asks the service for the name of its file.
func (d *download) fileName(ctx context.Context) (string, error) {
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
func (d *download) once(all context.Context) error {
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
		d.bar.show(d.header.GetBackend(), d.to.n, d.header.GetTotalBytes())
	}
}

// errAnew: the part was of other bytes, and another call begins at the start.
var errAnew = errors.New("the download begins again")

// open begins a call. A part of other bytes is errAnew; a snapshot that changes half-way is an error.
func (d *download) open(ctx context.Context) (snapshotdv1.SnapshotService_DownloadClient, error) {
	stream, err := d.client.Download(ctx, d.req)
	if err != nil {
		return nil, err
	}
	m, err := stream.Recv()
	if errors.Is(err, io.EOF) || err == nil && m.GetHeader() == nil {
		err = errNoResult
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
func (d *download) verify() error {
	h := d.header
	if d.to.n == h.GetTotalBytes() && d.to.fits(h) {
		return nil
	}
	return &damagedError{fmt.Errorf("download %s: got %d bytes with sha256 %s, want %d bytes with sha256 %s; "+
		"download it again, and verify it",
		h.GetName(), d.to.n, d.to.hex(), h.GetTotalBytes(), h.GetSha256())}
}
