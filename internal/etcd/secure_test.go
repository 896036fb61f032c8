package etcd_test

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/etcd"
	"github.com/snapshotd/snapshotd/internal/etcd/member"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/internal/testenv/check"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	"github.com/snapshotd/snapshotd/internal/testenv/testca"
	"github.com/snapshotd/snapshotd/snapshot"
)

var must = check.OK

// authority is a CA whose certificates are in files.
type authority struct {
	ca   *testca.CA
	dir  string
	file string
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{ca: testca.New(t, name), dir: t.TempDir()}
	a.file, _ = a.ca.Write(t, a.dir, "ca")
	return a
}

// issue writes a certificate for loopback, client and server, under a name, and returns its files.
func (a *authority) issue(t *testing.T, file, commonName string, end time.Time) (cert, key string) {
	t.Helper()
	template := x509.Certificate{Subject: pkix.Name{CommonName: commonName}, NotAfter: end}
	return a.ca.Sign(t, template).Write(t, a.dir, file)
}

// startTLS starts a member that wants client certificates of the CA.
func startTLS(t *testing.T, ca *authority, serverEnd time.Time) *embedded.Etcd {
	t.Helper()
	cert, key := ca.issue(t, "server", "etcd", serverEnd)
	return embedded.StartEtcd(t, func(c *member.Config) {
		c.TLS = &member.TLS{Cert: cert, Key: key, ClientCA: ca.file}
	})
}

// both reads a snapshot and writes a key, and wants both to fail with these texts.
func wantBothToFail(t *testing.T, cfg etcd.Config, parts ...string) {
	t.Helper()
	conn := connect(t, cfg)
	_, err := etcd.NewSource(conn, etcd.SourceConfig{}).Snapshot(t.Context())
	wantUnavailable(t, err, parts...)
	if strings.Contains(err.Error(), "wrong-password") {
		t.Errorf("the error shows the password: %v", err)
	}
	client, err := conn.Client(t.Context())
	if err == nil {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err = client.Put(ctx, "a", "b")
	}
	if err == nil || !strings.Contains(err.Error(), parts[0]) {
		t.Errorf("a put through the client ends with %v, want %q", err, parts[0])
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t, "ca"), newAuthority(t, "other")
	server := startTLS(t, ca, time.Now().Add(time.Hour))
	cert, key := ca.issue(t, "client", "backup", time.Now().Add(time.Hour))
	good := etcd.Config{Endpoints: server.Endpoints(), CACert: ca.file, Cert: cert, Key: key}

	conn := connect(t, good)
	must(t, conn.CheckFiles())
	source := etcd.NewSource(conn, etcd.SourceConfig{})
	mustRead(t, source)
	client, err := conn.Client(t.Context())
	must(t, err)
	_, err = client.Put(t.Context(), "a", "b")
	must(t, err)
	bare := good
	bare.Endpoints = []string{strings.TrimPrefix(server.Endpoints()[0], "https://")} // TLS because there is a CA
	mustRead(t, etcd.NewSource(connect(t, bare), etcd.SourceConfig{}))

	wrongCA := good
	wrongCA.CACert = other.file
	wantBothToFail(t, wrongCA, "certificate signed by unknown authority", other.file)

	systemCA := good
	systemCA.CACert = ""
	wantBothToFail(t, systemCA, "certificate signed by unknown authority", "none of the system's CAs")

	noCert := good
	noCert.Cert, noCert.Key = "", ""
	wantBothToFail(t, noCert, "certificate required", "give a certificate and key")

	foreign := good
	foreign.Cert, foreign.Key = other.issue(t, "client", "backup", time.Now().Add(time.Hour))
	wantBothToFail(t, foreign, "tls: ", "etcd does not trust the client certificate")

	expired := good
	expired.Cert, expired.Key = ca.issue(t, "expired", "backup", time.Now().Add(-time.Hour))
	wantBothToFail(t, expired, "the client certificate "+expired.Cert+" expired at ", "renew the client certificate")

	plain := etcd.Config{Endpoints: []string{strings.Replace(server.Endpoints()[0], "https", "http", 1)}}
	wantBothToFail(t, plain, "error reading server preface", "https://")

	missing := good
	missing.CACert = filepath.Join(t.TempDir(), "none.crt")
	wantBothToFail(t, missing, missing.CACert)
	if err := connect(t, missing).CheckFiles(); err == nil || !strings.Contains(err.Error(), missing.CACert) {
		t.Errorf("the files are checked: %v", err)
	}

	// Files that change are read again: the connection that was made with the good ones now takes the expired one.
	for from, to := range map[string]string{expired.Cert: cert, expired.Key: key} {
		b, err := os.ReadFile(from)
		must(t, err)
		must(t, os.WriteFile(to, b, 0o600))
	}
	_, err = source.Snapshot(t.Context())
	wantUnavailable(t, err, "expired at")
}

