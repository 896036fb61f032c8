package snapshot

import (
	"context"
	"errors"
	"fmt"
)

// LiveHash is what the live cluster says of a revision.
type LiveHash struct {
	ClusterID       string // 16 hex digits
	HashKV          uint32
	CompactRevision int64 // two hashes of a revision are of the same keys only when they agree on this
}

// A Hasher is a [Source] that can say the HashKV of a revision.
type Hasher interface {
	HashKV(ctx context.Context, revision int64) (LiveHash, error)
}

// compareLive holds a drill's HashKV against the live cluster's, where that still has the revision. What it returns says
// whether it could; the error is that they differ.
func (c *Cluster) compareLive(ctx context.Context, rec *Record, checked Checked) (string, error) {
	hasher, ok := c.cfg.Source.(Hasher)
	if !ok {
		return "not compared: the source has none", nil
	}
	live, err := hasher.HashKV(ctx, checked.Revision)
	switch {
	case ctx.Err() != nil:
		return "", cancelled(ctx, "verify "+rec.Name)
	case err != nil:
		return "not compared: " + messageText(err), nil
	case rec.EtcdClusterID == "":
		return "not compared: it is not known which cluster the snapshot is of", nil
	case live.ClusterID != rec.EtcdClusterID:
		return "not compared: the live cluster is another one by now, restored or made anew", nil
	case live.CompactRevision != checked.CompactRevision:
		return "not compared: the live cluster was compacted meanwhile", nil
	case live.HashKV == checked.HashKV:
		return "the same as the live cluster's", nil
	}
	return "not the live cluster's", &Error{
		Reason: ReasonSnapshotUnreadable, Message: fmt.Sprintf("verify %s", rec.Name),
		Err:  fmt.Errorf("HashKV at revision %d is %d, and %d in the live cluster", checked.Revision, checked.HashKV, live.HashKV),
		Hint: "unless the cluster was restored from an older snapshot since, one of the two is damaged: check the members of etcd against each other (etcdctl endpoint hashkv --cluster)",
	}
}

func messageText(err error) string {
	if e, ok := errors.AsType[*Error](err); ok && e.Err == nil {
		return e.Message
	}
	return err.Error()
}
