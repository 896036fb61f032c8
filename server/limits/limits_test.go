package limits_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snapshotd/snapshotd/server/limits"
	"github.com/snapshotd/snapshotd/snapshot"
)

// wantLimit checks that an error names a limit by its key.
func wantLimit(t *testing.T, err error, key string) {
	t.Helper()
	e, ok := errors.AsType[*snapshot.Error](err)
	if !ok || !limits.IsLimit(err) || e.Retry <= 0 || !strings.Contains(err.Error(), "limits."+key) {
		t.Errorf("the error is %v, and not that of limits.%s", err, key)
	}
}

func TestCallsOfOnePrincipalAreLimited(t *testing.T) {
	c := limits.NewCalls(limits.Limits{CallsPerPrincipal: 2, Streams: 10}.OrDefaults())
	begin := func(who string, kind limits.Kind) func() {
		t.Helper()
		end, err := c.Begin(who, kind)
		if err != nil {
			t.Fatal(err)
		}
		return end
	}
	first := begin("token a", limits.Short)
	begin("token a", limits.Short)
	_, err := c.Begin("token a", limits.Short)
	wantLimit(t, err, "calls_per_principal")
	begin("token b", limits.Short)() // others can
	begin("token a", limits.Stream)  // and its streams are counted apart
	first()
	begin("token a", limits.Short)
}

func TestStreamsOfAllAreLimitedAndNeverKeepOthersFromCalling(t *testing.T) {
	c := limits.NewCalls(limits.Limits{Streams: 3}.OrDefaults())
	var ends []func()
	for i := range 3 {
		end, err := c.Begin(fmt.Sprint("token ", i), limits.Stream)
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, end)
	}
	_, err := c.Begin("token 4", limits.Stream)
	wantLimit(t, err, "streams")
	if _, err := c.Begin("token 4", limits.Short); err != nil {
		t.Errorf("another call: %v", err)
	}
	for i := range 3 {
		if _, err := c.Begin(fmt.Sprint("address ", i), limits.Open); err != nil {
			t.Errorf("health, which has places of its own: %v", err)
		}
	}
	_, err = c.Begin("address 4", limits.Open)
	wantLimit(t, err, "streams")
	ends[0]()
	if _, err := c.Begin("token 4", limits.Stream); err != nil {
		t.Errorf("after one has ended: %v", err)
	}
}

func TestSavesOfAClusterAreLimitedByTheMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := limits.NewCalls(limits.Limits{SavesPerMinute: 6}.OrDefaults())
		for range 6 {
			if err := c.Save("prod"); err != nil {
				t.Fatal(err)
			}
		}
		err := c.Save("prod")
		wantLimit(t, err, "saves_per_minute")
		if err := c.Save("other"); err != nil {
			t.Errorf("another cluster: %v", err)
		}
		e, _ := errors.AsType[*snapshot.Error](err)
		time.Sleep(e.Retry)
		if err := c.Save("prod"); err != nil {
			t.Errorf("after %v, as the error says: %v", e.Retry, err)
		}
		wantLimit(t, c.Save("prod"), "saves_per_minute")
		time.Sleep(time.Hour)
		for i := range 6 {
			if err := c.Save("prod"); err != nil {
				t.Errorf("save %d after an hour: %v", i+1, err)
			}
		}
		wantLimit(t, c.Save("prod"), "saves_per_minute")
	})
}

// pipes is a listener of connections in memory.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	c, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (pipes) Close() error   { return nil }
func (pipes) Addr() net.Addr { return &net.TCPAddr{} }

// connect returns both ends of a connection that has passed the gate; the server's is nil when it was turned away.
func connect(t *testing.T, ln net.Listener, p pipes) (client, server net.Conn) {
	t.Helper()
	client, behind := net.Pipe()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := ln.Accept()
		if err == nil {
			accepted <- c
		}
	}()
	p <- behind
	closed := make(chan struct{})
	go func() {
		_, _ = client.Read(make([]byte, 1))
		close(closed)
	}()
	select {
	case server = <-accepted:
	case <-closed:
	}
	return client, server
}

// isClosed reports whether the server's end was closed.
func isClosed(c net.Conn) bool {
	_ = c.SetWriteDeadline(time.Now().Add(-time.Second))
	_, err := c.Write([]byte{0})
	return errors.Is(err, io.ErrClosedPipe)
}

