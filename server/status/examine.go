package status

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// JudgedSnapshots are read from each catalog, which may be in the same etcd that is in trouble.
const JudgedSnapshots = 500

// Replicas are the facts that the replicas of a cluster tell each other through its catalog.
type Replicas interface {
	// LastDue returns when the last run of a schedule that has stored a snapshot was due; zero when none has.
	LastDue(ctx context.Context, schedule string) (time.Time, error)
	// Leader returns the name of the replica that leads; empty when none does.
	Leader(ctx context.Context) (string, error)
	// Scrubbed returns how the last scrub has ended; without a time when that is not known.
	Scrubbed(ctx context.Context) (snapshot.ScrubNote, error)
	// Reconciled returns what the replicas have noted of the whole catalog and of the backends.
	Reconciled(ctx context.Context) (snapshot.ReconcileNote, error)
	// Record returns one of the snapshots that were noted; nil when there is none any more.
	Record(ctx context.Context, name string) (*snapshot.Record, error)
	// JournalNotes returns what the leader has noted of the journal.
	JournalNotes(ctx context.Context) (snapshot.JournalNotes, error)
	// Saving returns how far the save under way is, as its replica has told last; nil when none has told anything.
	Saving(ctx context.Context) (*Moving, error)
}

// Examine reads what the catalog knows, of which list gives pages. Without the records there is no verdict, nor when
// ctx ends before the rest was read; the rest may be missing otherwise.
func (k *Known) Examine(
	ctx context.Context, list func(context.Context, snapshot.Query) (snapshot.Page, error), replicas Replicas,
) error {
	page, err := list(ctx, snapshot.Query{PageSize: JudgedSnapshots})
	if err != nil {
		return err
	}
	k.Records, k.Bad = page.Records, page.Unreadable
	k.All = page.NextPageToken == "" && len(page.Unreadable) == 0
	k.examineSchedules(ctx, replicas)
	k.examineScrub(ctx, replicas)
	k.examineNote(ctx, replicas)
	k.examineSaving(ctx, replicas)
	if k.Journal != nil {
		k.Journal.Notes, k.Journal.NotesErr = replicas.JournalNotes(ctx)
	}
	return ctx.Err()
}

// missing notes that a fact could not be read, the first of them. What is not known must not look as if all were well.
func (k *Known) missing(err error, format string, args ...any) {
	if k.FactErr == nil {
		k.FactErr = fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), err)
	}
}

func (k *Known) examineSchedules(ctx context.Context, replicas Replicas) {
	if leader, err := replicas.Leader(ctx); err != nil {
		k.missing(err, "whether a replica leads")
	} else {
		k.Leader = &leader
	}
	k.Ran = map[string]time.Time{}
	for _, sch := range k.Schedules {
		due, err := replicas.LastDue(ctx, sch.Name)
		if err != nil {
			k.missing(err, "whether schedule %s keeps to its times", sch.Name)
			continue
		}
		k.Ran[sch.Name] = due
	}
}

func (k *Known) examineScrub(ctx context.Context, replicas Replicas) {
	if k.Scrub == nil {
		return
	}
	scrub := *k.Scrub // that of the configuration is shared
	if note, err := replicas.Scrubbed(ctx); err != nil {
		k.missing(err, "how the last scrub has ended")
	} else {
		scrub.Last = note
	}
	k.Scrub = &scrub
}

// examineNote finds what the last reconcile has found. Of the snapshots that it names, those that are not among the
// newest are read: they may have changed since.
func (k *Known) examineNote(ctx context.Context, replicas Replicas) {
	const what = "what the last reconcile has found"
	note, err := replicas.Reconciled(ctx)
	if err != nil {
		k.missing(err, what)
		return
	}
	k.Failed = note.Failed
	if k.All {
		return
	}
	read := func(name string) *snapshot.Record {
		if slices.ContainsFunc(k.Records, func(rec *snapshot.Record) bool { return rec.Name == name }) {
			return nil
		}
		rec, err := replicas.Record(ctx, name)
		if err != nil {
			k.missing(err, what)
		}
		return rec
	}
	if note.Proven != "" {
		if rec := read(note.Proven); rec != nil {
			k.Older = append(k.Older, rec)
		}
	}
	for _, name := range note.Damaged {
		if rec := read(name); rec != nil && failedVerification(rec) {
			k.Older = append(k.Older, rec)
			return
		}
	}
}

// examineSaving finds how far the save of another replica is. That of this one is known here, and better.
func (k *Known) examineSaving(ctx context.Context, replicas Replicas) {
	i := slices.IndexFunc(k.Records, func(rec *snapshot.Record) bool { return rec.State() == snapshot.StateSaving })
	if k.Moving != nil || i < 0 || k.Records[i].Node == k.Node {
		return
	}
	if m, err := replicas.Saving(ctx); err == nil && m != nil && m.Name == k.Records[i].Name {
		k.Moving = m
	}
}
