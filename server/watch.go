package server

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server/feed"
	"github.com/snapshotd/snapshotd/snapshot"
)

const watchAgain = "watch again, from the last resume token"

type watchStream = grpc.ServerStreamingServer[snapshotdv1.WatchResponse]

// Watch implements the RPC. The header is sent as soon as no event of this replica can be missed any more: a client
// that waits for it before it calls Save sees all events of that save.
func (s *service) Watch(req *snapshotdv1.WatchRequest, stream watchStream) error {
	changed := changedSince(stream.Context())
	clusters, err := s.chosen(stream.Context(), req.GetCluster())
	if err != nil {
		return err
	}
	if clusters, err = opened(clusters); err != nil {
		return &failure{error: err, cluster: req.GetCluster()}
	}
	w := &watching{stream: stream, requestID: req.GetRequestId(), clusters: clusters, told: feed.NewRecent()}
	if w.at, err = decodeResume(req.GetResumeToken(), w.clusters); err != nil {
		return &failure{error: err, cluster: req.GetCluster()}
	}
	for _, c := range w.clusters {
		if !c.use(stream.Context()) {
			return &failure{error: clustersChanged("watch", watchAgain), cluster: req.GetCluster()}
		}
	}
	names := namesOf(w.clusters)
	ctx, cancel := context.WithCancelCause(stream.Context())
	local, subscription := s.events.Subscribe(ctx, func(ev snapshot.Event) bool {
		return slices.Contains(names, ev.Cluster) && w.wants(ev)
	})
	moments := make(chan moment)
	var followers sync.WaitGroup
	for _, c := range w.clusters {
		after := w.at[c.Name()]
		followers.Go(func() {
			if err := s.follow(ctx, c, after, moments); err != nil {
				cancel(err)
			}
		})
	}
	defer followers.Wait()
	defer cancel(nil)
	if err := stream.SendHeader(metadata.MD{}); err != nil {
		return gone(err)
	}
	return &failure{error: w.run(subscription, local, moments, changed), cluster: req.GetCluster()}
}

// moment is a moment in the catalog of one cluster.
type moment struct {
	snapshot.Moment
	cluster string
	err     error
}

// follow sends the moments of a cluster's catalog to a channel, until ctx is done or none was taken for the stall
// timeout: a watcher that has yet to catch up has one of few places.
func (s *service) follow(ctx context.Context, c Cluster, after snapshot.Position, moments chan<- moment) error {
	stalled := time.NewTimer(s.stall)
	defer stalled.Stop()
	for m, err := range c.Follow(ctx, after) {
		stalled.Reset(s.stall)
		select {
		case moments <- moment{Moment: m, cluster: c.Name(), err: err}:
		case <-ctx.Done():
			return nil
		case <-stalled.C:
			return snapshot.ReasonSlowConsumer.New("watch: the caller took nothing for %v", s.stall).
				Advise(watchAgain)
		}
	}
	return nil
}

// watching is one Watch under way. Events of this replica are sent at once, without a token. When the catalog shows the
// same event later, only its token is sent.
type watching struct {
	stream    watchStream
	requestID string
	clusters  []Cluster
	at        positions
	told      *feed.Recent
}

func (w *watching) wants(ev snapshot.Event) bool {
	return w.requestID == "" || ev.RequestID == w.requestID
}

// run sends what comes until that is not possible any more, and returns why: the watch has no other end.
func (w *watching) run(
	subscription context.Context, local <-chan *snapshot.Event, moments <-chan moment, changed <-chan struct{},
) error {
	for {
		var err error
		select {
		case ev := <-local:
			err = w.local(*ev)
		case m := <-moments:
			err = w.moment(m)
		case <-subscription.Done():
			err = context.Cause(subscription)
		case <-changed:
			err = clustersChanged("watch", watchAgain)
		}
		if err != nil {
			return err
		}
	}
}

// local sends an event of this replica.
func (w *watching) local(ev snapshot.Event) error {
	if !w.told.First(ev, true) {
		return nil
	}
	return w.send(wire.EventToProto(ev))
}

// moment sends the events of a moment. Only the token of the last event of a revision leads behind that revision, so
// that all of them are sent again when the stream breaks between them.
func (w *watching) moment(m moment) error {
	if m.err != nil {
		return m.err
	}
	var last *snapshotdv1.WatchResponse
	known := len(m.Events) == 0
	for _, ev := range m.Events {
		switch {
		case !w.wants(ev):
		case !w.told.First(ev, false):
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

// sendAt sends a message with the token of the stream's position.
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

// gone is the error of a stream that cannot be sent to any more: only the log reads it.
func gone(err error) error {
	return snapshot.ReasonCancelled.New("send to the caller").Because(err)
}
