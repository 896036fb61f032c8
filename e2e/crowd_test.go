//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// TestACrowdKeepsNobodyFromSaving: 5,000 watchers on 20 connections, 20,000 streams on one, 500 connections that say
// nothing, and two readers of 4 KB/s, all at once, where the process may have 256 files open. Saves, health and the
// leadership go on, and memory stays within its bound. SNAPSHOTD_E2E_CROWD_UNLIMITED=1 lifts the limits of the service,
// to see what they are good for; nothing is demanded then.
func TestACrowdKeepsNobodyFromSaving(t *testing.T) {
	w := newWorld(t, 32<<20)
	o := w.options()
	o.files = 256
	args := w.args(t, "")
	unlimited := envInt(t, "SNAPSHOTD_E2E_CROWD_UNLIMITED", 0) != 0
	if unlimited {
		o.files = 0
		file := w.dir + ".limits.yaml"
		replaceFile(t, file, "limits: {connections: 100000, streams: 100000, calls_per_principal: 100000, "+
			"streams_per_connection: 100000, handshake_timeout: 1h}\n")
		args = append([]string{"--config", file}, args...)
	}
	s := start(t, o, args...)
	name := s.save()
	leads := func() bool { return s.scrape()[`snapshotd_leader{cluster="default"}`] == 1 }
	eventually(t, "the service leads", leads)
	rest := s.rssAnon()
	begun := time.Now()
	s.must("save")
	alone := time.Since(begun)

	ctx, cancel := context.WithCancel(t.Context())
	c := &throng{service: s, ctx: ctx}
	defer c.wg.Wait()
	defer cancel()
	stop := s.samplePeak()
	for range 2 {
		c.readSlowly(name)
	}
	for range 20 {
		c.watch(250)
	}
	c.watch(20000)
	c.saySoLittle(500)
	eventually(t, "the crowd is there", func() bool {
		return c.refused.Load()+c.watching.Load() >= 5000 && (unlimited || c.watching.Load() > 0)
	})
	var took []time.Duration
	for range 5 {
		begun := time.Now()
		r := s.run("save")
		took = append(took, time.Since(begun).Round(time.Millisecond))
		if r.code != 0 && !unlimited {
			t.Errorf("save: exit code %d: %s", r.code, r.stderr)
		}
		if _, err := healthpb.NewHealthClient(c.dial()).Check(ctx, &healthpb.HealthCheckRequest{}); err != nil && !unlimited {
			t.Errorf("health: %v", err)
		}
		if !unlimited {
			s.get("/healthz")
			s.get("/readyz")
		}
	}
	slices.Sort(took)
	if !unlimited && !leads() {
		t.Error("the service does not lead any more")
	}
	peak := stop()
	t.Logf("RssAnon %.1f MiB before, %.1f MiB at its peak; %d watch, %d were refused; a save takes %v alone, and %v beside the crowd",
		mib(rest), mib(peak), c.watching.Load(), c.refused.Load(), alone.Round(time.Millisecond), took)
	if unlimited {
		return
	}
	if peak > memoryBound {
		t.Errorf("the peak of RssAnon was %.1f MiB; %d MiB are allowed", mib(peak), memoryBound>>20)
	}
	for _, bad := range []string{"too many open files", "leadership was lost"} {
		if strings.Contains(s.log.String(), bad) {
			t.Errorf("the log has %q", bad)
		}
	}
}

// throng are callers that take whatever they get.
type throng struct {
	*service
	ctx               context.Context
	wg                sync.WaitGroup
	watching, refused atomic.Int64
}

func (c *throng) dial() *grpc.ClientConn {
	c.t.Helper()
	conn, err := grpc.NewClient(c.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// watch begins many watches on one connection.
func (c *throng) watch(many int) {
	client := snapshotdv1.NewSnapshotServiceClient(c.dial())
	for range many {
		c.wg.Go(func() {
			stream, err := client.Watch(c.ctx, &snapshotdv1.WatchRequest{})
			if err == nil {
				_, err = stream.Header()
			}
			if err == nil {
				c.watching.Add(1)
				for err == nil {
					_, err = stream.Recv()
				}
				c.watching.Add(-1)
			}
			if c.ctx.Err() == nil {
				c.refused.Add(1)
			}
		})
	}
}

// readSlowly downloads a snapshot at 4 KB/s.
func (c *throng) readSlowly(name string) {
	c.t.Helper()
	conn, err := net.DialTimeout("tcp", c.http, waitTimeout)
	if err != nil {
		c.t.Fatal(err)
	}
	context.AfterFunc(c.ctx, func() { _ = conn.Close() })
	if _, err := fmt.Fprintf(conn, "GET /v1/snapshots/%s:download HTTP/1.1\r\nHost: %s\r\n\r\n", name, c.http); err != nil {
		c.t.Fatal(err)
	}
	c.wg.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-c.ctx.Done():
				return
			}
			if _, err := io.CopyN(io.Discard, conn, 400); err != nil {
				return
			}
		}
	})
}

// saySoLittle opens connections, and says nothing.
func (c *throng) saySoLittle(many int) {
	c.t.Helper()
	for i := range many {
		conn, err := net.DialTimeout("tcp", []string{c.grpc, c.http}[i%2], waitTimeout)
		if err != nil {
			c.t.Fatal(err)
		}
		context.AfterFunc(c.ctx, func() { _ = conn.Close() })
	}
}
