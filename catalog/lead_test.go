package catalog_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/catalog"
)

// TestABusyEtcdIsAskedForTheLeadershipLessAndLess: of thousands of clusters whose etcd does not answer, each asks
// again.
func TestABusyEtcdIsAskedForTheLeadershipLessAndLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Time
		c := catalog.New(catalog.Config{Cluster: "prod", Connect: func(context.Context) (*clientv3.Client, error) {
			at = append(at, time.Now())
			return nil, errors.New("no connection")
		}})
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		_ = c.Lead(ctx, "node-1", func(context.Context, *catalog.Term) { t.Error("it leads") }) // it ends with ctx
		if len(at) < 5 || at[1].Sub(at[0]) > 3*time.Second {
			t.Fatalf("it asks at first at %v", at)
		}
		if first, rest := at[3].Sub(begin), 10*time.Minute/time.Duration(len(at)); first > 20*time.Second || rest < 10*time.Second {
			t.Errorf("the fourth attempt comes after %v, and of all of them one each %v", first, rest)
		}
	})
}