func TestExpiredCertificateOfTheMember(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "ca")
	server := startTLS(t, ca, time.Now().Add(-time.Hour))
	cert, key := ca.issue(t, "client", "backup", time.Now().Add(time.Hour))
	wantBothToFail(t, etcd.Config{Endpoints: server.Endpoints(), CACert: ca.file, Cert: cert, Key: key},
		"certificate has expired", "the member's certificate has expired")
}

func TestTLSToAPlainPort(t *testing.T) {
	t.Parallel()
	server := embedded.StartEtcd(t)
	wantBothToFail(t, etcd.Config{Endpoints: []string{strings.Replace(server.Endpoints()[0], "http", "https", 1)}},
		"EOF", "the member speaks plain text there; write http://")
}

// enableAuth makes the users root and reader, both with the password "secret".
func enableAuth(t *testing.T, client *clientv3.Client) {
	t.Helper()
	for _, user := range []string{"root", "reader"} {
		_, err := client.UserAdd(t.Context(), user, "secret")
		must(t, err)
	}
	_, err := client.UserGrantRole(t.Context(), "root", "root")
	must(t, err)
	_, err = client.AuthEnable(t.Context())
	must(t, err)
}

func TestUserAndPassword(t *testing.T) {
	t.Parallel()
	server := embedded.StartEtcd(t)
	// The race detector makes bcrypt slow.
	good := etcd.Config{Endpoints: server.Endpoints(), User: "root", Password: "secret", DialTimeout: time.Minute}
	mustRead(t, etcd.NewSource(connect(t, good), etcd.SourceConfig{})) // etcd's authentication is still off
	enableAuth(t, server.Client(t))

	conn := connect(t, good)
	source := etcd.NewSource(conn, etcd.SourceConfig{})
	mustRead(t, source)
	mustRead(t, source) // with the token of the first time
	client, err := conn.Client(t.Context())
	must(t, err)
	_, err = client.Put(t.Context(), "a", "b")
	must(t, err)

	wrong := good
	wrong.Password = "wrong-password"
	wantBothToFail(t, wrong, "authentication failed", `user "root" or its password is wrong`)
	wrong.User = "nobody"
	wantBothToFail(t, wrong, "authentication failed", `user "nobody" or its password is wrong`)
	wantBothToFail(t, etcd.Config{Endpoints: server.Endpoints()}, "user name is empty", "give a user and password")
	wantBothToFail(t, etcd.Config{Endpoints: server.Endpoints(), User: "reader", Password: "secret"}, "permission denied",
		"role root")

	// A token that etcd does not know any more is replaced.
	_, err = client.UserChangePassword(t.Context(), "root", "secret")
	must(t, err)
	mustRead(t, source)
}

