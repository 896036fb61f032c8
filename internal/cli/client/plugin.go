package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
)

// execInfo is what a plugin is told, in the variable KUBERNETES_EXEC_INFO as kubectl tells its own: the same plugins
// serve both.
const execInfo = `{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","spec":{"interactive":%v}}`

// early is how long before its end a credential is asked for anew: it must be good until the call has arrived.
const early = 10 * time.Second

// maxCredential is far above the size of what a plugin prints.
const maxCredential = 1 << 20

// plugin is a program that prints a credential: a token, a client certificate, or both.
type plugin struct {
	command string
	args    []string
	secure  bool

	mu    sync.Mutex
	known *credential
}

var _ credentials.PerRPCCredentials = (*plugin)(nil)

// credential is what a plugin prints, as far as it matters here.
type credential struct {
	Kind   string `json:"kind"`
	Status struct {
		Expires     time.Time `json:"expirationTimestamp"`
		Token       string    `json:"token"`
		Certificate string    `json:"clientCertificateData"` // PEM, the chain
		Key         string    `json:"clientKeyData"`         // PEM
	} `json:"status"`
}

// get returns the credential, and runs the program when there is none that is still good.
func (p *plugin) get(ctx context.Context) (*credential, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.known; c != nil && (c.Status.Expires.IsZero() || time.Until(c.Status.Expires) > early) {
		return c, nil
	}
	cmd := exec.CommandContext(ctx, p.command, p.args...)
	info, err := os.Stdin.Stat()
	interactive := err == nil && info.Mode()&os.ModeCharDevice != 0
	cmd.Env = append(os.Environ(), "KUBERNETES_EXEC_INFO="+fmt.Sprintf(execInfo, interactive))
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, &limited{&out}, os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("run %s for a credential: %w (--exec-plugin)", p.command, err)
	}
	var c credential
	// What it has printed is a secret, and so an error does not show it.
	if err := json.Unmarshal(out.Bytes(), &c); err != nil || c.Kind != "ExecCredential" {
		return nil, fmt.Errorf("%s has printed no ExecCredential in JSON (--exec-plugin)", p.command)
	}
	switch s := c.Status; {
	case s.Token == "" && s.Certificate == "":
		return nil, fmt.Errorf("%s has printed neither a token nor a certificate (--exec-plugin)", p.command)
	case (s.Certificate == "") != (s.Key == ""):
		return nil, fmt.Errorf("%s has printed a certificate without its key, or a key without its certificate "+
			"(--exec-plugin)",
			p.command)
	case strings.ContainsAny(s.Token, " \t\r\n"):
		return nil, fmt.Errorf("%s has printed a token with a space or a line end in it (--exec-plugin)", p.command)
	}
	p.known = &c
	return p.known, nil
}

// limited keeps as much of a plugin's output as a credential can have. Its buffer is a field with a name: io.Copy would
// call the buffer's own ReadFrom, past the limit.
type limited struct{ kept *bytes.Buffer }

// Write implements [io.Writer].
func (l *limited) Write(b []byte) (int, error) {
	if l.kept.Len()+len(b) > maxCredential {
		return 0, fmt.Errorf("it prints more than %d bytes", maxCredential)
	}
	return l.kept.Write(b)
}

// GetRequestMetadata implements [credentials.PerRPCCredentials].
func (p *plugin) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	c, err := p.get(ctx)
	if err != nil || c.Status.Token == "" {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + c.Status.Token}, nil
}

// RequireTransportSecurity implements [credentials.PerRPCCredentials].
func (p *plugin) RequireTransportSecurity() bool { return p.secure }

// certificate returns the client certificate for a connection; an empty one when the plugin gives none.
func (p *plugin) certificate(req *tls.CertificateRequestInfo) (*tls.Certificate, error) {
	c, err := p.get(req.Context())
	if err != nil || c.Status.Certificate == "" {
		return &tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair([]byte(c.Status.Certificate), []byte(c.Status.Key))
	if err != nil {
		return nil, fmt.Errorf("the certificate that %s has printed: %w (--exec-plugin)", p.command, err)
	}
	return &pair, nil
}
