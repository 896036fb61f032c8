package server_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server"
	"github.com/snapshotd/snapshotd/server/limits"
	"github.com/snapshotd/snapshotd/snapshot"
)

// silent connects and says nothing.
func silent(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, waitTimeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// untilClosed waits until the other side has closed a connection.
func untilClosed(t *testing.T, c net.Conn, what string) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(waitTimeout))
	_, err := io.Copy(io.Discard, c)
	if e, ok := err.(net.Error); ok && e.Timeout() { //nolint:errorlint // it is not wrapped
		t.Errorf("%s was not closed", what)
	}
}

func TestASilentConnectionIsClosed(t *testing.T) {
	t.Parallel()
	quick := func(cfg *server.Config) { cfg.Limits.HandshakeTimeout = 50 * time.Millisecond }
	withTLS := guardedWith(t, quick)
	plain := run(t, server.Config{Limits: limits.Limits{HandshakeTimeout: 50 * time.Millisecond}}, ready())
	for what, addr := range map[string]string{
		"gRPC with TLS": withTLS.GRPCAddr(), "HTTP with TLS": withTLS.HTTPAddr(),
		"gRPC": plain.GRPCAddr(), "HTTP": plain.HTTPAddr(),
	} {
		untilClosed(t, silent(t, addr), what+": a silent connection")
		slow := silent(t, addr)
		_, _ = slow.Write([]byte{22}) // the first byte of a handshake, and no second one
		untilClosed(t, slow, what+": a connection after one byte")
	}
}

func TestSilentConnectionsKeepNobodyOut(t *testing.T) {
	g := guardedWith(t, func(cfg *server.Config) { cfg.Limits.Connections = 8 })
	admin := g.withToken(t, "admin")
	before := g.as(t, admin)
	if _, err := before.Save(t.Context(), &snapshotdv1.SaveRequest{Cluster: "prod"}); err != nil {
		t.Fatal(err)
	}
	for i := range 500 {
		silent(t, []string{g.GRPCAddr(), g.HTTPAddr()}[i%2])
	}
	// One that is still to be accepted would take the place of the new connections below, which show who they are at once.
	for end := time.Now().Add(waitTimeout); g.count(server.RefusedConnection) < 490; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d connections are counted as closed", g.count(server.RefusedConnection))
		}
	}
	if _, err := before.Save(t.Context(), &snapshotdv1.SaveRequest{Cluster: "prod"}); err != nil {
		t.Errorf("over the connection from before: %v", err)
	}
	if _, err := g.as(t, admin).Save(t.Context(), &snapshotdv1.SaveRequest{Cluster: "prod"}); err != nil {
		t.Errorf("over a new connection: %v", err)
	}
	health := healthpb.NewHealthClient(g.connect(t, person{}))
	if _, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Errorf("health: %v", err)
	}
	if code, _ := g.browse(t, person{})("GET", "/readyz", ""); code != http.StatusOK {
		t.Errorf("/readyz is %d", code)
	}
}

