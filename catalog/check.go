package catalog

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/snapshot"
)

// checkTTL is how long the key of a check stays when its process dies.
const checkTTL = 30 * time.Second

// Check reads the records' keys, and writes, reads and removes a key of its own under a lease, as locks are. It reports
// each with its error, and leaves no key.
func (c *Catalog) Check(ctx context.Context, report func(action string, err error)) {
	report("read the catalog", c.do(ctx, "check", "read the records",
		func(ctx context.Context, client *clientv3.Client, _ bool) error {
			_, err := client.Get(ctx, string(c.keys), clientv3.WithPrefix(), clientv3.WithLimit(1), clientv3.WithKeysOnly())
			return err
		}))
	key := string(c.keys) + "check/" + strings.ToLower(rand.Text())
	report("write to the catalog", c.do(ctx, "check", "write and remove a key",
		func(ctx context.Context, client *clientv3.Client, _ bool) error { return tryKey(ctx, client, key) }))
}

// tryKey writes a key, reads it and removes it.
func tryKey(ctx context.Context, client *clientv3.Client, key string) error {
	granted, err := client.Grant(ctx, int64(checkTTL.Seconds()))
	if err != nil {
		return err
	}
	defer func() { // with the key, if that is still there
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_, _ = client.Revoke(ctx, granted.ID)
	}()
	put, err := client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, "", clientv3.WithLease(granted.ID)), clientv3.OpGet(key)).Commit()
	if err != nil {
		return err
	}
	if !put.Succeeded || len(put.Responses[1].GetResponseRange().GetKvs()) != 1 {
		return snapshot.ReasonCatalogUnavailable.New("write a key").Because(errors.New("it cannot be read back"))
	}
	_, err = client.Delete(ctx, key)
	return err
}