func TestASilentConnectionGivesWayToANewOne(t *testing.T) {
	turned := 0
	g := limits.NewGate(3, func() { turned++ })
	p := make(pipes)
	ln := g.Listener(p)
	var servers []net.Conn
	for range 3 {
		_, s := connect(t, ln, p)
		servers = append(servers, s)
	}
	limits.Known(servers[0].RemoteAddr()) // its caller has shown who it is
	_, fourth := connect(t, ln, p)
	if fourth == nil || turned != 1 || g.Open() != 3 {
		t.Fatalf("the fourth is %v; %d were turned away, %d are open", fourth, turned, g.Open())
	}
	if isClosed(servers[0]) || !isClosed(servers[1]) || isClosed(servers[2]) {
		t.Errorf("closed are %v %v %v", isClosed(servers[0]), isClosed(servers[1]), isClosed(servers[2]))
	}
	_ = servers[1].Close() // as its server does; it has left already
	if g.Open() != 3 {
		t.Errorf("%d are open", g.Open())
	}
}

func TestAGateFullOfKnownCallersIsClosed(t *testing.T) {
	turned := make(chan struct{}, 1)
	g := limits.NewGate(1, func() { turned <- struct{}{} })
	p := make(pipes)
	ln := g.Listener(p)
	_, first := connect(t, ln, p)
	limits.Known(first.RemoteAddr())
	_, second := connect(t, ln, p)
	<-turned
	if second != nil || isClosed(first) {
		t.Errorf("the second one is %v, and the first is closed: %v", second, isClosed(first))
	}
	_ = first.Close()
	if g.Open() != 0 {
		t.Fatalf("%d are open", g.Open())
	}
	limits.Known(first.RemoteAddr()) // late; it must not do anything
	limits.Known(&net.TCPAddr{})
}

func TestASlowDownloadGivesWayToOneThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := limits.NewDownloads(limits.Limits{MinDownloadRate: 64 << 10}.OrDefaults())
		ended := make(chan string, 2)
		slow := d.Begin("prod", "a", func() { ended <- "slow" })
		defer slow.End()
		fast := d.Begin("prod", "b", func() { ended <- "fast" })
		defer fast.End()
		// read takes 4 KB/s of one, and 1 MB/s of the other. Both are sent all the time, also after an end.
		read := func(d time.Duration) {
			for range int(d.Seconds()) {
				var taken sync.WaitGroup
				for pace, bytes := range map[*limits.Pace]int{slow: 4 << 10, fast: 1 << 20} {
					taken.Go(func() { _ = pace.Send(bytes, func() error { time.Sleep(time.Second); return nil }) })
				}
				taken.Wait()
			}
		}
		read(10 * time.Minute)
		if len(ended) > 0 {
			t.Fatal("a download was ended, and nobody waits")
		}
		other := d.Wait("other cluster")
		defer other()
		read(2 * time.Minute)
		if len(ended) > 0 {
			t.Fatal("a download was ended for another cluster's")
		}
		over := d.Wait("prod")
		read(2 * time.Minute)
		if len(ended) != 1 || <-ended != "slow" {
			t.Fatal("the slow one was not ended, or not alone")
		}
		if snapshot.ReasonOf(slow.Err()) != snapshot.ReasonSlowConsumer || fast.Err() != nil {
			t.Errorf("the errors are %v and %v", slow.Err(), fast.Err())
		}
		if !strings.Contains(slow.Err().Error(), "limits.min_download_rate") {
			t.Errorf("the error names no limit: %v", slow.Err())
		}
		over()
		over() // again, as a deferred call does
	})
}

// A caller that takes at once what there is has no part in a backend that gives little, and ending its download would
// help nobody: the next one reads from the same backend.
func TestADownloadFromASlowBackendDoesNotGiveWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := limits.NewDownloads(limits.Limits{MinDownloadRate: 64 << 10}.OrDefaults())
		p := d.Begin("prod", "a", func() { t.Error("it was ended") })
		defer p.End()
		defer d.Wait("prod")()
		for range 60 {
			time.Sleep(19 * time.Second) // for the backend
			if err := p.Send(4<<10, func() error { time.Sleep(time.Second); return nil }); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.Err(); err != nil {
			t.Error(err)
		}
	})
}

func TestLimitsChangeWhileCallsAreUnderWay(t *testing.T) {
	c := limits.NewCalls(limits.Limits{CallsPerPrincipal: 2, SavesPerMinute: 1}.OrDefaults())
	for range 2 {
		if _, err := c.Begin("a", limits.Short); err != nil {
			t.Fatal(err)
		}
	}
	c.Set(limits.Limits{CallsPerPrincipal: 3}.OrDefaults())
	end, err := c.Begin("a", limits.Short)
	if err != nil {
		t.Fatal(err)
	}
	c.Set(limits.Limits{CallsPerPrincipal: 1}.OrDefaults())
	end()
	_, err = c.Begin("a", limits.Short)
	wantLimit(t, err, "calls_per_principal")
}
