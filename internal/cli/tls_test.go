package cli_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/snapshotd/snapshotd/internal/testenv/testca"
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
	p := testca.SelfSigned(t, x509.Certificate{Subject: pkix.Name{CommonName: name}, NotAfter: end})
	certFile, keyFile = p.Write(t, t.TempDir(), "tls")
	return certFile, keyFile, p.TLS(), p.Pool()
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
