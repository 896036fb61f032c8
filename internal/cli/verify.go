package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/restore"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

type verifyOptions struct {
	client     clientOptions
	backend    string
	from       string
	prefix     string
	level      string
	tempDir    string
	identities []string
	keys       []string
	output     format
}

// latest names the newest snapshot.
const latest = "latest"

// latestOffered offers it where a name is completed.
var latestOffered = cobra.CompletionWithDesc(latest, "the newest")

var levels = map[string]snapshotdv1.Verification_Level{
	"checksum": snapshotdv1.Verification_LEVEL_CHECKSUM, "structure": snapshotdv1.Verification_LEVEL_STRUCTURE, "drill": snapshotdv1.Verification_LEVEL_DRILL,
}

func newVerify(sys System) *cobra.Command {
	var opts verifyOptions
	cmd := &cobra.Command{
		Use:   "verify (NAME | latest)",
		Short: "Prove that a stored snapshot is what it should be",
		Long: `Prove that a stored snapshot is what it should be. The service does it and keeps the verdict in its
catalog; a copy that is damaged is FAILED from then on, and repaired from a good one. With --from this
program does it by itself, with nothing but a directory or a bucket: no service, no catalog. Three levels,
each does what those before it do:

  checksum   every byte is read back and compared with the checksums; of an encrypted one without its
             identity, as it is stored
  structure  every page and key is read: revision, number of keys and hash are those of the manifest
  drill      it is restored into a throw-away etcd, which is started, asked for its HashKV, and written
             to; then all of it is removed. The service compares the HashKV with the live cluster's

The service reads every copy at the level checksum, and the first one above it, unless --backend chooses.

Exits 4 when it is not what it should be, 6 when there is no such snapshot.`,
		Example: `  snapshotd verify latest --level drill
  snapshotd verify NAME --backend s3
  snapshotd verify latest --from file:///var/backups/etcd --level drill
  snapshotd verify NAME --from 's3://backups?region=eu-central-1&prefix=etcd/' --identity key.txt`,
		Args:              oneName,
		ValidArgsFunction: completeName(sys, latestOffered),
		RunE: func(cmd *cobra.Command, args []string) error {
			if opts.from != "" {
				return runVerifyFrom(cmd, sys, opts, args[0])
			}
			for _, flag := range []string{"prefix", "temp-dir", "identity", "signing-public-key-file"} {
				if cmd.Flags().Changed(flag) {
					return usagef("--%s: is for --from alone; the service has its own", flag)
				}
			}
			return withClient(sys, cmd, &opts.client, func(ctx context.Context, c *client) error {
				return runVerify(ctx, sys, opts, c, args[0])
			})
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&opts.level, "level", "checksum", "`how` far: checksum, structure or drill")
	fs.StringVar(&opts.backend, "backend", "", "verify the copy on this backend (`name`)")
	fs.StringVar(&opts.from, "from", "", "`url` of a directory or bucket to verify without a service, as in the configuration")
	fs.StringVar(&opts.prefix, "prefix", "", "with --from: `prefix` of the cluster's keys there, empty for none (default the cluster's name and '/')")
	fs.StringVar(&opts.tempDir, "temp-dir", os.TempDir(), "with --from: `directory` with room for the database and, for a drill, 65 MB more")
	fs.StringArrayVar(&opts.identities, "identity", nil, "with --from: `file` with an age or SSH identity, for encrypted snapshots; may be repeated")
	fs.StringArrayVar(&opts.keys, "signing-public-key-file", nil, "with --from: believe only manifests signed with the key in this `file`, PEM; may be repeated")
	opts.output.addFlag(cmd)
	opts.client.addFlags(fs)
	return cmd
}

func (o *verifyOptions) wantedLevel() (snapshotdv1.Verification_Level, error) {
	level, ok := levels[o.level]
	if !ok {
		return level, usagef("--level: %q is none of checksum, structure and drill", o.level)
	}
	return level, nil
}

func runVerify(ctx context.Context, sys System, opts verifyOptions, c *client, name string) error {
	level, err := opts.wantedLevel()
	if err != nil {
		return err
	}
	if name, err = c.resolve(ctx, name, opts.backend); err != nil {
		return err
	}
	stream, err := c.Verify(ctx, &snapshotdv1.VerifyRequest{Cluster: c.cluster, Name: name, Level: level, Backend: opts.backend})
	if err != nil {
		return err
	}
	bar := newBar(sys.Stderr, "verify")
	defer bar.clear()
	for {
		m, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return errNoResult
		case statusCode(err) == codes.DataLoss:
			return &damagedError{errors.New(status.Convert(err).Message())}
		case err != nil:
			return err
		case m.GetSnapshot() == nil:
			bar.draw(m.GetBackend(), m.GetDoneBytes(), m.GetTotalBytes())
			continue
		}
		bar.clear()
		return opts.output.print(sys.Stdout, m, func(w io.Writer) error { return verdictTable(w, m.GetSnapshot(), sys) })
	}
}

// resolve returns the name of the newest whole snapshot for "latest", and every other name as it is.
func (c *client) resolve(ctx context.Context, name, backend string) (string, error) {
	if name != latest {
		return name, nil
	}
	req := &snapshotdv1.ListRequest{
		Cluster: c.cluster, PageSize: 1, Backend: backend,
		States: []snapshotdv1.Snapshot_State{snapshotdv1.Snapshot_STATE_READY, snapshotdv1.Snapshot_STATE_PARTIAL},
	}
	for {
		resp, err := c.List(ctx, req)
		if err != nil {
			return "", err
		}
		for _, s := range resp.GetSnapshots() {
			if backend == "" || wholeOn(s, backend) {
				return s.GetName(), nil
			}
		}
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			break
		}
		req.PageSize = listPage // the newest was not the one
	}
	where := "anywhere"
	if backend != "" {
		where = "on " + backend
	}
	return "", &notFoundError{"there is no snapshot that is whole " + where}
}

