package cli_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// certificate writes a self-signed certificate for 127.0.0.1, which is its own CA, and its key.
func certificate(t *testing.T, name string) (certFile, keyFile string, pair tls.Certificate, pool *x509.CertPool) {
	t.Helper()
	return certificateUntil(t, name, time.Now().Add(time.Hour))
}

// certificateUntil writes one that is good until then.
func certificateUntil(
	t *testing.T, name string, end time.Time,
) (certFile, keyFile string, pair tls.Certificate, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: end.Add(-2 * time.Hour), NotAfter: end,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(file, kind string, der []byte) string {
		path := filepath.Join(dir, file)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	certFile, keyFile = write("tls.crt", "CERTIFICATE", der), write("tls.key", "PRIVATE KEY", keyDER)
	if pair, err = tls.LoadX509KeyPair(certFile, keyFile); err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AddCert(cert)
	return certFile, keyFile, pair, pool
}

func TestTLS(t *testing.T) {
	serverCert, _, pair, _ := certificate(t, "server")
	clientCert, clientKey, _, clients := certificate(t, "client")
	otherCert, otherKey, _, _ := certificate(t, "other")
	oldCert, oldKey, _, _ := certificateUntil(t, "old", time.Now().Add(-time.Minute))
	env := serve(t, &fake{list: func(context.Context, *snapshotdv1.ListRequest) (*snapshotdv1.ListResponse, error) {
		return &snapshotdv1.ListResponse{}, nil
	}}, grpc.Creds(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert,
		ClientCAs: clients,
	})))
	for name, tc := range map[string]struct {
		args string
		code int
		want string
	}{
		"with both certificates": {"--cacert " + serverCert + " --cert " + clientCert + " --key " + clientKey, 0, ""},
		"in plaintext":           {"", 1, "it does not speak plaintext gRPC; --tls or --cacert if it serves with TLS"},
		"unknown authority":      {"--tls", 1, "its certificate is of an unknown authority; --cacert names the right one"},
		"no client certificate":  {"--cacert " + serverCert, 1, "asks for a client certificate that it accepts"},
		"expired client": {"--cacert " + serverCert + " --cert " + oldCert + " --key " + oldKey, 1,
			"and the certificate " + oldCert + " has expired, at 20"},
		"wrong client certificate": {"--cacert " + serverCert + " --cert " + otherCert + " --key " + otherKey, 1,
			"asks for a client certificate that it accepts"},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t.Context(), env, append([]string{"list"}, strings.Fields(tc.args)...)...)
			if r.code != tc.code || !strings.Contains(r.stderr, tc.want) {
				t.Errorf("exit code %d, want %d\nstderr: %s\n  want: %s", r.code, tc.code, r.stderr, tc.want)
			}
		})
	}
}

func TestExpiredCertificateOfTheService(t *testing.T) {
	serverCert, _, pair, _ := certificateUntil(t, "server", time.Now().Add(-time.Minute))
	env := serve(t, &fake{}, grpc.Creds(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair},
	})))
	r := run(t.Context(), env, "list", "--cacert", serverCert)
	if r.code != 1 || !strings.Contains(r.stderr, "its certificate has expired or is not yet valid: current time 20") ||
		!strings.HasSuffix(r.stderr, "; renew it there, or set the clock\n") {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
}
