package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/loopback"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// maxMessage has room for a page of snapshots with as many labels as they may have.
const maxMessage = 64 << 20

// clientOptions say which service to call, and how. They are the same for all verbs.
type clientOptions struct {
	addr      string
	cluster   string
	timeout   time.Duration
	tls       bool
	plaintext bool
	caCert    string
	cert      string
	key       string
}

func (o *clientOptions) addFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.addr, "addr", config.DefaultListenGRPC, "`address` of the service")
	fs.StringVar(&o.cluster, "cluster", "", "`name` of the cluster (default the only one there is)")
	fs.DurationVar(&o.timeout, "timeout", 0, "give up after this `duration`, such as 5m (default never)")
	fs.BoolVar(&o.tls, "tls", false, "use TLS, also on this machine (default: on others only)")
	fs.BoolVar(&o.plaintext, "plaintext", false, "use no TLS, also on other machines")
	fs.StringVar(&o.caCert, "cacert", "",
		"`file` with the CA of the service's certificate (default the system's); implies --tls")
	fs.StringVar(&o.cert, "cert", "", "`file` with the client certificate; implies --tls")
	fs.StringVar(&o.key, "key", "", "`file` with the key of --cert")
}

// clientVariables are the flags that have a variable in all verbs.
var clientVariables = []string{"addr", "cluster", "timeout", "tls", "plaintext", "cacert", "cert", "key"}

func variableOf(flag string) string {
	return "SNAPSHOTD_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// client is a connection to a service.
type client struct {
	snapshotdv1.SnapshotServiceClient
	conn    *grpc.ClientConn
	cluster string
	addr    string
}

// withClient fills in the options from the environment, connects, and runs a verb with the connection.
func withClient(
	sys System, cmd *cobra.Command, o *clientOptions, run func(ctx context.Context, c *client) error,
) error {
	err := fromEnvironment(cmd.Flags(), sys.Getenv, append([]string{"output"}, clientVariables...)...)
	if err != nil {
		return err
	}
	c, err := dial(o)
	if err != nil {
		return err
	}
	defer func() { _ = c.conn.Close() }() // all calls have ended
	ctx := cmd.Context()
	if o.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.timeout)
		defer cancel()
	}
	return c.explain(run(ctx, c), o)
}

// dial makes a connection. Nothing is sent before the first call.
func dial(o *clientOptions) (*client, error) {
	addr, creds, err := o.target()
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(addr,
		grpc.WithTransportCredentials(creds),
		grpc.WithUserAgent("snapshotd/"+Version().Version),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
	)
	if err != nil {
		return nil, usagef("--addr: %q: %w", o.addr, err)
	}
	return &client{
		SnapshotServiceClient: snapshotdv1.NewSnapshotServiceClient(conn), conn: conn, cluster: o.cluster, addr: addr,
	}, nil
}

