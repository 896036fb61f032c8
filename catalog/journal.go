package catalog

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// maxTimeline is the most bytes of the name of a journal's timeline that are believed.
const maxTimeline = 64

// Timeline is the journal's timeline that was noted last.
type Timeline struct {
	Name string // empty when none was noted, or it is not valid

	invalid  bool
	revision int64 // of the key; 0 when it is not there
}

// Timeline returns the journal's timeline that was noted last. valid reports whether a name can be that of a timeline.
func (c *Catalog) Timeline(ctx context.Context, valid func(name string) bool) (t Timeline, err error) {
	key := c.keys.timeline()
	err = c.do(ctx, "get timeline", "read the journal's timeline",
		func(ctx context.Context, client *clientv3.Client, _ bool) error {
			kv, err := c.get(ctx, client, key)
			if err != nil || kv == nil {
				return err
			}
			t = Timeline{Name: string(kv.Value), revision: kv.ModRevision}
			if len(t.Name) > maxTimeline || !valid(t.Name) {
				c.cfg.Logger.WarnContext(ctx, "the journal's timeline in the catalog is not valid, and is left out", "key", key)
				t.Name, t.invalid = "", true
			}
			return nil
		})
	return t, err
}

// PutTimeline notes the name of the journal's timeline, on condition that the key is still as it was read. One that is
// not valid is replaced.
func (c *Catalog) PutTimeline(ctx context.Context, was Timeline, name string) error {
	key := c.keys.timeline()
	what := "note the journal's timeline"
	return c.do(ctx, "put timeline", what, func(ctx context.Context, client *clientv3.Client, _ bool) error {
		same := clientv3.Compare(clientv3.ModRevision(key), "=", was.revision)
		resp, err := client.Txn(ctx).If(same).Then(clientv3.OpPut(key, name)).Commit()
		switch {
		case err == nil && !resp.Succeeded:
			return fmt.Errorf("%s: another replica has noted one meanwhile", what)
		case err == nil && was.invalid:
			c.cfg.Logger.WarnContext(ctx, "the journal's timeline in the catalog was not valid, and was replaced",
				"key", key, "timeline", name)
		}
		return err
	})
}