func TestWatchersKeepNobodyFromSaving(t *testing.T) {
	g := guardedWith(t, func(cfg *server.Config) { cfg.Limits.Streams, cfg.Limits.CallsPerPrincipal = 30, 20 },
		quiet(&guardedServer{}, "prod", hiddenName)...)
	admin, other := g.withToken(t, "admin"), g.withToken(t, "operator")
	client := g.as(t, admin)
	for range 20 {
		watch(t, client, &snapshotdv1.WatchRequest{})
	}
	next := func(client snapshotdv1.SnapshotServiceClient) error {
		stream, err := client.Watch(t.Context(), &snapshotdv1.WatchRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	d := checkError(t, next(client), codes.ResourceExhausted, snapshot.ReasonLimitReached)
	if d.Retry <= 0 {
		t.Error("the error says not when to try again")
	}
	for range 10 {
		watch(t, g.as(t, other), &snapshotdv1.WatchRequest{})
	}
	err := next(g.as(t, other))
	checkError(t, err, codes.ResourceExhausted, snapshot.ReasonLimitReached)
	if !strings.Contains(err.Error(), "limits.streams ") {
		t.Errorf("the error does not name the limit: %v", err)
	}
	if _, err := client.Save(t.Context(), &snapshotdv1.SaveRequest{Cluster: "prod"}); err != nil {
		t.Errorf("a save: %v", err)
	}
	code, body := g.browse(t, admin)("GET", "/v1/events", "")
	if code != http.StatusTooManyRequests || !strings.Contains(body, "LIMIT_REACHED") {
		t.Errorf("over HTTP it is %d %s", code, body)
	}
	if n := g.count(server.RefusedLimit); n != 3 {
		t.Errorf("%d refusals are counted", n)
	}
}

// Health is open to callers that show nothing.
func TestWatchersOfHealthKeepNobodyFromWatching(t *testing.T) {
	g := guardedWith(t, func(cfg *server.Config) { cfg.Limits.Streams = 10 },
		quiet(&guardedServer{}, "prod", hiddenName)...)
	health := healthpb.NewHealthClient(g.connect(t, person{}))
	next := func() error {
		stream, err := health.Watch(t.Context(), &healthpb.HealthCheckRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	for range 10 {
		if err := next(); err != nil {
			t.Fatal(err)
		}
	}
	checkError(t, next(), codes.ResourceExhausted, snapshot.ReasonLimitReached)
	if _, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Errorf("a check of health: %v", err)
	}
	stream := watch(t, g.as(t, g.withToken(t, "viewer")), &snapshotdv1.WatchRequest{})
	g.events.Observe(t.Context(), started("prod", "a"))
	if _, err := stream.Recv(); err != nil {
		t.Errorf("a watch: %v", err)
	}
}

// Strangers fill the places of strangers: those who show who they are have places of their own.
func TestStrangersKeepNobodyWhoIsKnownFromWatchingHealth(t *testing.T) {
	g := guardedWith(t, func(cfg *server.Config) { cfg.Limits.Streams = 10 },
		quiet(&guardedServer{}, "prod", hiddenName)...)
	next := func(p person) error {
		stream, err := healthpb.NewHealthClient(g.connect(t, p)).Watch(t.Context(), &healthpb.HealthCheckRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	for range 10 {
		if err := next(person{}); err != nil {
			t.Fatal(err)
		}
	}
	checkError(t, next(person{token: "sdt_made_up"}), codes.ResourceExhausted, snapshot.ReasonLimitReached)
	for _, p := range []person{g.withToken(t, "viewer"), g.withCertificate(t, "stranger", 9),
		g.withIdentity(t, "viewer")} {
		if err := next(p); err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
	}
}

// A watch that is not read has its place no longer than the stall timeout, although its handler waits to send.
func TestAWatchThatIsNotReadGivesItsPlaceBack(t *testing.T) {
	g := guardedWith(t, func(cfg *server.Config) {
		cfg.Limits.Streams, cfg.StallTimeout = 1, 200*time.Millisecond
	}, quiet(&guardedServer{}, "prod", hiddenName)...)
	viewer := g.withToken(t, "viewer")
	unread := watch(t, g.as(t, viewer), &snapshotdv1.WatchRequest{})
	for range 100 { // 10 MB: more than flow control holds, and fewer than the subscription does
		g.events.Observe(t.Context(), started("prod", strings.Repeat("x", 100<<10)))
	}
	next := func() error {
		stream, err := g.as(t, viewer).Watch(t.Context(), &snapshotdv1.WatchRequest{})
		if err == nil {
			_, _ = stream.Header() // from then on it is told of all; the error is that of Recv
			g.events.Observe(t.Context(), started("prod", "b"))
			_, err = stream.Recv()
		}
		return err
	}
	for end := time.Now().Add(waitTimeout); next() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the place is not free: %v", next())
		}
	}
	for {
		if _, err := unread.Recv(); err != nil {
			checkError(t, err, codes.ResourceExhausted, snapshot.ReasonSlowConsumer)
			return
		}
	}
}

// A client that begins 2,000 streams on one connection gets so many at a time. The library of the client waits for a
// free one.
func TestTheStreamsOfOneConnectionAreLimited(t *testing.T) {
	g := guardedWith(t, func(cfg *server.Config) { cfg.Limits.StreamsPerConnection = 10 },
		quiet(&guardedServer{}, "prod", hiddenName)...)
	client := g.as(t, g.withToken(t, "admin"))
	for range 10 {
		watch(t, client, &snapshotdv1.WatchRequest{})
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	for range 2000 {
		go func() {
			stream, err := client.Watch(ctx, &snapshotdv1.WatchRequest{})
			if err == nil {
				_, err = stream.Header()
			}
			ended <- err
		}()
	}
	operator := g.as(t, g.withToken(t, "operator"))
	if _, err := operator.Save(t.Context(), &snapshotdv1.SaveRequest{Cluster: "prod"}); err != nil {
		t.Errorf("a save over another connection: %v", err)
	}
	cancel()
	for range 2000 {
		if err := <-ended; status.Code(err) != codes.Canceled {
			t.Fatalf("one of the others is %v", err)
		}
	}
}

func TestSavesOfCallersAreLimitedByTheMinute(t *testing.T) {
	g := guardedWith(t, func(cfg *server.Config) { cfg.Limits.SavesPerMinute = 2 })
	client := g.as(t, g.withToken(t, "operator"))
	for range 2 {
		if _, err := client.Save(t.Context(), &snapshotdv1.SaveRequest{Cluster: "prod"}); err != nil {
			t.Fatal(err)
		}
	}
	before := g.asked.Load()
	_, err := client.Save(t.Context(), &snapshotdv1.SaveRequest{Cluster: "prod"})
	checkError(t, err, codes.ResourceExhausted, snapshot.ReasonLimitReached)
	if g.asked.Load() != before {
		t.Error("the cluster was asked")
	}
}

func TestOldVersionsOfTLSAreForThoseWhoAskForThem(t *testing.T) {
	for allowed, g := range map[bool]*guardedServer{
		false: guardedService(t), true: guardedWith(t, func(cfg *server.Config) { cfg.TLS.AllowTLS12 = true }),
	} {
		for _, addr := range []string{g.GRPCAddr(), g.HTTPAddr()} {
			for _, version := range []uint16{tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13} {
				conn, err := tls.Dial("tcp", addr, &tls.Config{
					RootCAs: g.ca.Pool(), MinVersion: tls.VersionTLS10, MaxVersion: version, NextProtos: []string{"h2"},
				})
				if err == nil {
					_ = conn.Close()
				}
				want := version == tls.VersionTLS13 || version == tls.VersionTLS12 && allowed
				if (err == nil) != want {
					t.Errorf("%s, version %x, when 1.2 is allowed: %v: %v", addr, version, allowed, err)
				}
				if !want {
					wait(t, g.broken, "the count of the handshake")
				}
			}
		}
	}
}
