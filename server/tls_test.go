package server_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server"
	"github.com/snapshotd/snapshotd/snapshot"
)

// authority signs certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{1},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert: cert, key: key, pem: encode("CERTIFICATE", der)}
}

// issue returns the PEM of a certificate for loopback, and of its key.
func (a *authority) issue(t *testing.T, serial int64) (certPEM, keyPEM []byte) {
	t.Helper()
	return a.issueUntil(t, serial, time.Now().Add(time.Hour))
}

// issueUntil issues a certificate that is good until then.
func (a *authority) issueUntil(t *testing.T, serial int64, end time.Time) (certPEM, keyPEM []byte) {
	t.Helper()
	return a.sign(t, "", serial, end)
}

// issueTo issues a certificate with a common name.
func (a *authority) issueTo(t *testing.T, name string, serial int64) (certPEM, keyPEM []byte) {
	t.Helper()
	return a.sign(t, name, serial, time.Now().Add(time.Hour))
}

// revoke returns a list of revoked certificates.
func (a *authority) revoke(t *testing.T, serials ...int64) []byte {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	for _, s := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return encode("X509 CRL", der)
}

func (a *authority) sign(t *testing.T, name string, serial int64, end time.Time) (certPEM, keyPEM []byte) {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: end.Add(-2 * time.Hour), NotAfter: end,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return encode("CERTIFICATE", der), encode("EC PRIVATE KEY", keyDER)
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// write replaces a file as a program that renews certificates does.
func write(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// tlsFiles writes the files of a server's TLS.
func tlsFiles(t *testing.T, ca *authority) server.TLS {
	t.Helper()
	dir := t.TempDir()
	files := server.TLS{CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key")}
	cert, key := ca.issue(t, 2)
	write(t, files.CertFile, cert)
	write(t, files.KeyFile, key)
	return files
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
		RootCAs: ca.pool(), MinVersion: tls.VersionTLS12,
	}))
	if _, err := r.client(t, creds).Get(t.Context(), &snapshotdv1.GetRequest{Name: "a"}); err != nil {
		t.Errorf("gRPC over TLS: %v", err)
	}
	if _, err := r.client(t).Get(t.Context(), &snapshotdv1.GetRequest{Name: "a"}); status.Code(err) != codes.Unavailable {
		t.Errorf("gRPC in plaintext: %v", err)
	}
	client := &http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.pool(), MinVersion: tls.VersionTLS12}},
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
	write(t, files.ClientCAFile, ca.pem)
	r := run(t, server.Config{TLS: files}, ready())
	call := func(a *authority) error {
		cfg := &tls.Config{RootCAs: ca.pool(), MinVersion: tls.VersionTLS12}
		if a != nil {
			pair, err := tls.X509KeyPair(a.issue(t, 3))
			if err != nil {
				t.Fatal(err)
			}
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
	if got := serial(t, r.GRPCAddr(), ca.pool()); got != 2 {
		t.Fatalf("the certificate at the start has the serial number %d", got)
	}
	cert, key := ca.issue(t, 5)
	write(t, files.CertFile, []byte("half a certificate"))
	if got := serial(t, r.GRPCAddr(), ca.pool()); got != 2 {
		t.Errorf("with a broken file the serial number is %d, want that of the one before", got)
	}
	if len(r.log.with("cannot be used")) != 1 {
		t.Error("the log does not say that the file is broken")
	}
	write(t, files.CertFile, cert)
	write(t, files.KeyFile, key)
	for _, addr := range []string{r.GRPCAddr(), r.HTTPAddr()} {
		if got := serial(t, addr, ca.pool()); got != 5 {
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
	cert, key := ca.issueUntil(t, 5, time.Now().Add(-time.Minute))
	write(t, files.KeyFile, key)
	write(t, files.CertFile, cert)
	if _, err := tls.Dial("tcp", r.GRPCAddr(), &tls.Config{RootCAs: ca.pool(), MinVersion: tls.VersionTLS12}); err == nil {
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
