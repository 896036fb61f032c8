package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/snapshotd/snapshotd/internal/cli/client"
	"github.com/snapshotd/snapshotd/internal/cli/command"
	"github.com/snapshotd/snapshotd/internal/cli/exit"
	"github.com/snapshotd/snapshotd/internal/cli/flagvalue"
	"github.com/snapshotd/snapshotd/internal/cli/from"
	"github.com/snapshotd/snapshotd/internal/cli/output"
	"github.com/snapshotd/snapshotd/internal/cli/restoring"
	"github.com/snapshotd/snapshotd/internal/etcd/drill"
	"github.com/snapshotd/snapshotd/internal/restore"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

type verifyOptions struct {
	client     client.Options
	backend    string
	from       string
	level      string
	journal    bool
	tempDir    string
	identities []string
	keys       []string
	output     output.Format
}

var levels = map[string]snapshotdv1.Verification_Level{
	"checksum":  snapshotdv1.Verification_LEVEL_CHECKSUM,
	"structure": snapshotdv1.Verification_LEVEL_STRUCTURE,
	"drill":     snapshotdv1.Verification_LEVEL_DRILL,
}

func newVerify(sys System) *cobra.Command {
	var opts verifyOptions
	cmd := &cobra.Command{
		Use:   "verify (NAME | latest)",
		Short: "Prove that a stored snapshot is good",
		Long: `Prove that a stored snapshot is good. The service writes the verdict to its catalog; a damaged copy is
FAILED from then on, and repaired from a good one. With --from, this program verifies by itself, and a
directory or a bucket is all that it needs: no service, no catalog. There are three levels, each with
those before it:

  checksum   every byte is read back and compared with the checksums; of an encrypted snapshot without
             its identity, the stored bytes
  structure  every page and key is read: revision, number of keys and hash are those of the manifest
  drill      it is restored into a throw-away etcd, which is started, asked for its HashKV, and written
             to; then all of it is removed. The service compares the HashKV with the live cluster's

The service reads every copy at the level checksum, and the first one above it, unless --backend chooses.

With --from and --journal, the journal is proven: its changes are added to the snapshot before this one, up
to the revision of this one, and the two are compared as etcds: HashKV, keys, and the leases of keys.

Exits 4 when it is damaged, 6 when there is no such snapshot.`,
		Example: `  snapshotd verify latest --level drill
  snapshotd verify NAME --backend s3
  snapshotd verify latest --from file:///var/backups/etcd --level drill
  snapshotd verify latest --from file:///var/backups/etcd --journal
  snapshotd verify NAME --from 's3://backups?region=eu-central-1&prefix=etcd/' --identity key.txt`,
		Args:              command.OneName,
		ValidArgsFunction: completeName(sys, client.LatestOffered),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("from") {
				return runVerifyFrom(cmd, sys, &opts, args[0])
			}
			for _, name := range []string{"prefix", "journal", "temp-dir", "identity", "signing-public-key-file"} {
				if cmd.Flags().Changed(name) {
					return exit.Usagef("--%s: is for --from alone; the service has its own", name)
				}
			}
			return withClient(sys, cmd, &opts.client, func(ctx context.Context, c *client.Client) error {
				return runVerify(ctx, sys, opts, c, args[0])
			})
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&opts.level, "level", "checksum", "`how` far: checksum, structure or drill")
	fs.StringVar(&opts.backend, "backend", "", "verify the copy on this backend (`name`)")
	fs.StringVar(&opts.from, "from", "",
		"`url` of a directory or bucket to verify without a service, of cluster \"default\" unless --cluster is given")
	from.AddPrefix(fs, "with --from: ")
	fs.BoolVar(&opts.journal, "journal", false,
		"with --from: prove that the journal leads from the snapshot before to this one")
	fs.StringVar(&opts.tempDir, "temp-dir", os.TempDir(),
		"with --from: `directory` with room for the database and, for a drill, 65 MB more; for --journal, for two databases")
	fs.StringArrayVar(&opts.identities, "identity", nil,
		"with --from: `file` with an age or SSH identity, for encrypted snapshots; may be repeated")
	fs.StringArrayVar(&opts.keys, "signing-public-key-file", nil,
		"with --from: trust only manifests signed with the key in this `file`, PEM; may be repeated")
	opts.output.AddFlag(cmd)
	opts.client.AddFlags(fs)
	return cmd
}

