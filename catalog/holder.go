package catalog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/snapshot"
)

// MaxLockTTL is the longest [Config.LockTTL]. A lock on a lease for longer is no replica's.
const MaxLockTTL = time.Hour

// maxHolder is the most bytes of a lock's value: a replica's name and a random text.
const maxHolder = 512

// holderOf returns who holds the lock with a value, as the value says it. A value that no replica writes is an error.
func holderOf(value []byte) (string, error) {
	switch {
	case len(value) == 0:
		return "", errors.New("it names no holder")
	case len(value) > maxHolder:
		return "", fmt.Errorf("it has %d bytes, more than the %d of a holder's name", len(value), maxHolder)
	case utf8(string(value)) != string(value):
		return "", errors.New("it is no text")
	}
	for _, r := range string(value) {
		if !strconv.IsPrint(r) {
			return "", errors.New("it has characters that no holder's name has")
		}
	}
	return string(value), nil
}

// holder is the value under the key of a lock.
type holder struct {
	name   string // of the replica; empty when no replica holds the lock
	left   string // when its lease ends, for a person
	forged error  // why it is no replica's lock; nil when a replica may hold it
}

// inspectHolder finds out whether a replica holds the lock of a key. Replicas put a lock on a lease that they renew, of
// at most an hour; the key goes away with it. Anything else in its place was put there by somebody else, and could stay
// for ever.
func (c *Catalog) inspectHolder(ctx context.Context, client *clientv3.Client, kv *mvccpb.KeyValue) holder {
	name, err := holderOf(kv.Value)
	if err == nil && kv.Lease == 0 {
		err = errors.New("it has no lease")
	}
	if err != nil {
		return holder{forged: err}
	}
	lease, err := client.TimeToLive(ctx, clientv3.LeaseID(kv.Lease))
	switch {
	case err != nil: // it cannot be decided: a replica may hold it
		return holder{name: name, left: fmt.Sprintf("whose lease cannot be read: %v", plain(err))}
	case lease.TTL < 0:
		return holder{forged: errors.New("its lease does not exist")}
	case time.Duration(lease.GrantedTTL) > MaxLockTTL/time.Second:
		return holder{forged: fmt.Errorf("its lease is for %d seconds, longer than any replica's", lease.GrantedTTL)}
	}
	return holder{name: name, left: fmt.Sprintf("whose lease ends in %d s unless it is renewed", lease.TTL)}
}

// locked is the error for a lock that another replica holds.
func (h holder) locked(what, key string) error {
	return fmt.Errorf("%s: %w by %q, %s; if no replica of this name runs: %s",
		what, snapshot.ErrLocked, h.name, h.left, removal(key))
}
