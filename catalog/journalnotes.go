package catalog

import (
	"context"
	"errors"
	"fmt"
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
	noteTries   = 5         // of a change among those of other replicas
)

// JournalNotes returns what was noted of the journal. Notes that are damaged are none.
func (c *Catalog) JournalNotes(ctx context.Context) (notes snapshot.JournalNotes, err error) {
	err = c.do(ctx, "get journal notes", "read the notes about the journal",
		func(ctx context.Context, client *clientv3.Client, _ bool) error {
			kv, err := c.get(ctx, client, c.keys.journal())
			if err == nil {
				notes = journalNotes(c.parseNotes(ctx, kv))
			}
			return err
		})
	return notes, err
}

// AmendJournalNotes changes what was noted of the journal. The change is made again when another replica has changed it
// meanwhile. Notes that are damaged are replaced.
func (c *Catalog) AmendJournalNotes(ctx context.Context, change func(*snapshot.JournalNotes)) error {
	key, what := c.keys.journal(), "note the state of the journal"
	return c.do(ctx, "put journal notes", what, func(ctx context.Context, client *clientv3.Client, _ bool) error {
		for range noteTries {
			kv, err := c.get(ctx, client, key)
			if err != nil {
				return err
			}
			stored := c.parseNotes(ctx, kv)
			notes := journalNotes(stored)
			change(&notes)
			m := journalToProto(&notes)
			keep(m, stored)
			if proto.Equal(m, stored) {
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
func (c *Catalog) parseNotes(ctx context.Context, kv *mvccpb.KeyValue) *catalogv1.Journal {
	m := &catalogv1.Journal{}
	if kv == nil {
		return m
	}
	err := checkNotes(kv.Value, m)
	if err == nil {
		return m
	}
	c.warn(ctx, string(kv.Key), kv.ModRevision, "the notes about the journal in the catalog are damaged, and are left out", err)
	return &catalogv1.Journal{}
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
	verdict := m.GetDrill().GetVerdict()
	errs := []error{valid(verdict.GetTime())}
	if d := verdict.GetDuration(); d != nil && (!d.IsValid() || d.AsDuration().Abs() > maxDuration) {
		errs = append(errs, errors.New("the drill's duration is longer than 100 years"))
	}
	if m.GetDrill() != nil && verdict == nil {
		errs = append(errs, errors.New("the drill has no verdict"))
	}
	for _, b := range m.GetBreaks() {
		errs = append(errs, valid(b.GetAfterTime(), b.GetBeforeTime()))
	}
	return first(errs)
}

func journalNotes(m *catalogv1.Journal) (notes snapshot.JournalNotes) {
	at := func(t *timestamppb.Timestamp) time.Time {
		if t == nil {
			return time.Time{}
		}
		return t.AsTime()
	}
	for _, b := range m.GetBreaks() {
		notes.Breaks = append(notes.Breaks, snapshot.JournalBreak{
			Timeline: b.GetTimeline(), After: b.GetAfterRevision(), Before: b.GetBeforeRevision(),
			AfterTime: at(b.GetAfterTime()), BeforeTime: at(b.GetBeforeTime()),
			Reason: b.GetReason(), OtherHistory: b.GetOtherHistory(), Backend: b.GetBackend(),
		})
	}
	if d := m.GetDrill(); d != nil {
		notes.Drill = &snapshot.JournalDrill{
			Revision: d.GetRevision(), Timeline: d.GetTimeline(), Base: d.GetBase(),
			Verdict: *wire.VerificationFromProto(d.GetVerdict()),
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
	return m
}

// short returns a text that is stored: valid, and not longer than needed.
func short(s string) string { return wire.Text(s[:min(len(s), maxNoteText)]) }
