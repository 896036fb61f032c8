package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/snapshotd/snapshotd/internal/etcd/drill"
	"github.com/snapshotd/snapshotd/internal/restore"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

func runVerifyFrom(cmd *cobra.Command, sys System, opts *verifyOptions, name string) error {
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
	at := place{
		urls: []string{opts.from}, prefix: clusterPrefix(cmd.Flags()), cluster: signedFor(cmd.Flags()), keys: opts.keys,
	}
	repos, err := at.open()
	if err != nil {
		return err
	}
	identities, err := readIdentities(opts.identities)
	if err != nil {
		return err
	}
	choice := restore.Choice{Name: name}
	if name == latest {
		choice = restore.Choice{Latest: true, Now: sys.Now()}
	}
	v, err := restore.Verify(cmd.Context(), restore.VerifyOptions{
		Repository: repos[0], Choice: choice, Level: snapshot.Level(level), Identities: identities, Dir: opts.tempDir,
		Driller: drill.Driller{},
	})
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
		fmt.Fprintf(w, "read       %s as they are stored: size and checksum are right; the database in it was not "+
			"verified, for want of an identity\n", size(s.StoredSize))
	case v.Level == snapshot.LevelChecksum:
		fmt.Fprintf(w, "read       %s, and the database in it: sizes and checksums are right\n", size(s.StoredSize))
	default:
		fmt.Fprintf(w, "holds      revision %d, %s keys, hash %08x; every page and key was read\n",
			s.Revision, number(s.TotalKeys), s.Hash)
	}
	if v.Level == snapshot.LevelDrill {
		fmt.Fprintf(w, "restored   into an etcd that was started, read and written: HashKV %d at revision %d\n",
			v.HashKV, s.Revision)
	}
	_, err := fmt.Fprintf(w, "verified   in %s\n", took(v.Took))
	return err
}
