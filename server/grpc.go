package server

import (
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc/filters"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server/certs"
	"github.com/snapshotd/snapshotd/server/rest"
	"github.com/snapshotd/snapshotd/server/socket"
)

const (
	// maxHeaders is far above the headers that a client has reason to send.
	maxHeaders = 64 << 10
	// minPing is how often a client may ping: an idle connection through a load balancer needs it.
	minPing = 5 * time.Second
	// deadAfter is after how long a silent client is asked whether it is still there: its resources are held until then.
	deadAfter = time.Minute
)

// newGRPC returns a gRPC server with the services. Options are those of its connections.
func (s *Server) newGRPC(options ...grpc.ServerOption) *grpc.Server {
	// A watch is no run, and lasts as long as its client; the state of the clusters is asked for every few seconds.
	traced := filters.None(filters.HealthCheck(), filters.ServicePrefix("grpc.reflection."), filters.MethodName("Watch"),
		filters.ServiceName(snapshotdv1.ClusterService_ServiceDesc.ServiceName))
	opts := []grpc.ServerOption{
		grpc.StatsHandler(otelgrpc.NewServerHandler(otelgrpc.WithFilter(traced))),
		grpc.UnaryInterceptor(s.interceptCall),
		grpc.StreamInterceptor(s.interceptStream),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: deadAfter}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
		grpc.MaxRecvMsgSize(rest.MaxRequest),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.WaitForHandlers(true),
	}
	g := grpc.NewServer(append(opts, options...)...)
	api := &service{
		fleet: &s.fleet, events: s.cfg.Events, stall: s.cfg.StallTimeout, calls: s.under, downloads: s.downloads,
	}
	snapshotdv1.RegisterSnapshotServiceServer(g, api)
	snapshotdv1.RegisterClusterServiceServer(g, &clusterService{server: s, api: api})
	healthpb.RegisterHealthServer(g, s.health)
	reflection.Register(g)
	return g
}

// portOptions are the options of connections to the port.
func (s *Server) portOptions(own *certs.Certificates) []grpc.ServerOption {
	opts := []grpc.ServerOption{
		grpc.ConnectionTimeout(s.cfg.Limits.HandshakeTimeout),
		grpc.MaxConcurrentStreams(uint32(s.cfg.Limits.StreamsPerConnection)),
	}
	if own != nil && !socket.Is(s.cfg.GRPCAddr) { // the kernel keeps others out of a socket
		opts = append(opts, grpc.Creds(portCredentials{
			credentials.NewTLS(own.GRPCConfig(s.auth.NeedsCertificate)), s.handshakeFailed,
		}))
	}
	return opts
}
