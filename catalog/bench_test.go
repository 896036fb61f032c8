package catalog_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/catalog/conformance"
	"github.com/snapshotd/snapshotd/internal/etcd/member"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	"github.com/snapshotd/snapshotd/snapshot"
)

// BenchmarkList reads the newest 100 of many records, and beside each, in the same run, one range of 100 keys of the
// same etcd. It reports the 99th percentiles and their ratio.
func BenchmarkList(b *testing.B) {
	for _, records := range []int{1_000, 100_000} {
		b.Run(fmt.Sprint(records), func(b *testing.B) { benchmarkList(b, records) })
	}
}

func benchmarkList(b *testing.B, records int) {
	const page = 100
	etcd := embedded.StartEtcd(b, func(c *member.Config) { c.Quota = 4 << 30; c.NoFsync = true })
	client := etcd.Client(b)
	c := catalog.New(catalog.Config{Connect: connect(client), Cluster: "default"})
	begin := time.Now()
	var group sync.WaitGroup
	const writers = 64
	for w := range writers {
		group.Go(func() {
			for i := w; i < records; i += writers {
				rec := conformance.Record(fmt.Sprintf("etcd-snapshot-node-1-%d", i), 0)
				rec.CreateTime = begin.Add(-time.Duration(i) * time.Minute) // the newest is new, as in a catalog that is used
				if err := c.Create(b.Context(), rec); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	if group.Wait(); b.Failed() {
		b.FailNow()
	}
	// The range has exactly so many keys: etcd counts all keys of a range, also beyond its limit.
	keys, err := client.Get(b.Context(), "/snapshotd/v1/default/snapshots/",
		clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithLimit(page+1))
	if err != nil {
		b.Fatal(err)
	}
	first, after := string(keys.Kvs[0].Key), string(keys.Kvs[page].Key)
	var lists, ranges []time.Duration
	timed := func(to *[]time.Duration, fn func() error) {
		begin := time.Now()
		if err := fn(); err != nil {
			b.Fatal(err)
		}
		*to = append(*to, time.Since(begin))
	}
	b.ReportAllocs()
	for b.Loop() {
		timed(&ranges, func() error {
			resp, err := client.Get(b.Context(), first, clientv3.WithRange(after))
			if err == nil && len(resp.Kvs) != page {
				err = fmt.Errorf("%d keys were read", len(resp.Kvs))
			}
			return err
		})
		timed(&lists, func() error {
			p, err := c.List(b.Context(), snapshot.Query{PageSize: page})
			if err == nil && len(p.Records) != page {
				err = fmt.Errorf("%d records were listed", len(p.Records))
			}
			return err
		})
	}
	p99 := func(d []time.Duration) float64 {
		slices.Sort(d)
		return float64(d[len(d)*99/100].Microseconds()) / 1e3
	}
	list, one := p99(lists), p99(ranges)
	b.ReportMetric(list, "p99-list-ms")
	b.ReportMetric(one, "p99-range-ms")
	b.ReportMetric(list/one, "ratio")
}
