package server

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Watch implements the RPC. The header is sent as soon as no event can be missed any more: a client that waits for it
// before it calls Save sees all of that save.
func (s *service) Watch(req *snapshotdv1.WatchRequest, stream grpc.ServerStreamingServer[snapshotdv1.WatchResponse]) error {
	if req.GetCluster() != "" {
		if _, err := s.named(req.GetCluster()); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	events, subscription := s.events.Subscribe(ctx, func(ev snapshot.Event) bool {
		return (req.GetCluster() == "" || ev.Cluster == req.GetCluster()) &&
			(req.GetRequestId() == "" || ev.RequestID == req.GetRequestId())
	})
	if err := stream.SendHeader(metadata.MD{}); err != nil {
		return gone(err)
	}
	for {
		select {
		case ev := <-events:
			if err := stream.Send(wire.EventToProto(ev)); err != nil {
				return gone(err)
			}
		case <-subscription.Done():
			return &failure{error: context.Cause(subscription), cluster: req.GetCluster()}
		}
	}
}

// gone is the error of a stream that cannot be sent on: nobody is there to read it but the log.
func gone(err error) error {
	return &snapshot.Error{Reason: snapshot.ReasonCancelled, Message: "send to the caller", Err: err}
}