func wholeOn(s *snapshotdv1.Snapshot, backend string) bool {
	return slices.ContainsFunc(s.GetLocations(), func(l *snapshotdv1.Location) bool {
		return l.GetBackend() == backend && l.GetState() == snapshotdv1.Snapshot_STATE_READY
	})
}

// verdictTable says what the service has found.
func verdictTable(w io.Writer, s *snapshotdv1.Snapshot, sys System) error {
	v := s.GetVerification()
	fmt.Fprintf(w, "snapshot   %s, taken %s ago\n", s.GetName(), age(sys.Now().Sub(s.GetCreateTime().AsTime())))
	inside := ""
	if v.GetStoredOnly() {
		inside = "; what is inside was not looked at, for want of an identity"
	}
	fmt.Fprintf(w, "read       %s on %s: sizes and checksums are right%s\n", size(s.GetStoredSizeBytes()), strings.Join(v.GetBackends(), ", "), inside)
	if v.GetLevel() >= snapshotdv1.Verification_LEVEL_STRUCTURE {
		fmt.Fprintf(w, "holds      revision %d, %s keys, hash %08x; every page and key was read\n", s.GetRevision(), number(s.GetTotalKeys()), s.GetHash())
	}
	if v.GetLevel() == snapshotdv1.Verification_LEVEL_DRILL {
		fmt.Fprintf(w, "restored   into an etcd that was started, read and written: HashKV %d at revision %d\n", v.GetHashKv(), s.GetRevision())
		fmt.Fprintf(w, "live       %s\n", v.GetLive())
	}
	_, err := fmt.Fprintf(w, "verified   in %s\n", took(v.GetDuration().AsDuration()))
	return err
}

func runVerifyFrom(cmd *cobra.Command, sys System, opts verifyOptions, name string) error {
	if err := fromEnvironment(cmd.Flags(), sys.Getenv, "cluster", "output"); err != nil {
		return err
	}
	level, err := opts.wantedLevel()
	switch {
	case err != nil:
		return err
	case opts.backend != "":
		return usagef("--backend: --from names the place already; leave out one of them")
	}
	cluster := cmp.Or(opts.client.cluster, config.DefaultClusterName)
	prefix := cluster + "/"
	if cmd.Flags().Changed("prefix") {
		prefix = opts.prefix
	}
	shelves, err := restore.Shelves([]string{opts.from}, prefix, signedFor(cmd.Flags(), cluster), opts.keys)
	if err != nil {
		return &usageError{err}
	}
	identities, err := restore.Identities(opts.identities)
	if err != nil {
		return &usageError{err}
	}
	choice := restore.Choice{Name: name}
	if name == latest {
		choice = restore.Choice{Latest: true}
	}
	v, err := restore.Verify(cmd.Context(), shelves[0], choice, restore.Level(level), identities, opts.tempDir)
	if err != nil {
		return localError(err)
	}
	resp := &snapshotdv1.GetResponse{Snapshot: wire.SnapshotToProto(v.Snapshot)}
	return opts.output.print(sys.Stdout, resp, func(w io.Writer) error { return verifyTable(w, v, sys) })
}

func verifyTable(w io.Writer, v restore.Verification, sys System) error {
	s := v.Snapshot
	fmt.Fprintf(w, "snapshot   %s, taken %s ago\n", s.Name, age(sys.Now().Sub(s.CreateTime)))
	fmt.Fprintf(w, "from       %s\n", v.URI)
	switch {
	case !v.Decoded:
		fmt.Fprintf(w, "read       %s as they are stored: size and checksum are right; what is inside was not looked at, for want of an identity\n", size(s.StoredSize))
	case v.Level == restore.Checksum:
		fmt.Fprintf(w, "read       %s, and the database in it: sizes and checksums are right\n", size(s.StoredSize))
	default:
		fmt.Fprintf(w, "holds      revision %d, %s keys, hash %08x; every page and key was read\n", s.Revision, number(s.TotalKeys), s.Hash)
	}
	if v.Level == restore.Drill {
		fmt.Fprintf(w, "restored   into an etcd that was started, read and written: HashKV %d at revision %d\n", v.HashKV, s.Revision)
	}
	_, err := fmt.Fprintf(w, "verified   in %s\n", took(v.Took))
	return err
}

// bar draws how far something is, where there is a terminal.
type bar struct {
	w     io.Writer
	what  string
	width int
	drawn time.Time
}

func newBar(w io.Writer, what string) *bar {
	width, ok := terminalWidth(w)
	if !ok {
		w = io.Discard
	}
	return &bar{w: w, what: what, width: width}
}

func (b *bar) draw(detail string, done, total int64) {
	if now := time.Now(); now.Sub(b.drawn) < progressInterval {
		return
	}
	b.drawn = time.Now()
	t := transfer{done: done, total: total}
	line := fmt.Sprintf("%s %s  %s", b.what, detail, size(done))
	if total > 0 {
		filled := barWidth * t.percent() / 100
		line = fmt.Sprintf("%s %s [%s%s] %3d%%  %s of %s", b.what, detail, strings.Repeat("=", filled), strings.Repeat(" ", barWidth-filled), t.percent(), size(done), size(total))
	}
	fmt.Fprintf(b.w, "\r%s\x1b[K", cut(line, b.width-1))
}

// clear leaves the line to the result.
func (b *bar) clear() {
	if !b.drawn.IsZero() {
		fmt.Fprint(b.w, "\r\x1b[K")
		b.drawn = time.Time{}
	}
}
