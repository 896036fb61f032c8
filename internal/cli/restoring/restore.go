package restoring

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/snapshotd/snapshotd/internal/cli/client"
	"github.com/snapshotd/snapshotd/internal/cli/command"
	"github.com/snapshotd/snapshotd/internal/cli/exit"
	"github.com/snapshotd/snapshotd/internal/cli/flagvalue"
	"github.com/snapshotd/snapshotd/internal/cli/from"
	"github.com/snapshotd/snapshotd/internal/cli/output"
	"github.com/snapshotd/snapshotd/internal/restore"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// kubernetesBump is the jump of the revision that Kubernetes needs: otherwise its watches go on with revisions that
// were there before.
const kubernetesBump = 1_000_000_000

// maxBump bounds --bump-revision, so that no revision of the restored etcd reaches the end of 63 bits.
const maxBump = 1 << 61

type options struct {
	from       []string
	at         from.Place
	past       pastOptions
	dataDir    string
	walDir     string
	identities []string
	keys       []string
	dryRun     bool
	older      bool
	kubernetes bool
	disarm     bool
	skipHash   bool
	output     output.Format
	member     restore.Member
	named      bool // --name was given
	advertised bool // --initial-advertise-peer-urls was given
}

// help is what restore does, for its users.
const help = `Make a data directory of etcd from a snapshot in a directory or a bucket, which is all that is needed:
no service, no catalog, no running etcd. Each member of a new cluster is restored from the same
snapshot, with its own --name and --initial-advertise-peer-urls.

The snapshot is read and compared with its checksums before anything is made of it. A directory that
is not empty is never touched; an interrupted restore leaves none. "latest" is the newest that is
whole: when it proves to be damaged, it is named, and the one before it is taken. One that cannot
be read for want of access or connection ends the restore, unless --accept-older is given.

A snapshot holds all revisions since the last compaction before it. --revision takes it back to one of
them: alone, a snapshot that holds the revision is looked for; with NAME or latest, it is that one.
etcd keeps no times of its revisions. A snapshot has the time at which its save began, and etcd was read
a moment later: --at takes one of the time or before, and --estimate goes between the two around it.
Leases have no history either: --dry-run reads the snapshot, and shows which revisions it holds, the
leases, and all that is only estimated.

With a journal beside the snapshots, --revision and --at lead to any revision and time in it: the
newest snapshot before it is taken, and the changes behind that one are added. --at 0s is the newest
state that there is. Revisions that are lost are named, and nothing behind them is restored from before
them, unless --cross-gaps is given: keys that were changed or deleted in the gap alone then have their
old values, and the cluster never had that state. Use it when the snapshots behind a gap are lost, too.
--dry-run shows the segments, the gaps, and between which revisions the cluster was at the time.

Flags of etcdutl snapshot restore mean the same here. --skip-hash-check also skips the checksums of
the manifest. The pages and keys are always read, and a database that cannot be read through is refused.

A snapshot may hold alarms of etcd (NOSPACE, CORRUPT): the restored etcd refuses writes until etcdctl
alarm disarm, or has none of them with --disarm. The cause of an alarm comes back as well.

Exits 4 when the stored bytes are damaged, 6 when there is no such snapshot.`

