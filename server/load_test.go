package server_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server/auth"
)

// crowd are callers who do not stop calling.
type crowd struct {
	*guardedServer
	t     *testing.T
	wg    sync.WaitGroup
	calls atomic.Int64
	made  chan struct{} // has one for each call that ends while somebody waits for one

	mu     sync.Mutex
	failed []string
}

func (c *crowd) wrong(who person, what string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.failed) < 20 {
		c.failed = append(c.failed, fmt.Sprintf("%s by %s: %v", what, who.name, err))
	}
}

// repeat makes a call again and again until the end, and notes each one that fails.
func (c *crowd) repeat(ctx context.Context, who person, what string, call func(context.Context) error) {
	c.wg.Go(func() {
		for ctx.Err() == nil {
			if err := call(ctx); err != nil && ctx.Err() == nil {
				c.wrong(who, what, err)
			}
			c.calls.Add(1)
			select {
			case c.made <- struct{}{}:
			default: // nobody waits for one
			}
		}
	})
}

// callAll lets somebody call over a connection that stays, over new ones, and over HTTP.
func (c *crowd) callAll(ctx context.Context, who person) {
	old := c.as(c.t, who)
	list := func(client snapshotdv1.SnapshotServiceClient) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := client.List(ctx, &snapshotdv1.ListRequest{})
			return err
		}
	}
	if who.cookies == nil { // gRPC knows no cookies
		c.repeat(ctx, who, "a call", list(old))
		c.repeat(ctx, who, "a call over a new connection", func(ctx context.Context) error {
			conn, err := grpc.NewClient(c.GRPCAddr(), c.options(who)...)
			if err != nil {
				return err
			}
			return errorOr(list(snapshotdv1.NewSnapshotServiceClient(conn))(ctx), conn.Close())
		})
	}
	tr := &http.Transport{TLSClientConfig: c.tls(who), ForceAttemptHTTP2: true}
	c.t.Cleanup(tr.CloseIdleConnections)
	c.repeat(ctx, who, "a request over HTTP", func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+c.HTTPAddr()+"/v1/snapshots", http.NoBody)
		if err != nil {
			return err
		}
		if who.token != "" {
			req.Header.Set("Authorization", "Bearer "+who.token)
		}
		for _, cookie := range who.cookies {
			req.AddCookie(cookie)
		}
		resp, err := (&http.Client{Transport: tr}).Do(req)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(resp.Body)
		if resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s %s", resp.Status, body)
		}
		return errorOr(err, resp.Body.Close())
	})
}

func errorOr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// TestNothingIsDroppedWhileFilesChange: certificates, CAs, revocations, tokens and rules are replaced again and again
// while people call without a pause and hold streams open. Nobody who is still allowed notices. Those who are not any
// more are refused from then on, and their streams end.
func TestNothingIsDroppedWhileFilesChange(t *testing.T) {
	t.Parallel()
	g := guardedService(t, quiet(&guardedServer{}, "prod", hiddenName)...)
	ctx, cancel := context.WithCancel(t.Context())
	c := &crowd{guardedServer: g, t: t, made: make(chan struct{})}
	stay := []person{
		g.withCertificate(t, "viewer", 500), g.withToken(t, "viewer"), g.withIdentity(t, "viewer"), g.withSession(t,
			"viewer"),
		g.withCertificate(t, "operator", 501), g.withToken(t, "operator"),
	}
	leave := []person{g.withCertificate(t, "viewer", 600), g.withToken(t, "admin")}
	var kept, ended []grpc.ServerStreamingClient[snapshotdv1.WatchResponse]
	for range 40 {
		for _, who := range stay {
			if who.cookies == nil {
				kept = append(kept, watch(t, g.as(t, who), &snapshotdv1.WatchRequest{}))
			}
		}
	}
	for range 20 {
		for _, who := range leave {
			ended = append(ended, watch(t, g.as(t, who), &snapshotdv1.WatchRequest{}))
		}
	}
	for _, who := range stay {
		c.callAll(ctx, who)
	}
	for round := range int64(25) {
		g.changeFiles(t, round)
		for range 12 { // they see each state
			wait(t, c.made, "a call")
		}
	}
	write(t, g.crl, revoked(t, g.ca, 600))
	g.changeTokens(t, func(all []auth.Token) []auth.Token {
		return slices.DeleteFunc(all, func(tok auth.Token) bool { return tok.Name == "admin" })
	})
	for _, stream := range ended {
		if _, err := stream.Recv(); status.Code(err) != codes.Unauthenticated {
			t.Errorf("a stream of somebody who was shut out ends with %v", err)
		}
	}
	for _, who := range leave {
		if _, err := g.as(t, who).List(t.Context(), &snapshotdv1.ListRequest{}); status.Code(err) != codes.Unauthenticated {
			t.Errorf("%s, who was shut out: %v", who.name, err)
		}
	}
	g.events.Observe(t.Context(), started("prod", "a"))
	for _, stream := range kept {
		if ev, err := stream.Recv(); err != nil || ev.GetName() != "a" {
			t.Errorf("a stream that stays has %v, %v", ev, err)
		}
	}
	cancel()
	c.wg.Wait()
	for _, what := range c.failed {
		t.Error(what)
	}
	t.Logf("%d calls, %d streams that stayed, %d that ended", c.calls.Load(), len(kept), len(ended))
}

// changeFiles replaces everything that can be replaced, with other content that allows the same people the same.
func (g *guardedServer) changeFiles(t *testing.T, round int64) {
	t.Helper()
	pair := issue(t, g.ca, "", 1000+round)
	write(t, g.files.CertFile, pair.CertPEM()) // for a moment the two do not belong together
	write(t, g.files.KeyFile, pair.KeyPEM(t))
	cas := g.ca.CertPEM()
	if round%2 == 0 {
		cas = append(slices.Clone(newAuthority(t).CertPEM()), cas...)
	}
	write(t, g.files.ClientCAFile, cas)
	write(t, g.crl, revoked(t, g.ca, 10000+round))
	g.withToken(t, fmt.Sprintf("guest-%d", round))
	access := *g.access
	access.Rules = append(slices.Clone(access.Rules), auth.Rule{
		Role: auth.Viewer, Clusters: []string{"prod"}, Tokens: []string{fmt.Sprintf("guest-%d", round)},
	})
	if err := g.SetAccess(&access); err != nil {
		t.Error(err)
	}
	if round%10 == 3 { // something that cannot be used changes nothing
		write(t, g.crl, []byte("rubbish"))
		write(t, g.files.CertFile, []byte("rubbish"))
	}
}
