package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/snapshotd/snapshotd/internal/wire"
	catalogv1 "github.com/snapshotd/snapshotd/proto/snapshotd/catalog/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Reconciled returns what the replicas have noted of the whole catalog and of the backends. A note that is damaged is
// left out: the next reconcile replaces it.
func (c *Catalog) Reconciled(ctx context.Context) (snapshot.ReconcileNote, error) {
	kv, err := c.value(ctx, "get reconcile note", "read what the last reconcile has found", c.keys.reconciled())
	if err != nil {
		return snapshot.ReconcileNote{}, err
	}
	m, _ := c.parseReconciled(ctx, kv)
	return reconcileNote(m), nil
}

// AmendReconciled changes what was noted. The change is made again when another replica has changed it meanwhile.
func (c *Catalog) AmendReconciled(ctx context.Context, change func(*snapshot.ReconcileNote)) error {
	return c.amend(ctx, c.keys.reconciled(), "put reconcile note", "note what a reconcile has found",
		func(ctx context.Context, kv *mvccpb.KeyValue) proto.Message {
			stored, damage := c.parseReconciled(ctx, kv)
			note := reconcileNote(stored)
			change(&note)
			m := &catalogv1.Reconciled{
				Damaged: note.Damaged, Proven: note.Proven, CountedTime: wire.Time(note.Counted),
			}
			for backend, f := range note.Failed {
				if m.Failed == nil {
					m.Failed = map[string]*catalogv1.ReconcileFailure{}
				}
				m.Failed[backend] = &catalogv1.ReconcileFailure{
					Time: wire.Time(f.Time), Error: short(f.Error), Whole: f.Whole,
				}
				if was := stored.GetFailed()[backend]; was != nil {
					keep(m.Failed[backend], was)
				}
			}
			keep(m, stored)
			if damage == nil && proto.Equal(m, stored) {
				return nil
			}
			return m
		})
}

// parseReconciled returns the message of a value; an empty one when there is none, or it is damaged.
func (c *Catalog) parseReconciled(ctx context.Context, kv *mvccpb.KeyValue) (*catalogv1.Reconciled, error) {
	m := &catalogv1.Reconciled{}
	if kv == nil {
		return m, nil
	}
	if err := checkReconciled(kv.Value, m); err != nil {
		c.warn(ctx, string(kv.Key), kv.ModRevision, "the note about the last reconcile is damaged, and left out", err)
		return &catalogv1.Reconciled{}, err
	}
	return m, nil
}

func checkReconciled(value []byte, m *catalogv1.Reconciled) error {
	if len(value) > maxNotes {
		return fmt.Errorf("it has %d bytes, more than %d", len(value), maxNotes)
	}
	if err := proto.Unmarshal(value, m); err != nil {
		return err
	}
	bad := func(name string) bool { return !snapshot.ValidName(name) }
	if slices.ContainsFunc(m.GetDamaged(), bad) || m.GetProven() != "" && bad(m.GetProven()) {
		return errors.New("it names a snapshot by what is no name")
	}
	return nil
}

func reconcileNote(m *catalogv1.Reconciled) snapshot.ReconcileNote {
	damaged := m.GetDamaged()
	note := snapshot.ReconcileNote{
		Damaged: damaged[:min(len(damaged), snapshot.MaxDamagedNoted)], Proven: m.GetProven(),
		Counted: noteTime(m.GetCountedTime()),
	}
	note.Failed = make(map[string]snapshot.ReconcileFailure, len(m.GetFailed()))
	for backend, f := range m.GetFailed() {
		note.Failed[backend] = snapshot.ReconcileFailure{
			Time: noteTime(f.GetTime()), Error: f.GetError(), Whole: f.GetWhole(),
		}
	}
	return note
}
