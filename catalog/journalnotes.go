package catalog

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/snapshotd/snapshotd/internal/wire"
	catalogv1 "github.com/snapshotd/snapshotd/proto/snapshotd/catalog/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Limits of the notes about a journal.
const (
	maxNotes    = 256 << 10 // bytes that are believed
	maxNoteText = 2 << 10   // bytes of a reason or an error that are kept
	noteTries   = 20        // of a change among those of other replicas

	// maxNotePoints is how many places are noted where a journal is behind: each is shown.
	maxNotePoints = 50
)

// JournalNotes returns what was noted of the journal. Notes that are damaged are an error, until the leader replaces
// them.
func (c *Catalog) JournalNotes(ctx context.Context) (snapshot.JournalNotes, error) {
	kv, err := c.value(ctx, "get journal notes", "read the notes about the journal", c.keys.journal())
	if err != nil {
		return snapshot.JournalNotes{}, err
	}
	m, damage := c.parseNotes(ctx, kv)
	return journalNotes(m), damage
}

// value reads a key; nil when there is none.
func (c *Catalog) value(ctx context.Context, op, what, key string) (kv *mvccpb.KeyValue, err error) {
	err = c.do(ctx, op, what, func(ctx context.Context, client *clientv3.Client, _ bool) (err error) {
		kv, err = c.get(ctx, client, key)
		return err
	})
	return kv, err
}

// AmendJournalNotes changes what was noted of the journal. The change is made again when another replica has changed it
// meanwhile. Notes that are damaged are replaced.
func (c *Catalog) AmendJournalNotes(ctx context.Context, change func(*snapshot.JournalNotes)) error {
	return c.amend(ctx, c.keys.journal(), "put journal notes", "note the state of the journal",
		func(ctx context.Context, kv *mvccpb.KeyValue) proto.Message {
			stored, damage := c.parseNotes(ctx, kv)
			notes := journalNotes(stored)
			change(&notes)
			m := journalToProto(&notes)
			keepOfNotes(m, stored)
			if damage == nil && proto.Equal(m, stored) {
				return nil
			}
			return m
		})
}

// amend puts what change makes of a value, which is nil when there is none; nil changes nothing. It begins again when
// another replica has changed the value meanwhile.
func (c *Catalog) amend(
	ctx context.Context, key, op, what string, change func(context.Context, *mvccpb.KeyValue) proto.Message,
) error {
	return c.do(ctx, op, what, func(ctx context.Context, client *clientv3.Client, _ bool) error {
		for range noteTries {
			kv, err := c.get(ctx, client, key)
			if err != nil {
				return err
			}
			m := change(ctx, kv)
			if m == nil {
				return nil
			}
			value, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
			if err != nil {
				return snapshot.ReasonInternal.New("%s", what).Because(err)
			}
			same := clientv3.Compare(clientv3.ModRevision(key), "=", kv.GetModRevision())
			resp, err := client.Txn(ctx).If(same).Then(clientv3.OpPut(key, string(value))).Commit()
			if err != nil || resp.Succeeded {
				return err
			}
		}
		return fmt.Errorf("%s: other replicas change it all the time", what)
	})
}

// parseNotes returns the message of a value; an empty one when there is none, or it is damaged.
func (c *Catalog) parseNotes(ctx context.Context, kv *mvccpb.KeyValue) (*catalogv1.Journal, error) {
	m := &catalogv1.Journal{}
	if kv == nil {
		return m, nil
	}
	err := checkNotes(kv.Value, m)
	if err == nil {
		return m, nil
	}
	c.warn(ctx, string(kv.Key), kv.ModRevision,
		"the notes about the journal in the catalog are damaged, and are left out", err)
	return &catalogv1.Journal{}, fmt.Errorf(
		"the notes in the catalog, %s, are damaged: %w; the leader replaces them within an hour", kv.Key, err)
}

func checkNotes(value []byte, m *catalogv1.Journal) error {
	if len(value) > maxNotes {
		return fmt.Errorf("they have %d bytes, more than %d", len(value), maxNotes)
	}
	if err := proto.Unmarshal(value, m); err != nil {
		return err
	}
	valid := func(all ...*timestamppb.Timestamp) error {
		for _, t := range all {
			if t != nil && !t.IsValid() {
				return errors.New("a time is not between the years 1 and 9999")
			}
		}
		return nil
	}
	revisions := func(all ...int64) error {
		for _, r := range all {
			if r < 0 || r == math.MaxInt64 {
				return fmt.Errorf("%d is no revision", r)
			}
		}
		return nil
	}
	var errs []error
	for _, b := range m.GetBreaks() {
		errs = append(errs, valid(b.GetAfterTime(), b.GetBeforeTime()),
			revisions(b.GetAfterRevision(), b.GetBeforeRevision()))
	}
	if d := m.GetDrill(); d != nil {
		errs = append(errs, valid(d.GetVerdict().GetTime()), revisions(d.GetRevision()), checkDrill(d))
	}
	for _, p := range m.GetTrouble().GetPoints() {
		errs = append(errs, valid(p.GetCompleteTime()))
		if p.GetDamaged() < 0 {
			errs = append(errs, fmt.Errorf("%d is no number of segments", p.GetDamaged()))
		}
	}
	return first(errs)
}