func (o *verifyOptions) wantedLevel() (snapshotdv1.Verification_Level, error) {
	level, ok := levels[o.level]
	if !ok {
		return level, exit.Usagef("--level: %q is not one of checksum, structure and drill", o.level)
	}
	return level, nil
}

func runVerify(ctx context.Context, sys System, opts verifyOptions, c *client.Client, name string) error {
	level, err := opts.wantedLevel()
	if err != nil {
		return err
	}
	if name, err = resolve(ctx, sys, c, name, opts.backend); err != nil {
		return err
	}
	stream, err := c.Verify(ctx, &snapshotdv1.VerifyRequest{
		Cluster: c.Cluster, Name: name, Level: level, Backend: opts.backend,
	})
	if err != nil {
		return err
	}
	bar := output.NewBar(sys.Stderr, "verify")
	defer bar.Clear()
	for {
		m, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return client.ErrNoResult
		case exit.Status(err) == codes.DataLoss:
			return exit.Damaged(errors.New(status.Convert(err).Message()))
		case err != nil:
			return err
		case m.GetSnapshot() == nil:
			bar.Show(m.GetBackend(), m.GetDoneBytes(), m.GetTotalBytes())
			continue
		}
		bar.Clear()
		return opts.output.Print(sys.Stdout, m, func(w io.Writer) error { return verdictTable(w, m.GetSnapshot(), sys) })
	}
}

// verdictTable writes the verdict of the service.
func verdictTable(w io.Writer, s *snapshotdv1.Snapshot, sys System) error {
	v := s.GetVerification()
	fmt.Fprintf(w, "snapshot   %s, taken %s ago\n", s.GetName(), output.Age(sys.Now().Sub(s.GetCreateTime().AsTime())))
	inside := ""
	if v.GetStoredOnly() {
		inside = "; the database in it was not verified, for want of an identity"
	}
	fmt.Fprintf(w, "read       %s on %s: sizes and checksums are right%s\n",
		output.Size(s.GetStoredSizeBytes()), strings.Join(v.GetBackends(), ", "), inside)
	if v.GetLevel() >= snapshotdv1.Verification_LEVEL_STRUCTURE {
		fmt.Fprintf(w, "holds      revision %d, %s keys, hash %08x; every page and key was read\n",
			s.GetRevision(), output.Number(s.GetTotalKeys()), s.GetHash())
	}
	if v.GetLevel() == snapshotdv1.Verification_LEVEL_DRILL {
		fmt.Fprintf(w, "restored   into an etcd that was started, read and written: HashKV %d at revision %d\n",
			v.GetHashKv(), s.GetRevision())
		fmt.Fprintf(w, "live       %s\n", v.GetLive())
	}
	alarmLines(w, s.GetAlarms(), v.GetDisarmed())
	_, err := fmt.Fprintf(w, "verified   in %s\n", output.Took(v.GetDuration().AsDuration()))
	return err
}

// alarmLines say which alarms are in a snapshot, and which of them a drill had to disarm.
func alarmLines(w io.Writer, alarms, disarmed []string) {
	if len(disarmed) > 0 {
		fmt.Fprintf(w, "disarmed   %s: before that, the restored etcd took no writes\n", snapshot.Join(disarmed))
	}
	if len(alarms) > 0 {
		fmt.Fprintf(w, "alarms     it %s\n", snapshot.AlarmNote(alarms))
	}
}

