//go:build e2e

package e2e

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// TestSilentConnectionsAtTheLimitOfFiles: 500 connections that say nothing, where the process may have 256 files open.
// Saves, health and the leadership go on, and so do new callers.
func TestSilentConnectionsAtTheLimitOfFiles(t *testing.T) {
	w := newWorld(t, 0)
	o := w.options()
	o.files = 256
	s := start(t, o, w.args(t, "")...)
	s.must("save")
	leads := func() bool { return s.scrape()[`snapshotd_leader{cluster="default"}`] == 1 }
	eventually(t, "the service leads", leads)
	var all []net.Conn
	defer func() {
		for _, c := range all {
			_ = c.Close()
		}
	}()
	for i := range 500 {
		c, err := net.DialTimeout("tcp", []string{s.grpc, s.http}[i%2], waitTimeout)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	for range 3 {
		s.must("save")
		s.get("/healthz")
		s.get("/readyz")
	}
	if !leads() {
		t.Error("the service does not lead any more")
	}
	if n := s.scrape()[`snapshotd_access_refused_total{reason="connections"}`]; n < 300 {
		t.Errorf("%v connections were closed", n)
	}
	for _, bad := range []string{"too many open files", "leadership was lost"} {
		if strings.Contains(s.log.String(), bad) {
			t.Errorf("the log has %q", bad)
		}
	}
}

// TestManyWatchers: so many watchers as the environment says (1,000), on 20 connections. Saves go on, and memory stays
// within the bound.
func TestManyWatchers(t *testing.T) {
	watchers := int(envInt(t, "SNAPSHOTD_E2E_WATCHERS", 1000))
	const connections = 20
	w := newWorld(t, 0)
	config := w.dir + ".limits.yaml"
	replaceFile(t, config, "limits: {streams: 10000, calls_per_principal: 10000, streams_per_connection: 1000}\n")
	s := start(t, w.options(), append([]string{"--config", config}, w.args(t, "")...)...)
	s.must("save")
	rest := s.rssAnon()
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	told := make(chan struct{}, watchers)
	for i := range connections {
		conn, err := grpc.NewClient(s.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		client := snapshotdv1.NewSnapshotServiceClient(conn)
		for j := i; j < watchers; j += connections {
			stream, err := client.Watch(ctx, &snapshotdv1.WatchRequest{})
			if err == nil {
				_, err = stream.Header()
			}
			if err != nil {
				t.Fatal(err)
			}
			watching.Go(func() {
				for {
					ev, err := stream.Recv()
					if err != nil {
						return
					}
					if ev.GetType() == snapshotdv1.WatchResponse_TYPE_FINISHED {
						told <- struct{}{}
						return
					}
				}
			})
		}
	}
	stop := s.samplePeak()
	begun := time.Now()
	s.must("save")
	took := time.Since(begun)
	for range watchers {
		select {
		case <-told:
		case <-time.After(waitTimeout):
			t.Fatal("not every watcher was told that the save has ended")
		}
	}
	peak := stop()
	t.Logf("%d watchers: RssAnon %.1f MiB before, %.1f MiB at its peak; the save took %v", watchers, mib(rest), mib(peak),
		took.Round(time.Millisecond))
	if watchers <= 1000 && peak > memoryBound {
		t.Errorf("the peak of RssAnon was %.1f MiB; %d MiB are allowed", mib(peak), memoryBound>>20)
	}
}
