//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// TestBenchJournal measures how long etcd's puts take with and without a service that follows it, in turns, at 200 and
// 2,000 puts a second on three members. It is `make bench-journal`; SNAPSHOTD_E2E_ROUNDS says how many turns, and
// without it nothing is measured.
func TestBenchJournal(t *testing.T) {
	rounds := int(envInt(t, "SNAPSHOTD_E2E_ROUNDS", 0))
	if rounds == 0 {
		t.Skip("SNAPSHOTD_E2E_ROUNDS is not set")
	}
	during := time.Duration(envInt(t, "SNAPSHOTD_E2E_SECONDS", 20)) * time.Second
	etcd := testenv.StartCluster(t, 3, testenv.Fsync())
	client := etcd.Client(t)
	dir := t.TempDir() // the catalog knows the directory again
	taken := map[string][]time.Duration{}
	for range rounds {
		for _, rate := range []int{200, 2000} {
			for _, journal := range []bool{false, true} {
				file := writeConfig(t, "clusters:\n  - etcd: {endpoints: [%s]}\n    backends: [{name: local, url: \"file://%s\"}]\n"+
					"    journal: {enabled: %t}\n", strings.Join(etcd.Endpoints(), ", "), dir, journal)
				s := start(t, options{}, "--config", file)
				eventually(t, "the service leads", func() bool { return s.scrape()[`snapshotd_leader{cluster="default"}`] == 1 })
				if journal {
					resp, err := client.Put(t.Context(), "first", "")
					if err != nil {
						t.Fatal(err)
					}
					s.follows(resp.Header.Revision)
				}
				name := fmt.Sprintf("%5d puts/s, journal %t", rate, journal)
				taken[name] = append(taken[name], putsAt(t, client, rate, during)...)
				s.kill()
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(taken)) {
		all := taken[name]
		slices.Sort(all)
		t.Logf("%s: %6d puts, p50 %8s, p99 %8s, max %8s", name, len(all), all[len(all)/2].Round(10*time.Microsecond),
			all[len(all)*99/100].Round(10*time.Microsecond), all[len(all)-1].Round(10*time.Microsecond))
	}
}

// putsAt puts values of 1 KiB at a steady rate, also when etcd is slow, and returns how long each took.
func putsAt(t *testing.T, client *clientv3.Client, rate int, during time.Duration) []time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), during+waitTimeout)
	defer cancel()
	value := strings.Repeat("v", 1024)
	took := make([]time.Duration, int(during.Seconds())*rate)
	begin := time.Now()
	var puts sync.WaitGroup
	for i := range took {
		due := begin.Add(time.Duration(i) * time.Second / time.Duration(rate))
		time.Sleep(time.Until(due)) // the rate is what is measured at
		puts.Go(func() {
			if _, err := client.Put(ctx, fmt.Sprintf("/bench/%05d", i%5000), value); err != nil {
				t.Error(err)
			}
			took[i] = time.Since(due)
		})
	}
	puts.Wait()
	return took
}
