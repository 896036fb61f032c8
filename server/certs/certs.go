package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/internal/disk"
)

// Files name the files of a certificate. They are read again when they change on disk, for new connections. Files that
// cannot be used are logged, and the earlier certificate stays in use.
type Files struct {
	CertFile     string // PEM; the chain, the server's own first
	KeyFile      string // PEM
	ClientCAFile string // PEM; optional: clients of the API need a certificate of one of these, over gRPC and over HTTP

	ClientCRLFile string // PEM or DER; optional: certificates of clients that were taken back

	AllowTLS12 bool // of the protocol's versions, 1.2 as well as 1.3
}

func (f Files) minVersion() uint16 {
	if f.AllowTLS12 {
		return tls.VersionTLS12
	}
	return tls.VersionTLS13
}

// Enabled reports whether there is a certificate.
func (f Files) Enabled() bool { return f.CertFile != "" }

// Validate returns why the files cannot be used together.
func (f Files) Validate() error {
	if (f.CertFile == "") != (f.KeyFile == "") {
		return errors.New("a TLS certificate and its key are needed together")
	}
	if f.ClientCAFile != "" && !f.Enabled() {
		return errors.New("a CA for client certificates needs a TLS certificate of the server")
	}
	if f.ClientCRLFile != "" && f.ClientCAFile == "" {
		return errors.New("revoked client certificates need a CA for client certificates")
	}
	return nil
}

// Certificates hold the content of the files.
type Certificates struct {
	files Files
	log   *slog.Logger

	mu    sync.Mutex
	stamp string // of the files as they were last read
	cert  tls.Certificate
	pool  *x509.CertPool // nil: clients need no certificate
}

// Open reads the files. It returns nil when TLS is off.
func Open(files Files, log *slog.Logger) (*Certificates, error) {
	if !files.Enabled() {
		return nil, nil
	}
	c := &Certificates{files: files, log: log}
	c.stamp = c.stampOfFiles()
	var err error
	if c.cert, c.pool, err = load(files); err == nil {
		c.warn()
	}
	return c, err
}

// warn logs a certificate that clients refuse because it has expired. It is used anyway: the clock may be wrong.
func (c *Certificates) warn() {
	if leaf := c.cert.Leaf; leaf != nil && time.Now().After(leaf.NotAfter) {
		c.log.Warn("TLS certificate has expired, and clients refuse it; renew it, it is read again by itself",
			"file", c.files.CertFile, "not_after", leaf.NotAfter)
	}
}

func load(files Files) (tls.Certificate, *x509.CertPool, error) {
	cert, err := tls.LoadX509KeyPair(files.CertFile, files.KeyFile)
	if err != nil {
		return cert, nil, fmt.Errorf("read the TLS certificate %q and its key %q: %w", files.CertFile, files.KeyFile, err)
	}
	if files.ClientCAFile == "" {
		return cert, nil, nil
	}
	pem, err := os.ReadFile(files.ClientCAFile)
	if err != nil {
		return cert, nil, fmt.Errorf("read the CA for client certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return cert, nil, fmt.Errorf("read the CA for client certificates %q: it holds no certificate", files.ClientCAFile)
	}
	return cert, pool, nil
}

// current returns the content of the files, as it was when they were last usable.
func (c *Certificates) current() (tls.Certificate, *x509.CertPool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stamp := c.stampOfFiles()
	if stamp == c.stamp {
		return c.cert, c.pool
	}
	c.stamp = stamp
	cert, pool, err := load(c.files)
	if err != nil {
		c.log.Error("TLS certificate has changed and cannot be used; the one before stays", "error", err)
		return c.cert, c.pool
	}
	c.cert, c.pool = cert, pool
	c.log.Info("TLS certificate was read again", "file", c.files.CertFile)
	c.warn()
	return c.cert, c.pool
}

// stampOfFiles returns a text that changes whenever one of the files does.
func (c *Certificates) stampOfFiles() string {
	return disk.Stamp(c.files.CertFile, c.files.KeyFile, c.files.ClientCAFile)
}

// GRPCConfig asks for a client certificate, and refuses clients without one unless they may show something else.
func (c *Certificates) GRPCConfig(needed func() bool) *tls.Config {
	return c.config([]string{"h2"}, func() tls.ClientAuthType {
		if needed() {
			return tls.RequireAndVerifyClientCert
		}
		return tls.VerifyClientCertIfGiven
	})
}

// HTTPConfig makes the client certificate optional: metrics and probes need none, and the API asks for it by itself.
func (c *Certificates) HTTPConfig() *tls.Config {
	return c.config([]string{"h2", "http/1.1"}, func() tls.ClientAuthType { return tls.VerifyClientCertIfGiven })
}

// config returns a configuration that asks for client certificates when there is a CA for them.
func (c *Certificates) config(protocols []string, auth func() tls.ClientAuthType) *tls.Config {
	return &tls.Config{
		MinVersion: c.files.minVersion(),
		NextProtos: protocols,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			cert, pool := c.current()
			cfg := &tls.Config{MinVersion: c.files.minVersion(), NextProtos: protocols, Certificates: []tls.Certificate{cert}}
			if pool != nil {
				cfg.ClientAuth, cfg.ClientCAs = auth(), pool
			}
			return cfg, nil
		},
	}
}

// Roots returns the CAs of client certificates as they are now; nil when there are none.
func (c *Certificates) Roots() *x509.CertPool {
	if c == nil {
		return nil
	}
	_, pool := c.current()
	return pool
}
