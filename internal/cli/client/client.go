// Package client is a connection to a service, made from the flags that all commands share.
package client

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/snapshotd/snapshotd/internal/cli/exit"
	"github.com/snapshotd/snapshotd/internal/cli/flagvalue"
	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/loopback"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// maxMessage has room for a page of snapshots with as many labels as they may have.
const maxMessage = 64 << 20

// Options say which service to call, and how. They are the same for all commands.
type Options struct {
	Addr      string
	Cluster   string
	Timeout   time.Duration
	Plaintext bool
	tls       bool
	caCert    string
	cert      string
	key       string
	tokenFile string
	plugin    string
	args      []string
}

// AddFlags defines the flags of the options.
func (o *Options) AddFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.Addr, "addr", config.DefaultListenGRPC,
		"`address` of the service: HOST:PORT, or unix:///path of its socket")
	fs.StringVar(&o.Cluster, "cluster", "", "`name` of the cluster (default the only one there is)")
	flagvalue.Duration(fs, &o.Timeout, "timeout", "give up after this `duration`, such as 5m (default never)")
	fs.BoolVar(&o.tls, "tls", false, "use TLS, also on this machine (default: on others only)")
	fs.BoolVar(&o.Plaintext, "plaintext", false, "use no TLS, also on other machines")
	fs.StringVar(&o.caCert, "cacert", "",
		"`file` with the CA of the service's certificate (default the system's); implies --tls")
	fs.StringVar(&o.cert, "cert", "", "`file` with the client certificate; implies --tls")
	fs.StringVar(&o.key, "key", "", "`file` with the key of --cert")
	fs.StringVar(&o.tokenFile, "token-file", "",
		"`file` with the token to call with, as \"token create\" printed it; needs TLS to other machines")
	fs.StringVar(&o.plugin, "exec-plugin", "",
		"`program` that prints a credential to call with, as the exec plugins of kubectl do; needs TLS to other machines")
	fs.StringArrayVar(&o.args, "exec-arg", nil, "`argument` of --exec-plugin; may be repeated")
}

// Variables are the flags of the options; each of them has a variable.
var Variables = []string{"addr", "cluster", "timeout", "tls", "plaintext", "cacert", "cert", "key", "token-file",
	"exec-plugin"}

// Given returns the flags of a connection that were given, for other commands to reach the same service.
func Given(fs *pflag.FlagSet) (words []string) {
	fs.Visit(func(f *pflag.Flag) {
		switch list, several := f.Value.(pflag.SliceValue); {
		case f.Name == "cluster" || f.Name == "timeout" || f.Name != "exec-arg" && !slices.Contains(Variables, f.Name):
		case several:
			for _, v := range list.GetSlice() {
				words = append(words, "--"+f.Name, v)
			}
		case f.Value.Type() != "bool":
			words = append(words, "--"+f.Name, f.Value.String())
		case f.Value.String() == "true":
			words = append(words, "--"+f.Name)
		}
	})
	return words
}

// Client is a connection to a service.
type Client struct {
	snapshotdv1.SnapshotServiceClient
	snapshotdv1.ClusterServiceClient
	Cluster string
	conn    *grpc.ClientConn
	options *Options
	addr    string
}

// Dial makes a connection for a program of this version. Nothing is sent before the first call.
func Dial(o *Options, version string) (*Client, error) {
	if o.Timeout < 0 {
		return nil, exit.Usagef("--timeout: %v is negative; leave it out to wait without an end", o.Timeout)
	}
	p := &plugin{command: o.plugin, args: o.args}
	addr, creds, err := o.target(p)
	if err != nil {
		return nil, err
	}
	token, err := o.token(addr, creds, p)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(addr,
		grpc.WithTransportCredentials(creds),
		token,
		grpc.WithUserAgent("snapshotd/"+version),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
	)
	if err != nil {
		return nil, exit.Usagef("--addr: %q: %w", o.Addr, err)
	}
	return &Client{
		SnapshotServiceClient: snapshotdv1.NewSnapshotServiceClient(conn),
		ClusterServiceClient:  snapshotdv1.NewClusterServiceClient(conn), Cluster: o.Cluster,
		conn: conn, options: o, addr: addr,
	}, nil
}

// Close closes the connection, after all calls have ended.
func (c *Client) Close() { _ = c.conn.Close() }

// target returns the address with a port, and the credentials: TLS for other machines unless --plaintext forbids it,
// and for this one only on request. A forgotten flag never sends anything in plaintext to another machine.
func (o *Options) target(p *plugin) (string, credentials.TransportCredentials, error) {
	if strings.HasPrefix(o.Addr, "unix://") {
		return o.socket()
	}
	if strings.Contains(o.Addr, "/") {
		return "", nil, exit.Usagef("--addr: %q is neither HOST:PORT nor a socket such as unix:///run/snapshotd.sock", o.Addr)
	}
	addr := o.Addr
	if _, _, err := net.SplitHostPort(addr); err != nil {
		_, port, _ := net.SplitHostPort(config.DefaultListenGRPC)
		addr = net.JoinHostPort(strings.Trim(addr, "[]"), port)
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil || host == "" {
		return "", nil, exit.Usagef("--addr: %q is not HOST:PORT", o.Addr)
	}
	switch {
	case o.wantsTLS() && o.Plaintext:
		return "", nil, exit.Usagef("--plaintext: TLS is asked for, too; leave out one of them")
	case (o.cert == "") != (o.key == ""):
		return "", nil, exit.Usagef("--cert, --key: a certificate and its key are needed together")
	case o.Plaintext || !o.wantsTLS() && loopback.Is(host):
		return addr, insecure.NewCredentials(), nil
	}
	cfg, err := o.tlsConfig()
	if err == nil && o.plugin != "" && o.cert == "" {
		cfg.GetClientCertificate = p.certificate
	}
	return addr, credentials.NewTLS(cfg), err
}

// socket returns the address of a unix socket. It is not left by anybody's network, and needs no TLS.
func (o *Options) socket() (string, credentials.TransportCredentials, error) {
	switch {
	case !strings.HasPrefix(o.Addr, "unix:///") || strings.ContainsAny(o.Addr, "?#%"):
		return "", nil, exit.Usagef("--addr: %q is no socket; write it as unix:///run/snapshotd.sock", o.Addr)
	case o.wantsTLS():
		return "", nil, exit.Usagef("--addr: there is no TLS on a socket; leave out --tls, --cacert, --cert and --key")
	}
	return o.Addr, insecure.NewCredentials(), nil
}

func (o *Options) wantsTLS() bool {
	return o.tls || o.caCert != "" || o.cert != "" || o.key != ""
}

func (o *Options) tlsConfig() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.caCert != "" {
		pem, err := os.ReadFile(o.caCert)
		if err != nil {
			return nil, exit.Usagef("--cacert: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, exit.Usagef("--cacert: %s holds no certificate", o.caCert)
		}
	}
	if o.cert != "" {
		pair, err := tls.LoadX509KeyPair(o.cert, o.key)
		if err != nil {
			return nil, exit.Usagef("--cert, --key: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}
