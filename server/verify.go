package server

import (
	"cmp"
	"time"

	"google.golang.org/grpc"

	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// progressInterval is how often progress is told.
const progressInterval = 200 * time.Millisecond

// Verify implements the RPC.
func (s *service) Verify(req *snapshotdv1.VerifyRequest, stream grpc.ServerStreamingServer[snapshotdv1.VerifyResponse]) error {
	c, err := s.cluster(req.GetCluster())
	if err != nil {
		return err
	}
	var told time.Time
	progress := func(backend string, done, total int64) {
		if now := time.Now(); now.Sub(told) >= progressInterval {
			told = now
			// Whoever is gone has cancelled the call, which ends the verification.
			_ = stream.Send(&snapshotdv1.VerifyResponse{Backend: backend, DoneBytes: done, TotalBytes: total})
		}
	}
	rec, err := c.Verify(stream.Context(), snapshot.VerifyRequest{
		Name: req.GetName(), Backend: req.GetBackend(), Progress: progress,
		Level: snapshot.Level(cmp.Or(req.GetLevel(), snapshotdv1.Verification_LEVEL_CHECKSUM)),
	})
	if err != nil {
		f := &failure{error: err, cluster: c.Name()}
		if rec != nil {
			f.snapshot = &rec.Snapshot
		}
		return f
	}
	if err := stream.Send(&snapshotdv1.VerifyResponse{Snapshot: wire.SnapshotToProto(&rec.Snapshot)}); err != nil {
		return gone(err)
	}
	return nil
}
