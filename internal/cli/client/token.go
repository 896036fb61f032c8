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

// token returns the option by which each call carries the token of --token-file. It is not sent to another machine in
// plaintext, whatever the flags: who reads it once has it.
func (o *Options) token(addr string, creds credentials.TransportCredentials) (grpc.DialOption, error) {
	if o.tokenFile == "" {
		return grpc.EmptyDialOption{}, nil
	}
	secure := creds.Info().SecurityProtocol == "tls"
	if !secure && !loopback.Is(addr) {
		return nil, exit.Usagef("--token-file: the token would be readable on the network; use TLS, and leave out --plaintext")
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
