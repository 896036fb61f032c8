//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/loader"
	"github.com/snapshotd/snapshotd/internal/testenv"
)

// TestBenchJournalBytes measures what a journal of a cluster of Kubernetes stores, beside the full snapshots that would
// otherwise be needed each hour. It takes SNAPSHOTD_E2E_SECONDS (3,600 for an hour), and without it nothing is
// measured. The database has SNAPSHOTD_E2E_BYTES; 12.5 changes a second are those of a cluster of 100 nodes (see
// churn).
func TestBenchJournalBytes(t *testing.T) {
	during := time.Duration(envInt(t, "SNAPSHOTD_E2E_SECONDS", 0)) * time.Second
	if during == 0 {
		t.Skip("SNAPSHOTD_E2E_SECONDS is not set")
	}
	w := &world{etcd: testenv.StartCluster(t, 1), s3: testenv.StartS3(t), dir: t.TempDir(), bucket: "snapshots"}
	w.s3.MakeBucket(w.bucket)
	client := w.etcd.Client(t)
	err := loader.Load(t.Context(), client, loader.Config{Bytes: envInt(t, "SNAPSHOTD_E2E_BYTES", 1181116006), Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	proxy := testenv.StartHTTPProxy(t, w.s3.Addr(), nil)
	file := journaled(t, t.TempDir(), w.etcd.Endpoints(), map[string]string{"s3": w.s3URL(proxy.Addr()), "local": "file://" + w.dir})
	s := start(t, w.options(), "--config", file)
	s.follows(1)
	base := s.list()[0]
	puts := proxy.Counts()["PutObject"]

	operations := newChurn(client).run(t, during)
	end, err := client.Put(t.Context(), "last", "")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the changes are on the backends", func() bool { return s.window().timeline("").last() >= end.Header.Revision })
	puts = proxy.Counts()["PutObject"] - puts
	segments, bytes := w.segments(t)
	var uploaded float64
	for name, value := range s.scrape() {
		if strings.HasPrefix(name, "snapshotd_journal_stored_bytes_total{") && strings.Contains(name, `backend="local"`) {
			uploaded = value
		}
	}
	hours := during.Hours()
	t.Logf("%s\n%d operations in %s on a database of %.2f GB; one full is stored as %.1f MB. The journal: %.2f MB in %d segments "+
		"and their manifests, after merging (%.2f MB before), %.1f times less than %.2f fulls; %d PUTs to the bucket, %.0f a day at this rate",
		machine(t), operations, during, float64(base.DbSizeBytes)/1e9, float64(base.StoredSizeBytes)/1e6, float64(bytes)/1e6,
		segments, uploaded/1e6, float64(base.StoredSizeBytes)*hours/float64(bytes), hours, puts, float64(puts)*24/hours)
}

// churn is what a cluster of Kubernetes of 100 nodes writes: 10 leases of nodes a second, 1.3 of components, 0.5 events
// with a lease of an hour, 0.5 states of pods, and 0.2 other objects: 44,900 operations an hour. etcd is compacted
// every five minutes.
type churn struct {
	client *clientv3.Client
	chance *rand.Rand
	bodies map[string]string // all of an object that does not change, by key
}

func newChurn(client *clientv3.Client) *churn {
	return &churn{client: client, chance: rand.New(rand.NewPCG(8, 9)), bodies: map[string]string{}}
}

func (c *churn) run(t *testing.T, during time.Duration) (operations int) {
	t.Helper()
	const perSecond, compacts = 12.477, 5 * time.Minute
	begin := time.Now()
	lastCompaction := begin
	compactable := int64(0)
	var events clientv3.LeaseID
	var eventsSince time.Time
	for {
		due := begin.Add(time.Duration(float64(operations) / perSecond * float64(time.Second)))
		if due.Sub(begin) >= during {
			return operations
		}
		time.Sleep(time.Until(due)) // the rate is what is measured at
		if time.Since(eventsSince) > time.Minute {
			resp, err := c.client.Grant(t.Context(), 3660) // the API server shares a lease among the events of a minute
			if err != nil {
				t.Fatal(err)
			}
			events, eventsSince = resp.ID, time.Now()
		}
		revision, err := c.one(t.Context(), operations, events)
		if err != nil {
			t.Fatal(err)
		}
		if time.Since(lastCompaction) > compacts {
			if compactable > 0 {
				_, err = c.client.Compact(t.Context(), compactable)
			}
			if err != nil {
				t.Fatal(err)
			}
			lastCompaction, compactable = time.Now(), revision
		}
		operations++
	}
}

// one makes one of the operations.
func (c *churn) one(ctx context.Context, n int, events clientv3.LeaseID) (revision int64, err error) {
	var resp *clientv3.PutResponse
	switch p := c.chance.IntN(1248); {
	case p < 1000:
		resp, err = c.put(ctx, fmt.Sprintf("/registry/leases/kube-node-lease/node-%03d", n%100), 420)
	case p < 1130:
		resp, err = c.put(ctx, fmt.Sprintf("/registry/leases/kube-system/component-%d", c.chance.IntN(8)), 380)
	case p < 1180:
		key := fmt.Sprintf("/registry/events/namespace-%02d/pod-%05d.%016x", c.chance.IntN(50), c.chance.IntN(3000), c.chance.Uint64())
		resp, err = c.client.Put(ctx, key, c.object(key, 800, 300), clientv3.WithLease(events))
	case p < 1230:
		resp, err = c.put(ctx, fmt.Sprintf("/registry/pods/namespace-%02d/pod-%05d", c.chance.IntN(50), c.chance.IntN(3000)), 6000)
	default:
		resp, err = c.put(ctx, fmt.Sprintf("/registry/endpointslices/namespace-%02d/service-%d", c.chance.IntN(50), c.chance.IntN(5)), 2000)
	}
	if err != nil {
		return 0, err
	}
	return resp.Header.Revision, nil
}

// put updates an object: most of it stays, its time and its version do not.
func (c *churn) put(ctx context.Context, key string, size int) (*clientv3.PutResponse, error) {
	if c.bodies[key] == "" {
		c.bodies[key] = c.object(key, size, size/3)
	}
	now := time.Now().UTC().Format("2006-01-02T15:04:05.000000Z")
	return c.client.Put(ctx, key, fmt.Sprintf("%s\x12%s\x1a%d", c.bodies[key], now, c.chance.IntN(1e9)))
}

// object is a new object: names that come back in every one, and so many bytes of ids and hashes that do not.
func (c *churn) object(key string, size, random int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "k8s\x00\n\x09\n\x02v1\x12\x03Pod%s", key)
	for b.Len() < random {
		fmt.Fprintf(&b, "uid%016x", c.chance.Uint64())
	}
	for b.Len() < size {
		b.WriteString(`{"f:metadata":{"f:labels":{".":{},"f:app.kubernetes.io/name":{},"f:pod-template-hash":{}}},"f:status":{}}`)
	}
	return b.String()[:size]
}
