package server_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/snapshotd/snapshotd/internal/testenv/testca"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server"
	"github.com/snapshotd/snapshotd/snapshot"
)

func newAuthority(t *testing.T) *testca.CA {
	t.Helper()
	return testca.New(t, "test CA")
}

// issue signs a certificate for loopback, of a server or a client.
func issue(t *testing.T, ca *testca.CA, name string, serial int64) testca.Pair {
	t.Helper()
	return ca.Sign(t, x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}})
}

// revoked returns a list of revoked certificates.
func revoked(t *testing.T, ca *testca.CA, serials ...int64) []byte {
	t.Helper()
	return testca.PEM("X509 CRL", ca.Revoke(t, serials...))
}

// write replaces a file as a program that renews certificates does.
func write(t *testing.T, file string, data []byte) {
	t.Helper()
	testca.Replace(t, file, data)
}

// tlsFiles writes the files of a server's TLS.
func tlsFiles(t *testing.T, ca *testca.CA) server.TLS {
	t.Helper()
	cert, key := issue(t, ca, "", 2).Write(t, t.TempDir(), "tls")
	return server.TLS{CertFile: cert, KeyFile: key}
}

// serial returns the serial number of the certificate that the port shows.
func serial(t *testing.T, addr string, pool *x509.CertPool) int64 {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{
		RootCAs: pool, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

func ready() *fakeCluster {
	return &fakeCluster{
		name: "prod", get: func(context.Context, string) (*snapshot.Record, error) { return &snapshot.Record{}, nil },
	}
}

func TestBothPortsSpeakTLS(t *testing.T) {
	ca := newAuthority(t)
	r := run(t, server.Config{TLS: tlsFiles(t, ca)}, ready())
	creds := grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12,
	}))
	if _, err := r.client(t, creds).Get(t.Context(), &snapshotdv1.GetRequest{Name: "a"}); err != nil {
		t.Errorf("gRPC over TLS: %v", err)
	}
	if _, err := r.client(t).Get(t.Context(), &snapshotdv1.GetRequest{Name: "a"}); status.Code(err) != codes.Unavailable {
		t.Errorf("gRPC in plaintext: %v", err)
	}
	client := &http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12}},
	}
	defer client.CloseIdleConnections()
	resp, err := client.Get("https://" + r.HTTPAddr() + "/healthz")
	if err != nil {
		t.Fatalf("HTTP over TLS: %v", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "ok\n" {
		t.Errorf("/healthz is %q, %v", body, err)
	}
}

func TestClientsNeedACertificateOfTheCA(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	files := tlsFiles(t, ca)
	files.ClientCAFile = filepath.Join(t.TempDir(), "ca.crt")
	write(t, files.ClientCAFile, ca.CertPEM())
	r := run(t, server.Config{TLS: files}, ready())
	call := func(a *testca.CA) error {
		cfg := &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12}
		if a != nil {
			pair := issue(t, a, "", 3).TLS()
			cfg.Certificates = []tls.Certificate{pair}
		}
		_, err := r.client(t, grpc.WithTransportCredentials(credentials.NewTLS(cfg))).Get(t.Context(),
			&snapshotdv1.GetRequest{Name: "a"})
		return err
	}
	if err := call(ca); err != nil {
		t.Errorf("with a certificate of the CA: %v", err)
	}
	if err := call(stranger); status.Code(err) != codes.Unavailable {
		t.Errorf("with a certificate of another CA: %v", err)
	}
	if err := call(nil); status.Code(err) != codes.Unavailable {
		t.Errorf("without a certificate: %v", err)
	}
}

func TestACertificateIsReadAgainWhenItChanges(t *testing.T) {
	ca := newAuthority(t)
	files := tlsFiles(t, ca)
	r := run(t, server.Config{TLS: files}, ready())
	if got := serial(t, r.GRPCAddr(), ca.Pool()); got != 2 {
		t.Fatalf("the certificate at the start has the serial number %d", got)
	}
	next := issue(t, ca, "", 5)
	write(t, files.CertFile, []byte("half a certificate"))
	if got := serial(t, r.GRPCAddr(), ca.Pool()); got != 2 {
		t.Errorf("with a broken file the serial number is %d, want that of the one before", got)
	}
	if len(r.log.with("cannot be used")) != 1 {
		t.Error("the log does not say that the file is broken")
	}
	write(t, files.CertFile, next.CertPEM())
	write(t, files.KeyFile, next.KeyPEM(t))
	for _, addr := range []string{r.GRPCAddr(), r.HTTPAddr()} {
		if got := serial(t, addr, ca.Pool()); got != 5 {
			t.Errorf("the serial number is %d after the change", got)
		}
	}
}

func TestACertificateThatHasExpiredIsTold(t *testing.T) {
	ca := newAuthority(t)
	files := tlsFiles(t, ca)
	r := run(t, server.Config{TLS: files}, ready())
	if len(r.log.with("has expired")) != 0 {
		t.Error("the log says of a good certificate that it has expired")
	}
	old := ca.Sign(t, x509.Certificate{NotAfter: time.Now().Add(-time.Minute)})
	write(t, files.KeyFile, old.KeyPEM(t))
	write(t, files.CertFile, old.CertPEM())
	if _, err := tls.Dial("tcp", r.GRPCAddr(), &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12}); err == nil {
		t.Error("a client has taken the certificate")
	}
	if len(r.log.with("has expired")) != 1 {
		t.Error("the log does not say that the certificate has expired")
	}
	if again := run(t, server.Config{TLS: files}, ready()); len(again.log.with("has expired")) != 1 {
		t.Error("the log does not say at the start that the certificate has expired")
	}
}

func TestACertificateThatCannotBeReadIsAnErrorAtOnce(t *testing.T) {
	files := tlsFiles(t, newAuthority(t))
	noCA := files
	noCA.ClientCAFile = files.KeyFile // PEM, but no certificate
	gone := files
	gone.KeyFile += ".gone"
	for _, files := range []server.TLS{noCA, gone} {
		s, err := server.New(server.Config{
			Clusters: served(ready()), Events: new(server.Events), TLS: files, GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0",
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Open(t.Context()); err == nil {
			t.Errorf("Open took %+v", files)
		}
	}
}
