package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/restore"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

type verifyOptions struct {
	from       string
	cluster    string
	prefix     string
	level      string
	tempDir    string
	identities []string
	keys       []string
	output     format
}

var levels = map[string]restore.Level{"checksum": restore.Checksum, "structure": restore.Structure, "drill": restore.Drill}

func newVerify(sys System) *cobra.Command {
	var opts verifyOptions
	cmd := &cobra.Command{
		Use:   "verify (NAME | latest) --from URL",
		Short: "Prove that a stored snapshot is what it should be",
		Long: `Prove that a snapshot on a directory or a bucket is what it should be, with nothing but that: no
service, no catalog. Three levels, each does what those before it do:

  checksum   every byte is read back and compared with the checksums; of an encrypted one without its
             identity, as it is stored
  structure  every page and key is read: revision, number of keys and hash are those of the manifest
  drill      it is restored into a throw-away etcd on this machine, which is started, asked for its
             HashKV, and written to; then all of it is removed

Exits 4 when it is not, 6 when there is no such snapshot.`,
		Example: `  snapshotd verify latest --from file:///var/backups/etcd --level drill
  snapshotd verify NAME --from 's3://backups?region=eu-central-1&prefix=etcd/' --identity key.txt`,
		Args: oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := fromEnvironment(cmd.Flags(), sys.Getenv, "cluster", "output"); err != nil {
				return err
			}
			if !cmd.Flags().Changed("prefix") {
				opts.prefix = cmp.Or(opts.cluster, config.DefaultClusterName) + "/"
			}
			return runVerify(cmd.Context(), sys, opts, args[0])
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&opts.from, "from", "", "`url` of the directory or bucket, as in the configuration")
	fs.StringVar(&opts.cluster, "cluster", "default", "`name` of the cluster that was saved")
	fs.StringVar(&opts.prefix, "prefix", "", "`prefix` of the cluster's keys there, empty for none (default the cluster's name and '/')")
	fs.StringVar(&opts.level, "level", "checksum", "`how` far: checksum, structure or drill")
	fs.StringVar(&opts.tempDir, "temp-dir", os.TempDir(), "`directory` with room for the database twice, for structure and drill")
	fs.StringArrayVar(&opts.identities, "identity", nil, "`file` with an age or SSH identity, for encrypted snapshots; may be repeated")
	fs.StringArrayVar(&opts.keys, "signing-public-key-file", nil, "believe only manifests signed with the key in this `file`, PEM; may be repeated")
	opts.output.addFlag(cmd)
	return cmd
}

func runVerify(ctx context.Context, sys System, opts verifyOptions, name string) error {
	level, ok := levels[opts.level]
	switch {
	case opts.from == "":
		return usagef("--from is missing: give the URL of the directory or bucket, such as file:///var/backups/etcd")
	case !ok:
		return usagef("--level: %q is none of checksum, structure and drill", opts.level)
	}
	shelves, err := restore.Shelves([]string{opts.from}, opts.prefix, opts.keys)
	if err != nil {
		return &usageError{err}
	}
	identities, err := restore.Identities(opts.identities)
	if err != nil {
		return &usageError{err}
	}
	choice := restore.Choice{Name: name}
	if name == "latest" {
		choice = restore.Choice{Latest: true}
	}
	v, err := restore.Verify(ctx, shelves[0], choice, level, identities, opts.tempDir)
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
