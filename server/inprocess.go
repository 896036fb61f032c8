package server

import (
	"context"
	"fmt"
	"math"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/test/bufconn"
)

// inProcess is the listener of a gRPC server of its own, for requests that arrive over HTTP. They meet the same
// interceptors, over one connection inside the process that needs neither a certificate nor a port, and that has no
// limit of streams: those of the port are for each of its connections.
type inProcess struct{ *bufconn.Listener }

func newInProcess() inProcess { return inProcess{bufconn.Listen(256 << 10)} }

// Accept implements [net.Listener].
func (l inProcess) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return ownConn{conn}, nil
}

// dial returns a client of the listener. It does no I/O.
func (l inProcess) dial() (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("passthrough:///in-process",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)), // messages of this process have any size
	)
	if err != nil {
		return nil, fmt.Errorf("connect HTTP to gRPC: %w", err)
	}
	return conn, nil
}

// ownConn is a connection that the process made to itself.
type ownConn struct{ net.Conn }

// RemoteAddr implements [net.Conn].
func (ownConn) RemoteAddr() net.Addr { return ownAddr{} }

type ownAddr struct{}

func (ownAddr) Network() string { return "in-process" }
func (ownAddr) String() string  { return "in-process" }

// portCredentials count the handshakes that fail.
type portCredentials struct {
	credentials.TransportCredentials
	failed func()
}

// ServerHandshake implements [credentials.TransportCredentials].
func (c portCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, info, err := c.TransportCredentials.ServerHandshake(conn)
	if err != nil {
		c.failed()
	}
	return secured, info, err
}

// Clone implements [credentials.TransportCredentials].
func (c portCredentials) Clone() credentials.TransportCredentials {
	return portCredentials{c.TransportCredentials.Clone(), c.failed}
}

// httpPeerKey is the metadata with the address of the HTTP client. It is trusted only on the process's own connections.
const httpPeerKey = "snapshotd-http-peer"

// callerOf returns the address of the caller, and the protocol.
func callerOf(ctx context.Context) (addr, via string) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "", ""
	}
	if _, own := p.Addr.(ownAddr); !own {
		return p.Addr.String(), "grpc"
	}
	if v := metadata.ValueFromIncomingContext(ctx, httpPeerKey); len(v) == 1 {
		addr = v[0]
	}
	return addr, "http"
}
