package server

import (
	"cmp"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

type verifyStream = grpc.ServerStreamingServer[snapshotdv1.VerifyResponse]

// progressInterval is how often progress is sent.
const progressInterval = 200 * time.Millisecond

// Verify implements the RPC.
func (s *service) Verify(req *snapshotdv1.VerifyRequest, stream verifyStream) error {
	c, err := s.cluster(stream.Context(), req.GetCluster())
	if err != nil {
		return err
	}
	var rec *snapshot.Record
	tellProgress(stream, func(progress func(backend string, done, total int64)) {
		rec, err = c.Verify(stream.Context(), cluster.VerifyRequest{
			Name: req.GetName(), Backend: req.GetBackend(), Progress: progress,
			Level: snapshot.Level(cmp.Or(req.GetLevel(), snapshotdv1.Verification_LEVEL_CHECKSUM)),
		})
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

// tellProgress runs verify and sends its progress to the caller. A caller that does not read it must not delay the
// verification: a cluster verifies one snapshot at a time.
func tellProgress(stream verifyStream, verify func(progress func(backend string, done, total int64))) {
	latest := make(chan *snapshotdv1.VerifyResponse, 1)
	var sender sync.WaitGroup
	sender.Go(func() {
		for m := range latest {
			_ = stream.Send(m) // a caller that is gone has cancelled the call, and with it the verification
		}
	})
	defer sender.Wait()
	defer close(latest)
	var told time.Time
	verify(func(backend string, done, total int64) {
		now := time.Now()
		if now.Sub(told) < progressInterval {
			return
		}
		told = now
		select {
		case latest <- &snapshotdv1.VerifyResponse{Backend: backend, DoneBytes: done, TotalBytes: total}:
		default: // the earlier one has not been sent yet
		}
	})
}
