package restoring

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/pflag"

	"github.com/snapshotd/snapshotd/internal/cli/exit"
	"github.com/snapshotd/snapshotd/internal/cli/flagvalue"
	"github.com/snapshotd/snapshotd/internal/cli/output"
	"github.com/snapshotd/snapshotd/internal/restore"
)

// defaultEndedLease is the time to live of leases that ended after the revision, if nothing better is known: that of
// the events of Kubernetes. Keys that are taken again and again, such as locks, show a better one.
const defaultEndedLease = time.Hour

// maxLease is the longest time to live that etcd takes.
const maxLease = 9_000_000_000 * time.Second

// pastOptions say to which of its revisions a snapshot is taken back.
type pastOptions struct {
	at       string
	revision int64
	estimate bool
	ended    time.Duration
	cross    bool

	byRevision bool // --revision was given
}

func (o *pastOptions) addFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.at, "at", "",
		"the newest state of this `time` or before: 2026-07-15T12:00:00Z, 2026-07-15, or an age, 36h or 7d; "+
			"with NAME or latest, its newest revision that is proven to be of that time or before")
	fs.Int64Var(&o.revision, "revision", 0,
		"take the snapshot to this `revision`; alone, take one that holds it, or one below it and the journal")
	fs.BoolVar(&o.estimate, "estimate", false,
		"with --at: the revision between two snapshots that the cluster may have had then, which may be of a later time")
	fs.BoolVar(&o.cross, "cross-gaps", false,
		"with --at or --revision: go over revisions of a journal that are lost; "+
			"the result is a state that the cluster never had")
	o.ended = defaultEndedLease
	flagvalue.Duration(fs, &o.ended, "ended-lease-ttl",
		"time to live of leases that ended after the revision, whose own `time` is lost; 0 leaves their keys without a lease")
}

// chosen reports whether they say which revision.
func (o *pastOptions) chosen() bool { return o.at != "" || o.byRevision }

// check returns an error for options that exclude each other. args are those of the command.
func (o *pastOptions) check(args []string) error {
	switch {
	case len(args) == 0 && !o.chosen():
		return exit.Usagef("which snapshot? give a NAME, latest, --at TIME or --revision N")
	case len(args) > 1:
		return exit.Usagef("%q is not understood: one NAME is taken", args[1])
	case o.byRevision && o.at != "":
		return exit.Usagef("--revision, --at: leave out one of them")
	case o.byRevision && o.revision <= 0:
		return exit.Usagef("--revision: %d is not a revision; the first one is 1", o.revision)
	case o.estimate && o.at == "":
		return exit.Usagef("--estimate: it goes with --at")
	case o.cross && !o.chosen():
		return exit.Usagef("--cross-gaps: it goes with --at or --revision; without them, no journal is used")
	case o.ended != 0 && (o.ended < time.Second || o.ended > maxLease):
		return exit.Usagef("--ended-lease-ttl: %v is not between 1s and %v, and not 0", o.ended, maxLease)
	}
	return nil
}

// flags returns the options with which the same revision is restored.
func (o *pastOptions) flags(res restore.Result) []string {
	if res.Past.Whole() {
		return nil
	}
	c := []string{"--revision", fmt.Sprint(res.Past.Revision)}
	if o.ended != defaultEndedLease {
		c = append(c, "--ended-lease-ttl", o.ended.String())
	}
	if res.Replayed != nil && res.Replayed.Crossed != nil {
		c = append(c, "--cross-gaps")
	}
	return c
}