// Without a quorum etcd gives no token: the one that there is must do.
func TestUserAndPasswordWithoutQuorum(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a cluster of processes")
	}
	c := testenv.StartCluster(t, 2)
	leader := c.Leader(t, nil)
	cfg := etcd.Config{Endpoints: c.Endpoints(), User: "root", Password: "secret"}
	enableAuth(t, c.Client(t))
	source := etcd.NewSource(connect(t, cfg), etcd.SourceConfig{})
	mustRead(t, source)
	c.Kill(leader)
	c.Eventually(t, "the last member has lost its leader", func(context.Context) error {
		stream, err := source.Snapshot(t.Context())
		if err != nil {
			return err
		}
		defer func() { _ = stream.Close() }()
		if stream.Member.Endpoint != c.Endpoints()[1-leader] {
			return fmt.Errorf("%s was read", stream.Member.Endpoint)
		}
		verify(t, stream)
		return nil
	})
	_, err := etcd.NewSource(connect(t, cfg), etcd.SourceConfig{}).Snapshot(t.Context())
	wantUnavailable(t, err, `log in as "root"`)
}

// An etcd that was restored does not answer a token of the time before: such a token is replaced after the first call.
func TestATokenThatAnEtcdLeavesWithoutAnAnswerIsReplaced(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a process")
	}
	c := testenv.StartCluster(t, 1)
	before := c.Client(t)
	for range 50 { // entries that the next etcd has not
		_, err := before.Put(t.Context(), "a", "b")
		must(t, err)
	}
	enableAuth(t, before)
	cfg := etcd.Config{Endpoints: c.Endpoints(), User: "root", Password: "secret"}
	conn, other := connect(t, cfg), connect(t, cfg)
	source := etcd.NewSource(conn, etcd.SourceConfig{})
	mustRead(t, source)
	client, err := other.Client(t.Context())
	must(t, err)
	_, err = client.Put(t.Context(), "a", "b")
	must(t, err)

	c.Kill(0)
	must(t, os.RemoveAll(c.DataDir(0)))
	c.Restart(t, 0)
	now := c.Client(t)
	c.Eventually(t, "the new etcd answers", func(ctx context.Context) error {
		_, err := now.Get(ctx, "a")
		return err
	})
	enableAuth(t, now)
	unanswered := 0
	for what, call := range map[string]func(context.Context) error{
		"a snapshot": func(ctx context.Context) error {
			stream, err := source.Snapshot(ctx)
			if err == nil {
				err = stream.Close()
			}
			return err
		},
		"a put": func(ctx context.Context) error {
			_, err := client.Put(ctx, "a", "b")
			return err
		},
	} {
		for try, timeout := range []time.Duration{time.Second, testenv.StartTimeout} { // the first one is in vain
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			err := call(ctx)
			cancel()
			if err == nil {
				break
			}
			if unanswered++; try > 0 {
				t.Errorf("%s fails again: %v", what, err)
			}
		}
	}
	if unanswered == 0 {
		t.Error("all calls were answered: this shows nothing")
	}
}

func TestClientIsMadeWhenEtcdIsThere(t *testing.T) {
	t.Parallel()
	server := embedded.StartEtcd(t)
	enableAuth(t, server.Client(t))
	server.Close(t)
	conn := connect(t, etcd.Config{
		Endpoints: server.Endpoints(), User: "root", Password: "secret", DialTimeout: time.Second,
	})
	_, err := conn.Client(t.Context())
	wantUnavailable(t, err, "connection refused")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(fmt.Errorf("enough"))
	_, err = conn.Client(ctx)
	wantUnavailable(t, err, "enough")

	without := connect(t, etcd.Config{Endpoints: server.Endpoints()})
	if _, err := without.Client(t.Context()); err != nil {
		t.Errorf("without a user nothing has to be there: %v", err)
	}
	must(t, without.Close(t.Context()))
	_, err = without.Client(t.Context())
	if snapshot.ReasonOf(err) != snapshot.ReasonEtcdUnavailable {
		t.Errorf("a closed connection gives %v", err)
	}
}
