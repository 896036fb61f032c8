//go:build e2e

package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/internal/testenv/testca"
)

// authority is a CA whose certificates are in files.
type authority struct {
	ca  *testca.CA
	dir string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{ca: testca.New(t, "ca"), dir: t.TempDir()}
	a.ca.Write(t, a.dir, "ca")
	return a
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// issue writes a certificate and its key, in place of those under the same name, and returns them.
func (a *authority) issue(t *testing.T, name string, end time.Time) testca.Pair {
	t.Helper()
	pair := a.ca.Sign(t, x509.Certificate{Subject: pkix.Name{CommonName: name}, NotAfter: end})
	pair.Write(t, a.dir, name)
	return pair
}

// tlsFront passes connections on to a server without TLS, from clients that have a certificate.
type tlsFront struct {
	addr      string
	authority *authority
}

func startTLS(t *testing.T, target string) *tlsFront {
	t.Helper()
	a := newAuthority(t)
	pair := a.issue(t, "server", time.Now().Add(time.Hour))
	a.issue(t, "client", time.Now().Add(24*time.Hour))
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{pair.TLS()}, ClientCAs: a.ca.Pool(), ClientAuth: tls.RequireAndVerifyClientCert,
		NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12,
	})
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	keep := func(c net.Conn) {
		mu.Lock()
		defer mu.Unlock()
		open = append(open, c)
	}
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", target)
			if err != nil {
				_ = conn.Close()
				continue
			}
			keep(conn)
			keep(to)
			for _, way := range [][2]net.Conn{{conn, to}, {to, conn}} {
				running.Go(func() {
					_, _ = io.Copy(way[0], way[1])
					_ = way[0].Close()
					_ = way[1].Close()
				})
			}
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return &tlsFront{addr: l.Addr().String(), authority: a}
}
