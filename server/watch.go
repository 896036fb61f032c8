package server

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Watch implements the RPC. The header is sent as soon as nothing of this replica can be missed any more: a client that
// waits for it before it calls Save sees all of that save.
func (s *service) Watch(req *snapshotdv1.WatchRequest, stream grpc.ServerStreamingServer[snapshotdv1.WatchResponse]) error {
	w := &watching{stream: stream, requestID: req.GetRequestId(), clusters: s.clusters, told: newRecent()}
	if req.GetCluster() != "" {
		c, err := s.named(req.GetCluster())
		if err != nil {
			return err
		}
		w.clusters = []Cluster{c}
	}
	var err error
	if w.at, err = decodeResume(req.GetResumeToken(), w.clusters); err != nil {
		return &failure{error: err, cluster: req.GetCluster()}
	}
	ctx, cancel := context.WithCancel(stream.Context())
	local, subscription := s.events.Subscribe(ctx, func(ev snapshot.Event) bool {
		return (req.GetCluster() == "" || ev.Cluster == req.GetCluster()) && w.wants(ev)
	})
	moments := make(chan moment)
	var followers sync.WaitGroup
	for _, c := range w.clusters {
		after := w.at[c.Name()]
		followers.Go(func() { follow(ctx, c, after, moments) })
	}
	defer followers.Wait()
	defer cancel()
	if err := stream.SendHeader(metadata.MD{}); err != nil {
		return gone(err)
	}
	for {
		select {
		case ev := <-local:
			err = w.local(ev)
		case m := <-moments:
			err = w.moment(m)
		case <-subscription.Done():
			err = context.Cause(subscription)
		}
		if err != nil {
			return &failure{error: err, cluster: req.GetCluster()}
		}
	}
}

// moment is what one cluster's catalog says.
type moment struct {
	snapshot.Moment
	cluster string
	err     error
}

// follow hands on what the catalog of a cluster says, until ctx is done.
func follow(ctx context.Context, c Cluster, after snapshot.Position, moments chan<- moment) {
	for m, err := range c.Follow(ctx, after) {
		select {
		case moments <- moment{Moment: m, cluster: c.Name(), err: err}:
		case <-ctx.Done():
			return
		}
	}
}

// watching is one Watch under way. What this replica does is told at once, without a token; what the catalog says of the
// same is then left out, and only its token told.
type watching struct {
	stream    grpc.ServerStreamingServer[snapshotdv1.WatchResponse]
	requestID string
	clusters  []Cluster
	at        positions
	told      *recent
}

func (w *watching) wants(ev snapshot.Event) bool {
	return w.requestID == "" || ev.RequestID == w.requestID
}

// local tells what this replica does.
func (w *watching) local(ev snapshot.Event) error {
	if !w.told.first(ev, true) {
		return nil
	}
	return w.send(wire.EventToProto(ev))
}

// moment tells what the catalog says. The token of all events of a revision but the last one leads to before the revision,
// so that they come again when the stream breaks between them.
func (w *watching) moment(m moment) error {
	if m.err != nil {
		return m.err
	}
	var last *snapshotdv1.WatchResponse
	known := len(m.Events) == 0
	for _, ev := range m.Events {
		switch {
		case !w.wants(ev):
		case !w.told.first(ev, false):
			known = true
		default:
			if last != nil {
				if err := w.sendAt(last); err != nil {
					return err
				}
			}
			last = wire.EventToProto(ev)
		}
	}
	began := w.at.complete(w.clusters)
	w.at[m.cluster] = m.Position
	switch {
	case last != nil:
		return w.sendAt(last)
	case (known || !began) && w.at.complete(w.clusters):
		return w.sendAt(&snapshotdv1.WatchResponse{Type: snapshotdv1.WatchResponse_TYPE_POSITION})
	}
	return nil
}

// sendAt sends a message with the token of where the stream is.
func (w *watching) sendAt(m *snapshotdv1.WatchResponse) error {
	if w.at.complete(w.clusters) {
		m.ResumeToken = w.at.encode()
	}
	return w.send(m)
}

func (w *watching) send(m *snapshotdv1.WatchResponse) error {
	if err := w.stream.Send(m); err != nil {
		return gone(err)
	}
	return nil
}

// gone is the error of a stream that cannot be sent on: nobody is there to read it but the log.
func gone(err error) error {
	return &snapshot.Error{Reason: snapshot.ReasonCancelled, Message: "send to the caller", Err: err}
}