// table writes which revision is restored, and what is not the state of that revision.
func (o *pastOptions) table(w io.Writer, res restore.Result) {
	if res.Replayed != nil {
		o.journalTable(w, res.Replayed)
		return
	}
	p := res.Past
	if res.Later > 0 {
		fmt.Fprintf(w, "journal    goes on to revision %d, which is NOT restored; --at 0s instead of latest restores it\n",
			res.Later)
	}
	if s := res.Snapshot; p == nil && s.OldestRevision > 0 && s.OldestRevision < s.Revision {
		fmt.Fprintf(w, "range      --revision takes it back to any from %d to %d\n", s.OldestRevision, s.Revision)
	}
	if p != nil {
		fmt.Fprintf(w, "range      it can be taken back to any revision from %d to %d\n", p.Oldest, p.Newest)
	}
	if b := res.Bracket; b != nil {
		bracketTable(w, b, res)
	}
	switch {
	case res.Moment != nil:
		momentTable(w, res.Moment)
	case o.at != "":
		readLater(w, res)
	}
	switch {
	case p == nil:
		return
	case p.Whole():
		fmt.Fprintf(w, "revision   %d, the newest: it is restored as it is\n", p.Revision)
		return
	}
	fmt.Fprintf(w, "revision   %d, %s keys; %s newer records are left out\n",
		p.Revision, output.Count(p.TotalKeys), output.Count(p.Newer))
	leases := "none of that revision"
	if n := len(p.Leases) - len(p.Ended); n > 0 {
		leases = fmt.Sprintf("%d of that revision, each with its whole time to live", n)
	}
	fmt.Fprintf(w, "leases     %s; %s without keys at that revision are left out\n", leases, output.Count(p.Dropped))
	o.endedTable(w, p)
	fmt.Fprintln(w, "not given  users, roles and alarms are those of the snapshot: etcd keeps no history of them")
}

// endedTable writes what becomes of the leases that ended after the revision.
func (o *pastOptions) endedTable(w io.Writer, p *restore.Past) {
	var shown, assumed, keys int64
	for _, l := range p.Ended {
		if l.TTL > 0 {
			shown++
			continue
		}
		assumed++
		keys += l.Keys
	}
	const line = "           %s more ended after it, so that their time to live is lost: %s\n"
	if shown > 0 {
		fmt.Fprintf(w, line, output.Number(shown), "ESTIMATED, that of the lease that the same key was given later")
	}
	switch {
	case assumed > 0 && o.ended > 0:
		fmt.Fprintf(w, line, output.Number(assumed),
			fmt.Sprintf("ESTIMATED, %s (--ended-lease-ttl), for %s keys", output.Took(o.ended), output.Number(keys)))
	case assumed > 0:
		fmt.Fprintf(w, line, output.Number(assumed),
			fmt.Sprintf("NOT made, so that %s keys stay until they are deleted", output.Number(keys)))
	}
}

func bracketTable(w io.Writer, b *restore.Bracket, res restore.Result) {
	moment := func(m *restore.Moment, none string) string {
		if m == nil {
			return none
		}
		return fmt.Sprintf("%d (%s, %s)", m.Revision, m.Name, m.Time.UTC().Format(time.RFC3339))
	}
	fmt.Fprintf(w, "time       at %s the revision was between %s and %s\n", b.Time.UTC().Format(time.RFC3339),
		moment(b.Before, "an unknown one"), moment(b.After, "one that no later snapshot shows"))
	switch {
	case b.Estimated:
		fmt.Fprintf(w, "           %d is an ESTIMATE, as if changes came evenly: etcd keeps no times, and it may be later\n",
			res.Past.Revision)
	case b.Why != "":
		fmt.Fprintf(w, "           no estimate was made: %s\n", b.Why)
	case b.After != nil && b.After.Revision > b.Before.Revision:
		fmt.Fprintln(w, "           no revision between the two is restored; --estimate takes one")
	}
}

// readLater writes how exact the times of snapshots are.
func readLater(w io.Writer, res restore.Result) {
	head, later := "          ", "a moment later"
	if res.Bracket == nil {
		head = "time      "
	}
	if d := res.Snapshot.Duration; res.Past.Whole() && d > 0 {
		begun := res.Snapshot.CreateTime
		d += begun.Sub(begun.Truncate(time.Second))
		later = "within " + output.Took(d) + " of it, so that it may have changes of these"
	}
	fmt.Fprintf(w, "%s the time of a snapshot is the second in which its save began; etcd was read %s\n", head, later)
}
