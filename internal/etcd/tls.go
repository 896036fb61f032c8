package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"google.golang.org/grpc/credentials"
)

// files are the certificates on disk. They are read at each handshake, because they can be replaced while the service
// runs.
type files struct{ ca, cert, key string }

func (f files) config() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.ca != "" {
		pem, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, fmt.Errorf("read the CA of etcd's certificates: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read the CA of etcd's certificates: %s holds no PEM certificate", f.ca)
		}
	}
	if f.cert != "" {
		pair, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return nil, fmt.Errorf("read the client certificate for etcd, %s with key %s: %w", f.cert, f.key, err)
		}
		cfg.Certificates = []tls.Certificate{pair}
		// The certificate is sent for any CAs that the member asks for: the member then reports the fault of the certificate,
		// instead of that none was sent.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return cfg, nil
}

// inDate returns an error when the client certificate has expired: the member's own error depends on its version.
func (f files) inDate(cfg *tls.Config) error {
	if len(cfg.Certificates) == 0 {
		return nil
	}
	if end := cfg.Certificates[0].Leaf.NotAfter; time.Now().After(end) {
		return fmt.Errorf("the client certificate %s expired at %s", f.cert, end.UTC().Format(time.RFC3339))
	}
	return nil
}

// transport makes a TLS configuration of the files at each handshake.
type transport struct{ files files }

var _ credentials.TransportCredentials = transport{}

func (t transport) ClientHandshake(
	ctx context.Context, authority string, conn net.Conn,
) (net.Conn, credentials.AuthInfo, error) {
	cfg, err := t.files.config()
	if err == nil {
		err = t.files.inDate(cfg)
	}
	if err != nil {
		return nil, nil, err
	}
	secure, info, err := credentials.NewTLS(cfg).ClientHandshake(ctx, authority, conn)
	if err != nil {
		return nil, nil, err
	}
	return &alerting{secure}, info, nil
}

// alerting is a connection that reports why the member closed it. With TLS 1.3 a member checks the client certificate
// when our handshake is over already: its alert waits to be read while our next write fails with "broken pipe".
type alerting struct{ net.Conn }

// alertTimeout is how long the alert may take after a write has failed.
const alertTimeout = time.Second

func (c *alerting) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil && c.SetReadDeadline(time.Now().Add(alertTimeout)) == nil {
		_, rerr := c.Read(make([]byte, 1))
		if op, ok := errors.AsType[*net.OpError](rerr); ok && op.Op == "remote error" {
			err = rerr
		}
	}
	return n, err
}

func (t transport) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("etcd: these credentials are a client's")
}

func (t transport) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

func (t transport) Clone() credentials.TransportCredentials { return t }

func (t transport) OverrideServerName(string) error { return nil }