// checkDrill checks what is shown of a drill. The name of the snapshot becomes a part of a command.
func checkDrill(d *catalogv1.JournalDrill) error {
	verdict := d.GetVerdict()
	if verdict.GetTime() == nil {
		return errors.New("the drill has no verdict with a time")
	}
	if took := verdict.GetDuration(); took != nil && (!took.IsValid() || took.AsDuration().Abs() > maxDuration) {
		return errors.New("the drill's duration is longer than 100 years")
	}
	if !snapshot.ValidName(d.GetBase()) {
		return fmt.Errorf("the drill has the snapshot %.80q, which is no name", d.GetBase())
	}
	return nil
}

// noteTime returns a time of a note; zero when there is none.
func noteTime(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

func journalNotes(m *catalogv1.Journal) (notes snapshot.JournalNotes) {
	all := m.GetBreaks()
	for _, b := range all[max(0, len(all)-snapshot.MaxJournalBreaks):] { // others can write there
		notes.Breaks = append(notes.Breaks, snapshot.JournalBreak{
			Timeline: b.GetTimeline(), After: b.GetAfterRevision(), Before: b.GetBeforeRevision(),
			AfterTime: noteTime(b.GetAfterTime()), BeforeTime: noteTime(b.GetBeforeTime()),
			Reason: b.GetReason(), OtherHistory: b.GetOtherHistory(), Backend: b.GetBackend(),
		})
	}
	if d := m.GetDrill(); d != nil {
		notes.Drill = &snapshot.JournalDrill{
			Revision: d.GetRevision(), Timeline: d.GetTimeline(), Base: d.GetBase(),
			Verdict: *wire.VerificationFromProto(d.GetVerdict()),
		}
	}
	if t := m.GetTrouble(); t != nil {
		notes.Trouble = &snapshot.JournalTrouble{Node: t.GetNode()}
		for _, p := range t.GetPoints()[:min(len(t.GetPoints()), maxNotePoints)] {
			notes.Trouble.Points = append(notes.Trouble.Points, snapshot.JournalPoint{
				Backend: p.GetBackend(), Complete: noteTime(p.GetCompleteTime()), Error: p.GetError(), Damaged: p.GetDamaged(),
			})
		}
	}
	return notes
}

func journalToProto(notes *snapshot.JournalNotes) *catalogv1.Journal {
	m := &catalogv1.Journal{}
	for _, b := range notes.Breaks[max(0, len(notes.Breaks)-snapshot.MaxJournalBreaks):] {
		m.Breaks = append(m.Breaks, &catalogv1.JournalBreak{
			Timeline: b.Timeline, AfterRevision: b.After, BeforeRevision: b.Before, AfterTime: wire.Time(b.AfterTime),
			BeforeTime: wire.Time(b.BeforeTime), Reason: short(b.Reason), OtherHistory: b.OtherHistory, Backend: b.Backend,
		})
	}
	if d := notes.Drill; d != nil {
		m.Drill = &catalogv1.JournalDrill{
			Revision: d.Revision, Timeline: d.Timeline, Base: d.Base, Verdict: wire.VerificationToProto(&d.Verdict),
		}
		m.Drill.Verdict.Error = short(d.Verdict.Error)
	}
	if t := notes.Trouble; t != nil {
		m.Trouble = &catalogv1.JournalTrouble{Node: t.Node}
		for _, p := range t.Points[:min(len(t.Points), maxNotePoints)] {
			m.Trouble.Points = append(m.Trouble.Points, &catalogv1.JournalPoint{
				Backend: p.Backend, CompleteTime: wire.Time(p.Complete), Error: short(p.Error), Damaged: p.Damaged,
			})
		}
	}
	return m
}

// keepOfNotes keeps the fields of a later version in all that was not changed.
func keepOfNotes(m, stored *catalogv1.Journal) {
	keep(m, stored)
	for _, b := range m.GetBreaks() {
		keepOf(b, stored.GetBreaks(), func(o *catalogv1.JournalBreak) bool {
			return o.GetTimeline() == b.GetTimeline() && o.GetBeforeRevision() == b.GetBeforeRevision() &&
				o.GetBackend() == b.GetBackend()
		})
	}
	if t := m.GetTrouble(); t != nil {
		keep(t, stored.GetTrouble())
		for _, p := range t.GetPoints() {
			keepOf(p, stored.GetTrouble().GetPoints(),
				func(o *catalogv1.JournalPoint) bool { return o.GetBackend() == p.GetBackend() })
		}
	}
	now, was := m.GetDrill(), stored.GetDrill()
	if now == nil || was == nil || !proto.Equal(now.GetVerdict(), asKnown(was.GetVerdict())) {
		return
	}
	keep(now, was)
	now.Verdict = was.GetVerdict()
}

// short returns a text that is stored: valid, and not longer than needed.
func short(s string) string { return wire.Text(s[:min(len(s), maxNoteText)]) }