func runVerifyFrom(cmd *cobra.Command, sys System, opts *verifyOptions, name string) error {
	if err := flagvalue.FromEnvironment(cmd.Flags(), sys.Getenv, "cluster", "output"); err != nil {
		return err
	}
	level, err := opts.wantedLevel()
	switch {
	case err != nil:
		return err
	case opts.backend != "":
		return exit.Usagef("--backend: --from names the place already; leave out one of them")
	case opts.journal && cmd.Flags().Changed("level"):
		return exit.Usagef("--journal, --level: leave out one of them; --journal is a drill of two snapshots")
	}
	at := from.Of(cmd.Flags(), []string{opts.from}, opts.keys)
	repos, err := at.Open()
	if err != nil {
		return err
	}
	identities, err := from.Identities(opts.identities)
	if err != nil {
		return err
	}
	choice := restore.Choice{Name: name}
	if name == client.Latest {
		choice = restore.Choice{Latest: true, Now: sys.Now()}
	}
	o := restore.VerifyOptions{
		Repository: repos[0], Choice: choice, Level: snapshot.Level(level), Identities: identities, Dir: opts.tempDir,
		Driller: drill.Driller{},
	}
	if opts.journal {
		return runProve(cmd.Context(), sys, opts, at, o)
	}
	v, err := restore.Verify(cmd.Context(), o)
	if err != nil {
		return at.Explain(cmd.Context(), err)
	}
	resp := &snapshotdv1.GetResponse{Snapshot: wire.SnapshotToProto(v.Snapshot)}
	return opts.output.Print(sys.Stdout, resp, func(w io.Writer) error { return verifyTable(w, v, sys) })
}

func verifyTable(w io.Writer, v restore.Verification, sys System) error {
	s := v.Snapshot
	fmt.Fprintf(w, "snapshot   %s, taken %s ago\n", s.Name, output.Age(sys.Now().Sub(s.CreateTime)))
	fmt.Fprintf(w, "from       %s\n", v.URI)
	switch {
	case !v.Decoded:
		fmt.Fprintf(w, "read       %s as they are stored: size and checksum are right; the database in it was not "+
			"verified, for want of an identity\n", output.Size(s.StoredSize))
	case v.Level == snapshot.LevelChecksum:
		fmt.Fprintf(w, "read       %s, and the database in it: sizes and checksums are right\n", output.Size(s.StoredSize))
	default:
		fmt.Fprintf(w, "holds      revision %d, %s keys, hash %08x; every page and key was read\n",
			s.Revision, output.Number(s.TotalKeys), s.Hash)
	}
	if v.Level == snapshot.LevelDrill {
		fmt.Fprintf(w, "restored   into an etcd that was started, read and written: HashKV %d at revision %d\n",
			v.HashKV, s.Revision)
	}
	alarmLines(w, s.Alarms, v.Disarmed)
	_, err := fmt.Fprintf(w, "verified   in %s\n", output.Took(v.Took))
	return err
}

// runProve proves the journal by two snapshots.
func runProve(ctx context.Context, sys System, opts *verifyOptions, at from.Place, o restore.VerifyOptions) error {
	p, err := restore.Prove(ctx, o)
	if err != nil {
		return at.Explain(ctx, err)
	}
	resp := &snapshotdv1.GetResponse{Snapshot: wire.SnapshotToProto(p.Snapshot)}
	return opts.output.Print(sys.Stdout, resp, func(w io.Writer) error {
		r := p.Replayed
		fmt.Fprintf(w, "snapshot   %s, revision %d\n", p.Snapshot.Name, r.Revision)
		fmt.Fprintf(w, "journal    %s: %s, %s, lead to it from %s, revision %d\n",
			r.Timeline, restoring.SegmentCount(r), output.Size(r.Bytes), p.Base.Name, r.Base)
		compacted := "never compacted"
		if p.CompactRevision > 0 {
			compacted = fmt.Sprintf("compacted up to %d", p.CompactRevision)
		}
		fmt.Fprintf(w, "same       HashKV %d, %s, %s keys, and %s leases that keys name\n",
			p.HashKV, compacted, output.Count(p.TotalKeys), output.Count(r.Leases.Exact))
		if n := r.Leases.Estimated; n > 0 {
			fmt.Fprintf(w, "not shown  the time to live of %s leases: the journal does not have it\n", output.Number(n))
		}
		_, err := fmt.Fprintf(w, "proven     in %s\n", output.Took(p.Took))
		return err
	})
}
