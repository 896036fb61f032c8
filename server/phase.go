package server

import (
	"sync/atomic"

	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// phase is the state of a server in its life.
type phase struct{ v atomic.Int32 }

const (
	phaseStarting int32 = iota
	phaseServing
	phaseStopping
)

func (p *phase) set(v int32)   { p.v.Store(v) }
func (p *phase) serving() bool { return p.v.Load() == phaseServing }

// String returns the phase as /readyz shows it.
func (p *phase) String() string { return [...]string{"starting", "serving", "stopping"}[p.v.Load()] }

// newHealth returns the health service. The library's begins as SERVING, which is not true before Run.
func newHealth() *health.Server {
	h := health.NewServer()
	setHealth(h, healthpb.HealthCheckResponse_NOT_SERVING)
	return h
}

func setHealth(h *health.Server, status healthpb.HealthCheckResponse_ServingStatus) {
	h.SetServingStatus("", status)
	h.SetServingStatus(snapshotdv1.SnapshotService_ServiceDesc.ServiceName, status)
	h.SetServingStatus(snapshotdv1.ClusterService_ServiceDesc.ServiceName, status)
}
