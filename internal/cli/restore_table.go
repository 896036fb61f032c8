package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/internal/restore"
)

func restoreTable(w io.Writer, opts restoreOptions, ro restore.Options, res restore.Result, now time.Time) error {
	s := res.Snapshot
	fmt.Fprintf(w, "snapshot   %s, taken %s ago (%s)\n",
		s.Name, age(now.Sub(s.CreateTime)), s.CreateTime.UTC().Format(time.RFC3339))
	fmt.Fprintf(w, "from       %s\n", res.URI)
	if s.Revision > 0 {
		fmt.Fprintf(w, "holds      revision %d, %s keys, %s; stored %s\n",
			s.Revision, number(s.TotalKeys), size(s.DBSize), size(s.StoredSize))
	} else {
		fmt.Fprintf(w, "holds      %s as it is stored; it has no manifest, so the rest is known once it was read\n",
			size(s.StoredSize))
	}
	if s.StorageVersion != "" {
		fmt.Fprintf(w, "version    storage %s: an older etcd will not start on it\n", s.StorageVersion)
	}
	if !opts.dryRun {
		fmt.Fprintf(w, "restored   %s in %s, for the member %s\n", ro.DataDir, took(res.Took), ro.Member.Name)
		_, err := fmt.Fprintf(w, "start it   etcd --name %s --data-dir %s%s --initial-advertise-peer-urls %s "+
			"--listen-peer-urls … --listen-client-urls … --advertise-client-urls …\n",
			ro.Member.Name, word(ro.DataDir), walFlag(ro.WALDir), strings.Join(ro.Member.PeerURLs, ","))
		return err
	}
	fmt.Fprintf(w, "would be   %s\n", ro.DataDir)
	if n := max(s.DBSize, s.StoredSize); n > 0 {
		fmt.Fprintf(w, "takes      about %s, more when the network or the disk is slow; room for %s\n",
			took(restoreEstimate(n)), size(restore.Room(n)))
	}
	commands, err := restore.Commands(opts.commandOf(s.Name, ro), ro.Member)
	if err != nil {
		return &usageError{err}
	}
	fmt.Fprintln(w, "members    on each one its command:")
	for _, c := range commands {
		fmt.Fprintln(w, "  "+strings.Join(c, " "))
	}
	return nil
}

// restoreSpeed is how many bytes of database per second two cores with a fast disk restore: somewhat fewer than in the
// median round of docs/performance.md.
const restoreSpeed = 330e6

func restoreEstimate(size int64) time.Duration {
	return (time.Duration(float64(size) / restoreSpeed * float64(time.Second))).Round(time.Second) + time.Second
}

func walFlag(dir string) string {
	if dir == "" {
		return ""
	}
	return " --wal-dir " + word(dir)
}

// commandOf returns the command that restores the same for any member, without the member's own flags.
func (o *restoreOptions) commandOf(name string, ro restore.Options) []string {
	c := []string{"snapshotd", "restore", name}
	for _, f := range o.from {
		c = append(c, "--from", quoted(f))
	}
	c = append(c, "--prefix", quoted(o.prefix), "--data-dir", word(o.dataDir))
	if o.walDir != "" {
		c = append(c, "--wal-dir", word(o.walDir))
	}
	c = append(c, "--initial-cluster", ro.Member.InitialCluster, "--initial-cluster-token", ro.Member.ClusterToken)
	if ro.Member.MarkCompacted {
		c = append(c, "--bump-revision", fmt.Sprint(ro.Member.RevisionBump), "--mark-compacted")
	}
	if o.skipHash {
		c = append(c, "--skip-hash-check")
	}
	if ro.Member.MemoryMapSize > 0 {
		c = append(c, "--initial-memory-map-size", fmt.Sprint(ro.Member.MemoryMapSize))
	}
	for _, f := range o.identities {
		c = append(c, "--identity", word(f))
	}
	for _, f := range o.keys {
		c = append(c, "--signing-public-key-file", word(f))
	}
	if len(o.keys) > 0 && o.signedFor != "" {
		c = append(c, "--cluster", word(o.signedFor))
	}
	return c
}
