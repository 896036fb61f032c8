package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/snapshotd/snapshotd/internal/cli/client"
	"github.com/snapshotd/snapshotd/internal/cli/command"
	"github.com/snapshotd/snapshotd/internal/cli/fetch"
	"github.com/snapshotd/snapshotd/internal/cli/output"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

type downloadOptions struct {
	client  client.Options
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
names, or on a terminal one in this directory, named after the snapshot. --output - is standard output,
also on a terminal.

The checksum of all bytes is compared, also after an interruption. The file appears only when it is
right: until then there is FILE.part, and FILE.part.json with its header. The same command goes on
where it left off. Broken connections are made again. An existing file is replaced only with --force.

The bytes on standard output are good only when the exit code is 0.

Exits 4 when the stored bytes are damaged, 6 when there is no such snapshot.`,
		Example: `  snapshotd download latest --decoded --output snapshot.db
  snapshotd download NAME --backend s3 | zstd -d > snapshot.db`,
		Args:              command.OneName,
		ValidArgsFunction: completeName(sys, client.LatestOffered),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := opts.file // SNAPSHOTD_OUTPUT is the format of the other verbs
			return withClient(sys, cmd, &opts.client, func(ctx context.Context, c *client.Client) error {
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
		"`file` to make, - for standard output (default standard output, or on a terminal a file named after the snapshot)")
	fs.BoolVar(&opts.force, "force", false, "replace the file if it exists")
	opts.client.AddFlags(fs)
	return cmd
}

func runDownload(ctx context.Context, sys System, opts downloadOptions, c *client.Client, name string) error {
	name, err := resolve(ctx, sys, c, name, opts.backend)
	if err != nil {
		return err
	}
	bar := output.NewBar(sys.Stderr, "download")
	defer bar.Clear()
	d := fetch.New(c, &snapshotdv1.DownloadRequest{
		Cluster: c.Cluster, Name: name, Backend: opts.backend, Decoded: opts.decoded,
	}, bar.Show)
	if _, terminal := output.Terminal(sys.Stdout); opts.file == "" && terminal {
		if opts.file, err = d.FileName(ctx); err != nil {
			return err
		}
	}
	if opts.file == "" || opts.file == "-" {
		return d.Write(ctx, sys.Stdout)
	}
	got, err := d.File(ctx, opts.file, opts.force)
	if err != nil {
		return err
	}
	bar.Clear()
	_, err = fmt.Fprintf(sys.Stdout, "%s  %s, sha256 %s%s\n", opts.file, output.Size(got.Header.GetTotalBytes()),
		got.SHA256, sumOfDatabase(got.Header))
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
