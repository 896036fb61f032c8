package catalog

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// maxTimeline is the most bytes of the name of a journal's timeline that are believed.
const maxTimeline = 64

// Timeline returns the name of the journal's timeline that was noted last; empty when none was.
func (c *Catalog) Timeline(ctx context.Context) (name string, err error) {
	key := c.keys.timeline()
	err = c.do(ctx, "get timeline", "read the journal's timeline", func(ctx context.Context, client *clientv3.Client, _ bool) error {
		kv, err := c.get(ctx, client, key)
		if err != nil || kv == nil {
			return err
		}
		if name = string(kv.Value); len(name) > maxTimeline {
			c.cfg.Logger.WarnContext(ctx, "the journal's timeline in the catalog is damaged, and is left out", "key", key)
			name = ""
		}
		return nil
	})
	return name, err
}

// PutTimeline notes the name of the journal's timeline, on condition that the one there is still as it was read.
func (c *Catalog) PutTimeline(ctx context.Context, was, name string) error {
	key := c.keys.timeline()
	what := "note the journal's timeline"
	return c.do(ctx, "put timeline", what, func(ctx context.Context, client *clientv3.Client, _ bool) error {
		same := clientv3.Compare(clientv3.Value(key), "=", was)
		if was == "" {
			same = clientv3.Compare(clientv3.CreateRevision(key), "=", 0)
		}
		resp, err := client.Txn(ctx).If(same).Then(clientv3.OpPut(key, name)).Commit()
		if err == nil && !resp.Succeeded {
			err = fmt.Errorf("%s: another replica has noted one meanwhile", what)
		}
		return err
	})
}