// target returns the address with a port, and the credentials: TLS for other machines unless --plaintext forbids it,
// and for this one only on request. A forgotten flag never sends anything in plaintext to another machine.
func (o *clientOptions) target() (string, credentials.TransportCredentials, error) {
	if strings.Contains(o.addr, "/") {
		return "", nil, usagef("--addr: %q is not HOST:PORT", o.addr)
	}
	addr := o.addr
	if _, _, err := net.SplitHostPort(addr); err != nil {
		_, port, _ := net.SplitHostPort(config.DefaultListenGRPC)
		addr = net.JoinHostPort(strings.Trim(addr, "[]"), port)
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil || host == "" {
		return "", nil, usagef("--addr: %q is not HOST:PORT", o.addr)
	}
	switch {
	case o.wantsTLS() && o.plaintext:
		return "", nil, usagef("--plaintext: TLS is asked for, too; leave out one of them")
	case (o.cert == "") != (o.key == ""):
		return "", nil, usagef("--cert, --key: a certificate and its key are needed together")
	case o.plaintext || !o.wantsTLS() && loopback.Is(host):
		return addr, insecure.NewCredentials(), nil
	}
	cfg, err := o.tlsConfig()
	return addr, credentials.NewTLS(cfg), err
}

func (o *clientOptions) wantsTLS() bool {
	return o.tls || o.caCert != "" || o.cert != "" || o.key != ""
}

func (o *clientOptions) tlsConfig() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.caCert != "" {
		pem, err := os.ReadFile(o.caCert)
		if err != nil {
			return nil, usagef("--cacert: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, usagef("--cacert: %s holds no certificate", o.caCert)
		}
	}
	if o.cert != "" {
		pair, err := tls.LoadX509KeyPair(o.cert, o.key)
		if err != nil {
			return nil, usagef("--cert, --key: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// explain returns the cause of an error of the connection; errors of the service are returned as they are.
func (c *client) explain(err error, o *clientOptions) error {
	st, ok := status.FromError(err)
	switch {
	case err == nil || !ok:
		return err
	case st.Code() == codes.DeadlineExceeded: // seen first by either side
		return fmt.Errorf("the service at %s did not answer within %v (--timeout)", c.addr, o.timeout)
	case wire.DetailsOf(err).Reason != "":
		return err
	}
	switch st.Code() {
	case codes.Unavailable:
		return fmt.Errorf("reach the service at %s: %s", c.addr, cause(st.Message(), o))
	case codes.Unimplemented:
		return fmt.Errorf("the server at %s is no snapshotd, or an older one: %s", c.addr, st.Message())
	default:
		return err
	}
}

// expired returns an error text when our own certificate has expired; the service reports that in many ways, or not at
// all.
func (o *clientOptions) expired() string {
	pair, err := tls.LoadX509KeyPair(o.cert, o.key)
	if err != nil || pair.Leaf == nil || time.Now().Before(pair.Leaf.NotAfter) {
		return ""
	}
	return fmt.Sprintf("it closes the connection, and the certificate %s has expired, at %s; renew it",
		o.cert, pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
}

var transportReport = regexp.MustCompile(`desc = "(?:transport: )?(.*?)"$`)

// cause turns gRPC's report of a connection into a cause and a way to solve it.
func cause(report string, o *clientOptions) string {
	has := func(s string) bool { return strings.Contains(report, s) }
	switch {
	case has("connection refused"):
		return `connection refused; is "snapshotd serve" running there? (--addr sets another address)`
	case has("error reading from server"):
		return "the connection broke off before the answer; the request may have been carried out (list shows it)"
	case has("produced zero addresses"), has("no such host"):
		return "there is no such host (--addr)"
	case has("first record does not look like a TLS handshake"):
		return "it speaks no TLS; --plaintext if the network is to be trusted"
	case has("certificate signed by unknown authority"):
		return "its certificate is of an unknown authority; --cacert names the right one"
	case has("certificate has expired or is not yet valid"):
		_, when, _ := strings.Cut(report, "not yet valid: ")
		return "its certificate has expired or is not yet valid: " + strings.TrimSuffix(when, `"`) +
			"; renew it there, or set the clock"
	case o.wantsTLS() && o.expired() != "":
		return o.expired()
	case has("certificate required"), has("bad certificate"):
		return "it asks for a client certificate that it accepts; --cert and --key give one"
	case has("error reading server preface") && !o.wantsTLS():
		return "it does not speak plaintext gRPC; --tls or --cacert if it serves with TLS"
	}
	if m := transportReport.FindStringSubmatch(report); m != nil {
		report = m[1]
	}
	if o.wantsTLS() && (has("broken pipe") || has("connection reset") || has("EOF")) {
		// With TLS 1.3 the service checks our certificate when we send already.
		report += "; perhaps it asks for a client certificate that it accepts, --cert and --key give one"
	}
	return report
}

// errNoResult is an answer without a snapshot.
var errNoResult = errors.New("the service answered without a snapshot")
