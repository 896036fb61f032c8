package catalog

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/snapshotd/snapshotd/snapshot"
)

// historyOf returns the name of the history that a revision of etcd belongs to: the cluster's id, and the term of Raft.
func historyOf(h *pb.ResponseHeader) string {
	return fmt.Sprintf("%016x.%d", h.GetClusterId(), h.GetRaftTerm())
}

// broken returns an error when the history after a position is not the one that goes on now: etcd was restored from an
// earlier time, and may have reached the same revision with other changes. An etcd that was restored with other peers
// or another token has another id. Any other restored etcd begins with the first terms again, and in an etcd that was
// not restored the term never falls.
func broken(after, now snapshot.Position) error {
	if now.Revision < after.Revision {
		return fmt.Errorf("etcd is at revision %d: it was restored from a time before", now.Revision)
	}
	if after.History == "" {
		return nil
	}
	was, err := parseHistory(after.History)
	if err != nil {
		return err
	}
	is, err := parseHistory(now.History)
	switch {
	case err != nil:
		return err
	case was.cluster != is.cluster:
		return fmt.Errorf("etcd has the cluster id %x and had %x: it was restored or made anew", is.cluster, was.cluster)
	case is.term < was.term:
		return fmt.Errorf("etcd is in term %d of Raft and was in %d: it was restored or made anew", is.term, was.term)
	}
	return nil
}

type history struct{ cluster, term uint64 }

func parseHistory(text string) (h history, err error) {
	if _, err := fmt.Sscanf(text, "%x.%d", &h.cluster, &h.term); err != nil {
		return h, fmt.Errorf("%.80q is no history of an etcd", text)
	}
	return h, nil
}
