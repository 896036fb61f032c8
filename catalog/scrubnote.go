package catalog

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	"github.com/snapshotd/snapshotd/internal/wire"
	catalogv1 "github.com/snapshotd/snapshotd/proto/snapshotd/catalog/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// maxScrubNote is the most bytes of a note about a scrub that are believed.
const maxScrubNote = 2 * maxNoteText

// NoteScrub notes how a scrub has ended, for all replicas. When it was due is noted by the term of the leader.
func (c *Catalog) NoteScrub(ctx context.Context, note snapshot.ScrubNote) error {
	const what = "note how the scrub has ended"
	m := &catalogv1.Scrub{Time: wire.Time(note.Time), Error: short(note.Error)}
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return snapshot.ReasonInternal.New(what).Because(err)
	}
	return c.do(ctx, "put scrub note", what, func(ctx context.Context, client *clientv3.Client, _ bool) error {
		_, err := client.Put(ctx, c.keys.scrub(), string(value))
		return err
	})
}

// Scrubbed returns how the last scrub has ended, the runs of which are remembered under a schedule's name.
func (c *Catalog) Scrubbed(ctx context.Context, schedule string) (note snapshot.ScrubNote, err error) {
	const what = "read how the last scrub has ended"
	err = c.do(ctx, "scrubbed", what, func(ctx context.Context, client *clientv3.Client, _ bool) error {
		note = snapshot.ScrubNote{}
		resp, err := client.Txn(ctx).Then(clientv3.OpGet(c.keys.schedule(schedule)), clientv3.OpGet(c.keys.scrub())).Commit()
		if err != nil {
			return err
		}
		if found := resp.Responses[0].GetResponseRange().GetKvs(); len(found) > 0 {
			note.Due, _ = parseDue(found[0].Value) // the leader warns of one that is damaged, and begins anew
		}
		found := resp.Responses[1].GetResponseRange().GetKvs()
		if len(found) == 0 {
			return nil
		}
		m, err := parseScrubNote(found[0].Value)
		if err != nil {
			c.warn(ctx, string(found[0].Key), found[0].ModRevision, what+": the note is damaged, and left out", err)
			return nil
		}
		note.Time, note.Error = m.GetTime().AsTime(), m.GetError()
		return nil
	})
	return note, err
}

// parseScrubNote reads a note. Whoever can write to etcd can put anything there.
func parseScrubNote(value []byte) (*catalogv1.Scrub, error) {
	if len(value) > maxScrubNote {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(value), maxScrubNote)
	}
	m := &catalogv1.Scrub{}
	if err := proto.Unmarshal(value, m); err != nil {
		return nil, err
	}
	if m.GetTime() == nil || !m.GetTime().IsValid() {
		return nil, errors.New("it has no time between the years 1 and 9999")
	}
	return m, nil
}
