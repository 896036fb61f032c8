package client

import (
	"context"
	"fmt"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/snapshotd/snapshotd/internal/cli/exit"
	"github.com/snapshotd/snapshotd/internal/loopback"
)

// maxToken is far above the size of a token, also of one of another issuer.
const maxToken = 16 << 10

// token returns the option by which each call carries the token of --token-file or of the plugin. It is not sent to
// another machine in plaintext, whatever the flags: who reads it once has it.
func (o *Options) token(addr string, creds credentials.TransportCredentials, p *plugin) (grpc.DialOption, error) {
	flag := "--token-file"
	switch {
	case o.tokenFile != "" && o.plugin != "":
		return nil, exit.Usagef("--exec-plugin: there is --token-file, too; leave out one of them")
	case o.plugin == "" && len(o.args) > 0:
		return nil, exit.Usagef("--exec-arg: it is an argument of --exec-plugin, which is missing")
	case o.tokenFile == "" && o.plugin == "":
		return grpc.EmptyDialOption{}, nil
	case o.plugin != "":
		flag = "--exec-plugin"
	}
	secure := creds.Info().SecurityProtocol == "tls"
	if !secure && !loopback.Is(addr) {
		return nil, exit.Usagef("%s: the token would be readable on the network; use TLS, and leave out --plaintext", flag)
	}
	if o.plugin != "" {
		p.secure = secure
		return grpc.WithPerRPCCredentials(p), nil
	}
	t := &fileToken{file: o.tokenFile, secure: secure}
	if _, err := t.read(); err != nil {
		return nil, exit.Usagef("--token-file: %w", err)
	}
	return grpc.WithPerRPCCredentials(t), nil
}

// fileToken is a token that is read for each call: a long watch or its resumption may need a newer one.
type fileToken struct {
	file   string
	secure bool
}

var _ credentials.PerRPCCredentials = (*fileToken)(nil)

func (t *fileToken) read() (string, error) {
	info, err := os.Stat(t.file)
	if err != nil {
		return "", err
	}
	if info.Size() > maxToken {
		return "", fmt.Errorf("%s has %d bytes, and is no token", t.file, info.Size())
	}
	b, err := os.ReadFile(t.file)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(b))
	if token == "" || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("%s must hold one token, and nothing else", t.file)
	}
	return token, nil
}

// GetRequestMetadata implements [credentials.PerRPCCredentials].
func (t *fileToken) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, err := t.read()
	if err != nil {
		return nil, fmt.Errorf("read the token (--token-file): %w", err)
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

// RequireTransportSecurity implements [credentials.PerRPCCredentials].
func (t *fileToken) RequireTransportSecurity() bool { return t.secure }
