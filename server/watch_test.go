package server_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/snapshotd/snapshotd/cluster"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server"
	"github.com/snapshotd/snapshotd/server/feed"
	"github.com/snapshotd/snapshotd/snapshot"
)

// watch returns a stream that misses nothing from now on.
func watch(
	t *testing.T, client snapshotdv1.SnapshotServiceClient, req *snapshotdv1.WatchRequest,
) grpc.ServerStreamingClient[snapshotdv1.WatchResponse] {
	t.Helper()
	stream, err := client.Watch(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil {
		t.Fatal(err)
	}
	return stream
}

func TestWatchShowsEventsInOrder(t *testing.T) {
	r := run(t, server.Config{}, &fakeCluster{name: "prod"})
	stream := watch(t, r.client(t), &snapshotdv1.WatchRequest{})
	at := time.Unix(1700000000, 0)
	snap := inState(snapshot.StateSaving, snapshot.Snapshot{Name: "a"})
	types := []snapshotdv1.WatchResponse_Type{
		snapshotdv1.WatchResponse_TYPE_STARTED, snapshotdv1.WatchResponse_TYPE_PROGRESS,
		snapshotdv1.WatchResponse_TYPE_LOCATION_DONE, snapshotdv1.WatchResponse_TYPE_FINISHED,
	}
	for i := range 40 {
		ev := snapshot.Event{
			Type: snapshot.EventType(i%4 + 1), Time: at, Cluster: "prod", Name: fmt.Sprint(i), RequestID: "id",
			Backend: "s3", Done: int64(i), Total: 100, Snapshot: snap,
		}
		if ev.Type == snapshot.EventProgress {
			ev.Snapshot = nil
		}
		r.events.Observe(t.Context(), ev)
	}
	for i := range 40 {
		ev, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if ev.GetName() != fmt.Sprint(i) || ev.GetType() != types[i%4] || ev.GetDoneBytes() != int64(i) ||
			ev.GetTotalBytes() != 100 ||
			ev.GetCluster() != "prod" || ev.GetRequestId() != "id" || ev.GetBackend() != "s3" ||
			!ev.GetTime().AsTime().Equal(at) ||
			(ev.GetSnapshot() == nil) != (ev.GetType() == snapshotdv1.WatchResponse_TYPE_PROGRESS) {
			t.Fatalf("event %d is %v", i, ev)
		}
	}
}

func TestWatchShowsOnlyWhatWasAskedFor(t *testing.T) {
	r := run(t, server.Config{}, &fakeCluster{name: "a"}, &fakeCluster{name: "b"})
	client := r.client(t)
	byCluster := watch(t, client, &snapshotdv1.WatchRequest{Cluster: "b"})
	byRequest := watch(t, client, &snapshotdv1.WatchRequest{RequestId: "id-2"})
	for _, ev := range []snapshot.Event{
		{Name: "1", Cluster: "a", RequestID: "id-1"}, {Name: "2", Cluster: "a", RequestID: "id-2"}, {Name: "3", Cluster: "b"},
	} {
		ev.Type = snapshot.EventStarted
		r.events.Observe(t.Context(), ev)
	}
	if ev, err := byCluster.Recv(); err != nil || ev.GetName() != "3" {
		t.Errorf("by cluster: %v, %v", ev, err)
	}
	if ev, err := byRequest.Recv(); err != nil || ev.GetName() != "2" {
		t.Errorf("by request: %v, %v", ev, err)
	}
	none, err := client.Watch(t.Context(), &snapshotdv1.WatchRequest{Cluster: "c"})
	if err == nil {
		_, err = none.Recv()
	}
	checkError(t, err, codes.NotFound, snapshot.ReasonClusterNotFound)
}

func TestAWatcherThatDoesNotKeepUpIsToldSo(t *testing.T) {
	r := run(t, server.Config{}, &fakeCluster{name: "prod"})
	stream := watch(t, r.client(t), &snapshotdv1.WatchRequest{})
	snap := snapshot.WithStatus(snapshot.Snapshot{}, snapshot.Status{Error: strings.Repeat("x", 4096)})
	for i := range 5000 { // 20 MB: far more than flow control and the subscription hold
		r.events.Observe(t.Context(), snapshot.Event{
			Cluster: "prod", Type: snapshot.EventLocationDone, Name: fmt.Sprint(i), Snapshot: snap,
		})
	}
	for i := 0; ; i++ {
		ev, err := stream.Recv()
		if err != nil {
			checkError(t, err, codes.ResourceExhausted, snapshot.ReasonSlowConsumer)
			return
		}
		if ev.GetName() != fmt.Sprint(i) {
			t.Fatalf("event %d is %s: one was lost without a word", i, ev.GetName())
		}
	}
}

// Each of them needs a watch of etcd until it has caught up, and few can have one at a time.
func TestWatchersThatReadNothingKeepNobodyFromCatchingUp(t *testing.T) {
	const now = 5000 // events of 4 KiB: far more than flow control holds
	events := feed.New(func(ctx context.Context, after snapshot.Position) iter.Seq2[snapshot.Moment, error] {
		return func(yield func(snapshot.Moment, error) bool) {
			if after.Revision == 0 {
				yield(happened(now), nil)
				<-ctx.Done()
				return
			}
			ev := finished("prod", strings.Repeat("x", 4096))
			for revision := after.Revision; revision < now; revision++ {
				if !yield(happened(revision, ev), nil) {
					return
				}
			}
			yield(snapshot.Moment{}, errors.New("all was taken"))
		}
	})
	r := run(t, server.Config{StallTimeout: time.Second / 2}, &fakeCluster{name: "prod",
		follow: func(ctx context.Context, after snapshot.Position, yield func(snapshot.Moment, error) bool) {
			events.Follow(ctx, after)(yield)
		}})
	client := r.client(t)
	before := run(t, server.Config{}, story("prod", happened(5))).client(t)
	_, token := receive(t, watch(t, before, &snapshotdv1.WatchRequest{}), 1)
	watch(t, client, &snapshotdv1.WatchRequest{}) // what it follows is new
	var silent []grpc.ServerStreamingClient[snapshotdv1.WatchResponse]
	for range 12 {
		silent = append(silent, watch(t, r.client(t), &snapshotdv1.WatchRequest{ResumeToken: token}))
	}
	receiving := watch(t, client, &snapshotdv1.WatchRequest{ResumeToken: token})
	got := make(chan error, 1)
	go func() {
		_, err := receiving.Recv()
		got <- err
	}()
	if err := wait(t, got, "an event for one that reads"); err != nil {
		t.Error(err)
	}
	for {
		if _, err := silent[0].Recv(); err != nil {
			checkError(t, err, codes.ResourceExhausted, snapshot.ReasonSlowConsumer)
			return
		}
	}
}

func TestWatchersAreToldOfAClusterThatIsReplacedAsTheyBegin(t *testing.T) {
	r := run(t, server.Config{}, ready())
	retired := served(story("prod", happened(5)))
	retired[0].Use = func(context.Context) bool { return false }
	if err := r.SetClusters(retired); err != nil {
		t.Fatal(err)
	}
	_, err := watch(t, r.client(t), &snapshotdv1.WatchRequest{}).Recv()
	checkError(t, err, codes.Unavailable, snapshot.ReasonConfigChanged)
}

// whenNamed is a cluster with which something happens when its name is asked for, as soon as it is set.
type whenNamed struct {
	server.View
	happens atomic.Pointer[func()]
}

func (w *whenNamed) Name() string {
	if happens := w.happens.Swap(nil); happens != nil {
		(*happens)()
	}
	return w.View.Name()
}

// A watch of all clusters is allowed for those that there are. One that comes then, before it begins, ends it.
func TestAWatchMissesNoClusterThatComesAsItBegins(t *testing.T) {
	r := run(t, server.Config{}, ready())
	clusters := served(story("prod", happened(5)))
	named := &whenNamed{View: clusters[0].View}
	clusters[0].View = named
	if err := r.SetClusters(clusters); err != nil {
		t.Fatal(err)
	}
	comes := func() {
		if err := r.SetClusters(append(clusters[:1:1], served(story("new", happened(5)))...)); err != nil {
			t.Error(err)
		}
	}
	named.happens.Store(&comes)
	stream := watch(t, r.client(t), &snapshotdv1.WatchRequest{})
	ended := make(chan error, 1)
	go func() {
		for {
			if _, err := stream.Recv(); err != nil {
				ended <- err
				return
			}
		}
	}()
	err := wait(t, ended, "the end of a watch that misses a cluster")
	checkError(t, err, codes.Unavailable, snapshot.ReasonConfigChanged)
}

func TestWatchersAreToldOfAShutdownAtOnce(t *testing.T) {
	r := run(t, server.Config{ShutdownTimeout: time.Hour}, &fakeCluster{name: "prod"})
	stream := watch(t, r.client(t), &snapshotdv1.WatchRequest{})
	r.stop()
	_, err := stream.Recv()
	if d := checkError(t, err, codes.Unavailable, snapshot.ReasonShuttingDown); d.Retry == 0 {
		t.Error("no retry is advised")
	}
	wait(t, r.done, "the end of Run")
}

func TestAWatcherThatGoesAwayEndsItsSubscription(t *testing.T) {
	r := run(t, server.Config{}, &fakeCluster{name: "prod"})
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := r.client(t).Watch(ctx, &snapshotdv1.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("the error is %v", err)
	}
	r.stop()
	wait(t, r.done, "the end of Run") // the handler has returned
	if got := r.log.with("method=Watch"); len(got) != 1 {
		t.Errorf("the log has %q", got)
	}
}

func TestCancellingACallReachesTheDomain(t *testing.T) {
	entered, left := make(chan struct{}), make(chan error, 1)
	r := run(t, server.Config{},
		&fakeCluster{name: "prod", save: func(ctx context.Context, _ cluster.SaveRequest) (cluster.SaveResult, error) {
			close(entered)
			<-ctx.Done()
			left <- context.Cause(ctx)
			return cluster.SaveResult{}, snapshot.ReasonCancelled.New("save").Because(context.Cause(ctx))
		}})
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	client := r.client(t)
	go func() {
		_, err := client.Save(ctx, &snapshotdv1.SaveRequest{})
		result <- err
	}()
	wait(t, entered, "the call of Save")
	cancel()
	if cause := wait(t, left, "the end of Save"); !errors.Is(cause, context.Canceled) {
		t.Errorf("the cause is %v", cause)
	}
	if err := wait(t, result, "the answer"); status.Code(err) != codes.Canceled {
		t.Errorf("the error is %v", err)
	}
	r.stop()
	wait(t, r.done, "the end of Run")
	if got := r.log.with("method=Save code=Canceled"); len(got) != 1 {
		t.Errorf("the log has %q", got)
	}
}

func TestADeadlineReachesTheDomain(t *testing.T) {
	deadline := make(chan bool, 1)
	r := run(t, server.Config{},
		&fakeCluster{name: "prod", get: func(ctx context.Context, _ string) (*snapshot.Record, error) {
			_, ok := ctx.Deadline()
			deadline <- ok
			return &snapshot.Record{}, nil
		}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if _, err := r.client(t).Get(ctx, &snapshotdv1.GetRequest{Name: "a"}); err != nil {
		t.Fatal(err)
	}
	if !wait(t, deadline, "the call of Get") {
		t.Error("the domain sees no deadline")
	}
}

// story is a cluster whose catalog says these moments after a revision, and then nothing.
func story(name string, moments ...snapshot.Moment) *fakeCluster {
	return &fakeCluster{name: name,
		follow: func(ctx context.Context, after snapshot.Position, yield func(snapshot.Moment, error) bool) {
			if !yield(happened(max(after.Revision, 1)), nil) {
				return
			}
			for _, m := range moments {
				if m.Revision > after.Revision && !yield(m, nil) {
					return
				}
			}
			<-ctx.Done()
		}}
}

func happened(revision int64, events ...snapshot.Event) snapshot.Moment {
	return snapshot.Moment{Position: snapshot.Position{Revision: revision, History: "h"}, Events: events}
}

func started(cluster, name string) snapshot.Event {
	return snapshot.Event{Type: snapshot.EventStarted, Cluster: cluster, Name: name}
}

func located(cluster, name, backend string) snapshot.Event {
	s := snapshot.WithStatus(snapshot.Snapshot{Name: name}, snapshot.Status{
		Locations: []snapshot.Location{{Backend: backend, State: snapshot.StateReady}},
	})
	return snapshot.Event{Type: snapshot.EventLocationDone, Cluster: cluster, Name: name, Backend: backend, Snapshot: s}
}

func finished(cluster, name string) snapshot.Event {
	return snapshot.Event{
		Type: snapshot.EventFinished, Cluster: cluster, Name: name,
		Snapshot: inState(snapshot.StateReady, snapshot.Snapshot{Name: name}),
	}
}

// receive reads n messages and returns them in short, with the last token.
func receive(
	t *testing.T, stream grpc.ServerStreamingClient[snapshotdv1.WatchResponse], n int,
) (got []string, token string) {
	t.Helper()
	for range n {
		ev, err := stream.Recv()
		if err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
		text := strings.TrimPrefix(ev.GetType().String(), "TYPE_") + " " + ev.GetName() + ev.GetBackend()
		if ev.GetResumeToken() != "" {
			token = ev.GetResumeToken()
			text += "!"
		}
		got = append(got, text)
	}
	return got, token
}

func same(t *testing.T, got []string, want string) {
	t.Helper()
	if text := strings.Join(got, ", "); text != want {
		t.Errorf("events\n%s\nwant\n%s", text, want)
	}
}

func TestWatchGoesOnAfterAToken(t *testing.T) {
	moments := []snapshot.Moment{
		happened(5, started("a", "1")), happened(7, located("a", "1", "x"), located("a", "1", "y"), finished("a", "1")),
		happened(9, started("a", "2")),
	}
	client := run(t, server.Config{}, story("a", moments...)).client(t)
	const all = "POSITION !, STARTED 1!, LOCATION_DONE 1x!, LOCATION_DONE 1y!, FINISHED 1!, STARTED 2!"
	got, _ := receive(t, watch(t, client, &snapshotdv1.WatchRequest{}), 6)
	same(t, got, all)
	for n, want := range map[int]string{
		1: all, 2: "POSITION !, LOCATION_DONE 1x!, LOCATION_DONE 1y!, FINISHED 1!, STARTED 2!",
		3: "POSITION !, LOCATION_DONE 1x!, LOCATION_DONE 1y!, FINISHED 1!, STARTED 2!", // a revision comes as a whole
		5: "POSITION !, STARTED 2!",
	} {
		_, token := receive(t, watch(t, client, &snapshotdv1.WatchRequest{}), n)
		other := run(t, server.Config{}, story("a", moments...)).client(t) // another replica
		got, _ := receive(t, watch(t, other, &snapshotdv1.WatchRequest{ResumeToken: token}), strings.Count(want, ",")+1)
		same(t, got, want)
	}
}

func TestWatchTellsTheSameOnce(t *testing.T) {
	said := make(chan snapshot.Moment)
	c := &fakeCluster{name: "a",
		follow: func(ctx context.Context, _ snapshot.Position, yield func(snapshot.Moment, error) bool) {
			for {
				select {
				case m := <-said:
					if !yield(m, nil) {
						return
					}
				case <-ctx.Done():
					return
				}
			}
		}}
	r := run(t, server.Config{}, c)
	stream := watch(t, r.client(t), &snapshotdv1.WatchRequest{})
	next := func(want string) {
		t.Helper()
		got, _ := receive(t, stream, strings.Count(want, ",")+1)
		same(t, got, want)
	}
	r.events.Observe(t.Context(), started("a", "1")) // while the catalog does not answer
	next("STARTED 1")
	said <- happened(4)
	next("POSITION !")
	said <- happened(5, started("a", "1"))
	next("POSITION !")
	r.events.Observe(t.Context(), located("a", "1", "x"))
	next("LOCATION_DONE 1x")
	said <- happened(6, located("a", "1", "x"), located("a", "1", "y"), finished("a", "1"))
	next("LOCATION_DONE 1y!, FINISHED 1!")
	late := snapshot.Event{Type: snapshot.EventProgress, Cluster: "a", Name: "1"}
	r.events.Observe(t.Context(), late)
	r.events.Observe(t.Context(), located("a", "1", "y"))
	r.events.Observe(t.Context(), finished("a", "1"))
	r.events.Observe(t.Context(), started("a", "2"))
	next("STARTED 2")
	said <- happened(7, located("a", "1", "x")) // it was repaired: the same once more
	next("LOCATION_DONE 1x!")
}

func TestATokenIsOfAllClustersThatAreWatched(t *testing.T) {
	down := &fakeCluster{name: "b"} // its catalog does not answer
	r := run(t, server.Config{}, story("a", happened(5, started("a", "1"))), down)
	client := r.client(t)
	got, _ := receive(t, watch(t, client, &snapshotdv1.WatchRequest{}), 1)
	same(t, got, "STARTED 1") // no token: events of b could not be resumed
	got, ofA := receive(t, watch(t, client, &snapshotdv1.WatchRequest{Cluster: "a"}), 2)
	same(t, got, "POSITION !, STARTED 1!")
	for what, req := range map[string]*snapshotdv1.WatchRequest{
		"of others":  {Cluster: "b", ResumeToken: ofA},
		"rubbish":    {ResumeToken: "rubbish"},
		"not base64": {ResumeToken: "!"},
		"empty":      {ResumeToken: "e30"},
		"no number":  {ResumeToken: "eyJhIjowfQ"},
	} {
		stream, err := client.Watch(t.Context(), req)
		if err == nil {
			_, err = stream.Recv()
		}
		if d := checkError(t, err, codes.InvalidArgument, snapshot.ReasonInvalidArgument); d.Field != "resume_token" {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := watch(t, client, &snapshotdv1.WatchRequest{Cluster: "b"}).Header()
	if err != nil {
		t.Error(err)
	}
}

func TestWatchersAreToldThatATokenIsTooOld(t *testing.T) {
	expired := snapshot.ReasonWatchExpired.New("follow")
	r := run(t, server.Config{}, &fakeCluster{name: "a",
		follow: func(_ context.Context, _ snapshot.Position, yield func(snapshot.Moment, error) bool) {
			yield(snapshot.Moment{}, expired)
		}})
	_, err := watch(t, r.client(t), &snapshotdv1.WatchRequest{}).Recv()
	checkError(t, err, codes.Aborted, snapshot.ReasonWatchExpired)
}

func TestATokenHasTheHistoryOfItsRevision(t *testing.T) {
	asked := make(chan snapshot.Position, 2)
	c := &fakeCluster{name: "a",
		follow: func(ctx context.Context, after snapshot.Position, yield func(snapshot.Moment, error) bool) {
			asked <- after
			yield(happened(5), nil)
			<-ctx.Done()
		}}
	client := run(t, server.Config{}, c).client(t)
	_, token := receive(t, watch(t, client, &snapshotdv1.WatchRequest{}), 1)
	watch(t, client, &snapshotdv1.WatchRequest{ResumeToken: token})
	<-asked
	if got := wait(t, asked, "the second watch"); got != happened(5).Position {
		t.Errorf("resumed after %+v", got)
	}
}
