package catalog

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Term is one term of a leader. Its writes are conditional on its lease.
type Term struct {
	catalog *Catalog
	lease   clientv3.LeaseID
	name    string
	end     context.CancelCauseFunc
}

// ID returns a number that no other term has.
func (t *Term) ID() int64 { return int64(t.lease) }

// Leads returns nil while the term lasts, and an error that wraps [snapshot.ErrLocked] when it has ended, also when
// this process does not know that yet. It only reads: an etcd that has no space for a write answers it.
func (t *Term) Leads(ctx context.Context) error {
	c, what := t.catalog, "read whether this replica still leads"
	return c.do(ctx, "leads", what, func(ctx context.Context, client *clientv3.Client, _ bool) error {
		kv, err := c.get(ctx, client, c.keys.leader())
		if err == nil && kv.GetLease() != int64(t.lease) {
			err = fmt.Errorf("%s: %w: another replica leads, or none", what, snapshot.ErrLocked)
		}
		return err
	})
}

// LastDue returns the time for which the last run of a schedule that has ended was due; zero when none has.
func (t *Term) LastDue(ctx context.Context, schedule string) (time.Time, error) {
	return t.catalog.LastDue(ctx, schedule)
}

// LastDue returns the same to replicas that do not lead.
func (c *Catalog) LastDue(ctx context.Context, schedule string) (due time.Time, err error) {
	key := c.keys.schedule(schedule)
	what := fmt.Sprintf("read when the schedule %q ran last", schedule)
	err = c.do(ctx, "last due", what, func(ctx context.Context, client *clientv3.Client, _ bool) error {
		kv, err := c.get(ctx, client, key)
		if err != nil || kv == nil {
			return err
		}
		if due, err = parseDue(kv.Value); err != nil {
			c.cfg.Logger.WarnContext(ctx, what+": the value is damaged; the schedule begins anew", "key", key, "error", err)
			due = time.Time{}
		}
		return nil
	})
	return due, err
}

// parseDue returns the time in a value. No schedule ran before there was this program: from such a time on, all runs
// until now would be gone through.
func parseDue(value []byte) (time.Time, error) {
	if len(value) > len(time.RFC3339Nano) {
		return time.Time{}, fmt.Errorf("it has %d bytes", len(value))
	}
	due, err := time.Parse(time.RFC3339Nano, string(value))
	if err == nil && due.Year() < 2020 {
		err = fmt.Errorf("no schedule was due in the year %d", due.Year())
	}
	return due, err
}

// PutLastDue remembers that time. The error wraps [snapshot.ErrLocked] when the term has ended.
func (t *Term) PutLastDue(ctx context.Context, schedule string, due time.Time) error {
	c := t.catalog
	what := fmt.Sprintf("write when the schedule %q ran last", schedule)
	put := clientv3.OpPut(c.keys.schedule(schedule), due.UTC().Format(time.RFC3339Nano))
	return c.do(ctx, "put last due", what, func(ctx context.Context, client *clientv3.Client, _ bool) error {
		leads := clientv3.Compare(clientv3.LeaseValue(c.keys.leader()), "=", t.lease)
		resp, err := client.Txn(ctx).If(leads).Then(put).Commit()
		if err == nil && !resp.Succeeded {
			err = fmt.Errorf("%s: %w: another replica leads, or none", what, snapshot.ErrLocked)
		}
		return err
	})
}