// New returns the command restore. complete offers the names of snapshots.
func New(sys command.System, complete cobra.CompletionFunc) *cobra.Command {
	var opts options
	cmd := &cobra.Command{
		Use:   "restore (NAME | latest | --at TIME | --revision N) --from URL --data-dir DIR",
		Short: "Make a data directory of etcd from a stored snapshot",
		Long:  help,
		Example: `  snapshotd restore latest --from 's3://backups?region=eu-central-1&prefix=etcd/' --data-dir /var/lib/etcd
  snapshotd restore latest --from file:///var/backups/etcd --data-dir m1.etcd --name m1 \
    --initial-cluster m1=https://10.0.0.1:2380,m2=https://10.0.0.2:2380,m3=https://10.0.0.3:2380 \
    --initial-advertise-peer-urls https://10.0.0.1:2380 --for-kubernetes --dry-run`,
		ValidArgsFunction: complete,
		Args: func(cmd *cobra.Command, args []string) error {
			opts.past.byRevision = cmd.Flags().Changed("revision")
			return opts.past.check(args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flagvalue.FromEnvironment(cmd.Flags(), sys.Getenv, "cluster", "output"); err != nil {
				return err
			}
			opts.at = from.Of(cmd.Flags(), opts.from, opts.keys)
			opts.named, opts.advertised = cmd.Flags().Changed("name"), cmd.Flags().Changed("initial-advertise-peer-urls")
			return run(cmd.Context(), sys, opts, args)
		},
	}
	fs := cmd.Flags()
	fs.StringArrayVar(&opts.from, "from", nil,
		"`url` of the directory or bucket, as in the configuration; may be repeated: the first that has it whole is taken")
	fs.String("cluster", snapshot.DefaultClusterName, "`name` of the cluster that was saved")
	from.AddPrefix(fs, "")
	opts.past.addFlags(fs)
	fs.StringVar(&opts.dataDir, "data-dir", "", "`directory` to make; it must not exist or be empty")
	fs.StringVar(&opts.walDir, "wal-dir", "", "`directory` for the WAL, when it is not to be in the data directory")
	fs.StringVar(&opts.member.Name, "name", "default", "`name` of the member")
	fs.StringVar(&opts.member.InitialCluster, "initial-cluster", "",
		"`members` of the new cluster, as NAME=URL,... (default this member alone)")
	fs.StringVar(&opts.member.ClusterToken, "initial-cluster-token", "etcd-cluster", "`token` of the new cluster")
	fs.StringSliceVar(&opts.member.PeerURLs, "initial-advertise-peer-urls", []string{"http://localhost:2380"},
		"peer `urls` of the member")
	fs.Uint64Var(&opts.member.RevisionBump, "bump-revision", 0, "add this `number` to the revision; with --mark-compacted")
	fs.BoolVar(&opts.member.MarkCompacted, "mark-compacted", false,
		"let all before the bumped revision count as compacted")
	flagvalue.Bytes(fs, &opts.member.MemoryMapSize, "initial-memory-map-size",
		"map so many `bytes` of the database at first, such as 20GiB (default, and for 0, 10737418240)")
	fs.BoolVar(&opts.skipHash, "skip-hash-check", false,
		"compare no checksums: for a database copied from a data directory, or when nothing else is left; with a NAME")
	fs.BoolVar(&opts.disarm, "disarm", false,
		"leave the alarms in the snapshot out, which would keep the restored etcd from taking writes")
	fs.BoolVar(&opts.kubernetes, "for-kubernetes", false,
		"as Kubernetes needs it: --bump-revision 1000000000 --mark-compacted")
	fs.StringArrayVar(&opts.identities, "identity", nil,
		"`file` with an age or SSH identity, for encrypted snapshots; may be repeated")
	fs.StringArrayVar(&opts.keys, "signing-public-key-file", nil,
		"trust only manifests of the cluster signed with the key in this `file`, PEM; may be repeated")
	fs.BoolVar(&opts.older, "accept-older", false,
		"with latest or --at: take an older snapshot also when a newer one cannot be read for want of access or connection")
	fs.BoolVar(&opts.dryRun, "dry-run", false,
		"show the snapshot, and the command for each member; change nothing")
	opts.output.AddFlag(cmd)
	return cmd
}

// finish checks the options and fills in the defaults.
func (o *options) finish(now time.Time, args []string) (restore.Options, error) {
	ro := restore.Options{
		DataDir: o.dataDir, WALDir: o.walDir, Member: o.member,
		EndedLeaseTTL: o.past.ended, Disarm: o.disarm, SkipHashCheck: o.skipHash,
	}
	if err := o.check(args); err != nil {
		return ro, err
	}
	if o.kubernetes {
		ro.Member.RevisionBump, ro.Member.MarkCompacted = kubernetesBump, true
	}
	if ro.Member.InitialCluster == "" {
		ro.Member.InitialCluster = ro.Member.Alone()
	}
	if err := o.checkMember(ro.Member); err != nil {
		return ro, exit.Usage(err)
	}
	var err error
	if ro.Choice, err = o.choice(now, args); err != nil {
		return ro, err
	}
	if ro.Repositories, err = o.at.Open(); err != nil {
		return ro, err
	}
	ro.Identities, err = from.Identities(o.identities)
	return ro, err
}

// check returns an error for options that are missing or exclude each other.
func (o *options) check(args []string) error {
	switch {
	case len(o.from) == 0:
		return exit.Usagef("--from is missing: give the URL of the directory or bucket, such as file:///var/backups/etcd")
	case o.dataDir == "":
		return exit.Usagef("--data-dir is missing: name the directory to make")
	case o.skipHash && (len(args) == 0 || args[0] == client.Latest):
		return exit.Usagef("--skip-hash-check: give the NAME; with it, the newest one is taken whether it is whole or not")
	case o.kubernetes && (o.member.RevisionBump > 0 || o.member.MarkCompacted):
		return exit.Usagef("--for-kubernetes: --bump-revision or --mark-compacted is given, too; leave out one or the other")
	case o.member.MarkCompacted != (o.member.RevisionBump > 0):
		return exit.Usagef("--bump-revision, --mark-compacted: they are needed together")
	case o.member.RevisionBump > maxBump:
		return exit.Usagef("--bump-revision: %d is more than etcd's revisions can hold; the highest is %d",
			o.member.RevisionBump, uint64(maxBump))
	}
	return nil
}

// choice says which snapshot to restore.
func (o *options) choice(now time.Time, args []string) (restore.Choice, error) {
	c := restore.Choice{
		Revision: o.past.revision, Estimate: o.past.estimate, AcceptOlder: o.older, CrossGaps: o.past.cross, Now: now,
	}
	at, err := flagvalue.Time("--at", o.past.at, now)
	if at != nil {
		c.At = at.AsTime()
	}
	switch {
	case len(args) == 0:
	case args[0] == client.Latest:
		c.Latest = true
	default:
		c.Name = args[0]
	}
	return c, err
}

// checkMember returns an error unless etcd accepts the member. A dry run is for all members of the cluster: the run
// must accept each of them, and the member that the flags describe.
func (o *options) checkMember(m restore.Member) error {
	if !o.dryRun {
		return m.Check()
	}
	if o.advertised {
		if err := m.Check(); err != nil {
			return err
		}
	}
	members, err := m.Members()
	if err != nil {
		return err
	}
	isIt := func(one restore.Member) bool { return one.Name == m.Name }
	if o.named && !slices.ContainsFunc(members, isIt) {
		return m.Check() // says which members there are
	}
	for _, one := range members {
		if err := one.Check(); err != nil {
			return err
		}
	}
	return nil
}

func run(ctx context.Context, sys command.System, opts options, args []string) error {
	ro, err := opts.finish(sys.Now(), args)
	if err != nil {
		return err
	}
	do := restore.Run
	var stop func()
	ro.Progress, ro.Building, stop = showProgress(sys.Stderr)
	if opts.dryRun {
		do = restore.Plan
	}
	if opts.skipHash {
		fmt.Fprintln(sys.Stderr, "warning: --skip-hash-check: NO CHECKSUM IS COMPARED. Damaged or changed bytes are "+
			"restored as they are, as far as the pages can be read")
	}
	res, err := do(ctx, ro)
	stop() // the result takes the place of the line
	if err != nil {
		return opts.at.Explain(ctx, err)
	}
	for _, s := range res.Skipped {
		fmt.Fprintf(output.PlainLines(sys.Stderr), "warning: left out: %v\n", s)
	}
	if at := res.Snapshot.CreateTime; res.Ahead(sys.Now()) {
		fmt.Fprintf(sys.Stderr, "warning: the time of %s is %s, which is in the future: the clock here or "+
			"where it was taken is wrong, so that others may be newer; compare the revisions that list --from shows\n",
			res.Snapshot.Name, at.UTC().Format(time.RFC3339))
	}
	if res.Replayed != nil {
		crossedWarning(output.PlainLines(sys.Stderr), res.Replayed.Crossed)
	}
	if opts.output != output.FormatTable {
		opts.past.table(output.PlainLines(sys.Stderr), res)
	}
	resp := restored(res)
	return opts.output.Print(sys.Stdout, resp,
		func(w io.Writer) error { return table(w, opts, ro, res, sys.Now()) })
}

// restored is what the restore tells a program.
func restored(res restore.Result) *snapshotdv1.Restored {
	r := &snapshotdv1.Restored{Snapshot: wire.SnapshotToProto(&res.Snapshot.Snapshot), Revision: res.Snapshot.Revision}
	if res.Past != nil {
		r.Revision = res.Past.Revision
	}
	if res.Replayed != nil && res.Replayed.Crossed != nil {
		r.CrossedGaps = crossedGaps(res.Replayed)
	}
	return r
}

// showProgress draws the progress of reading the database, and the remaining time, on a terminal.
func showProgress(w io.Writer) (report func(done, total int64), building, stop func()) {
	line, ok := output.NewStatusLine(w)
	if !ok {
		return nil, nil, func() {}
	}
	begin := time.Now()
	report = func(done, total int64) {
		if !line.Due() {
			return
		}
		text := "read and checked " + output.Size(done)
		if total > 0 {
			text += " of " + output.Size(total)
		}
		if spent := time.Since(begin); done > 0 && done < total && spent > time.Second {
			left := time.Duration(float64(spent) * float64(total-done) / float64(done))
			text += ", about " + output.Took(left.Round(time.Second)) + " left to read"
		}
		line.Draw(text)
	}
	return report, func() { line.Draw("making the data directory, and making it durable") }, line.Clear
}

func table(w io.Writer, opts options, ro restore.Options, res restore.Result, now time.Time) error {
	s := res.Snapshot
	fmt.Fprintf(w, "snapshot   %s, taken %s ago (%s)\n",
		s.Name, output.Age(now.Sub(s.CreateTime)), s.CreateTime.UTC().Format(time.RFC3339))
	fmt.Fprintf(w, "from       %s\n", res.URI)
	if s.Trigger != snapshot.TriggerAdopted || s.Hash != 0 {
		fmt.Fprintf(w, "holds      revision %d, %s keys, %s; stored %s\n",
			s.Revision, output.Number(s.TotalKeys), output.Size(s.DBSize), output.Size(s.StoredSize))
	} else {
		fmt.Fprintf(w, "holds      %s as it is stored; it has no manifest, so the rest is known once it was read\n",
			output.Size(s.StoredSize))
	}
	if s.StorageVersion != "" {
		fmt.Fprintf(w, "version    storage %s: an older etcd will not start on it\n", s.StorageVersion)
	}
	opts.past.table(w, res)
	if note := alarmNote(s.Alarms, opts.disarm); note != "" {
		fmt.Fprintf(w, "alarms     %s\n", note)
	}
	if !opts.dryRun {
		fmt.Fprintf(w, "restored   %s in %s, for the member %s\n", ro.DataDir, output.Took(res.Took), ro.Member.Name)
		if chown := opts.chown(); len(chown) > 0 {
			fmt.Fprintf(w, "owner      %s\n", output.Words(chown))
		}
		_, err := fmt.Fprintf(w, "start it   etcd --name %s --data-dir %s%s --initial-advertise-peer-urls %s "+
			"--listen-peer-urls … --listen-client-urls … --advertise-client-urls …\n",
			output.Word(ro.Member.Name), output.Word(ro.DataDir), walFlag(ro.WALDir),
			output.Word(strings.Join(ro.Member.PeerURLs, ",")))
		return err
	}
	fmt.Fprintf(w, "would be   %s\n", ro.DataDir)
	if n := max(s.DBSize, s.StoredSize); n > 0 {
		fmt.Fprintf(w, "takes      about %s, more when the network or the disk is slow; room for %s\n",
			output.Took(estimate(n)), output.Size(restore.Room(n)))
	}
	commands, err := restore.Commands(opts.commandOf(s.Name, ro, opts.past.flags(res)), ro.Member)
	if err != nil {
		return exit.Usage(err)
	}
	fmt.Fprintln(w, "members    on each one its command:")
	then := ""
	if chown := opts.chown(); len(chown) > 0 {
		then = " && " + output.Words(chown)
	}
	for _, c := range commands {
		fmt.Fprintln(w, "  "+output.Words(c)+then)
	}
	return nil
}

// alarmNote says for a person what becomes of the alarms in a snapshot.
func alarmNote(alarms []string, disarm bool) string {
	switch {
	case len(alarms) == 0:
		return ""
	case disarm:
		return snapshot.Join(alarms) + ": left out of the data directory (--disarm)"
	}
	return "it " + snapshot.AlarmNote(alarms)
}

// chown returns the command that gives the restored directories to the user of etcd; none when they are theirs already.
func (o *options) chown() []string {
	owner := restore.Owner(o.dataDir)
	if owner == "" {
		return nil
	}
	c := []string{"chown", "-R", owner, o.dataDir}
	if o.walDir != "" {
		c = append(c, o.walDir)
	}
	return c
}

// speed is how many bytes of database per second two cores with a fast disk restore: somewhat fewer than in the
// median round of docs/performance.md.
const speed = 330e6

func estimate(size int64) time.Duration {
	return (time.Duration(float64(size) / speed * float64(time.Second))).Round(time.Second) + time.Second
}

func walFlag(dir string) string {
	if dir == "" {
		return ""
	}
	return " --wal-dir " + output.Word(dir)
}

// commandOf returns the command that restores the same for any member, without the member's own flags.
func (o *options) commandOf(name string, ro restore.Options, past []string) []string {
	c := append([]string{"snapshotd", "restore", name}, past...)
	for _, f := range o.from {
		c = append(c, "--from", f)
	}
	c = append(c, "--prefix", o.at.Prefix, "--data-dir", o.dataDir)
	if o.walDir != "" {
		c = append(c, "--wal-dir", o.walDir)
	}
	c = append(c, "--initial-cluster", ro.Member.InitialCluster, "--initial-cluster-token", ro.Member.ClusterToken)
	if ro.Member.MarkCompacted {
		c = append(c, "--bump-revision", fmt.Sprint(ro.Member.RevisionBump), "--mark-compacted")
	}
	if o.disarm {
		c = append(c, "--disarm")
	}
	if o.skipHash {
		c = append(c, "--skip-hash-check")
	}
	if ro.Member.MemoryMapSize > 0 {
		c = append(c, "--initial-memory-map-size", fmt.Sprint(ro.Member.MemoryMapSize))
	}
	for _, f := range o.identities {
		c = append(c, "--identity", f)
	}
	for _, f := range o.keys {
		c = append(c, "--signing-public-key-file", f)
	}
	if len(o.keys) > 0 && o.at.Cluster != "" {
		c = append(c, "--cluster", o.at.Cluster)
	}
	return c
}
