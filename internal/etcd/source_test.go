package etcd_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/etcd"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	"github.com/snapshotd/snapshotd/snapshot"
)

func connect(t *testing.T, cfg etcd.Config) *etcd.Conn {
	t.Helper()
	conn, err := etcd.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return conn
}

func newSource(t *testing.T, endpoints ...string) *etcd.Source {
	t.Helper()
	return etcd.NewSource(connect(t, etcd.Config{Endpoints: endpoints}), etcd.SourceConfig{})
}

// briefSource is a source that waits for a member that hangs no longer than a test should.
func briefSource(t *testing.T, endpoints ...string) *etcd.Source {
	t.Helper()
	return etcd.NewSource(connect(t, etcd.Config{Endpoints: endpoints}), etcd.SourceConfig{StatusTimeout: time.Second})
}

// mustRead reads a snapshot to its end and verifies its checksum.
func mustRead(t *testing.T, s *etcd.Source) *cluster.Stream {
	t.Helper()
	stream, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	verify(t, stream)
	return stream
}

func verify(t *testing.T, stream *cluster.Stream) {
	t.Helper()
	all, err := io.ReadAll(stream)
	if err != nil {
		t.Fatal(err)
	}
	if len(all)%512 != sha256.Size {
		t.Fatalf("%s sent %d bytes, which is no database and a checksum", stream.Member.Endpoint, len(all))
	}
	db, sum := all[:len(all)-sha256.Size], all[len(all)-sha256.Size:]
	if want := sha256.Sum256(db); !bytes.Equal(sum, want[:]) {
		t.Fatalf("the checksum of %s is wrong", stream.Member.Endpoint)
	}
}

func wantUnavailable(t *testing.T, err error, parts ...string) {
	t.Helper()
	e, ok := errors.AsType[*snapshot.Error](err)
	if !ok || e.Reason != snapshot.ReasonEtcdUnavailable || e.Retry == 0 {
		t.Fatalf("error %#v, want one with ReasonEtcdUnavailable and a retry", err)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q does not say %q", err, p)
		}
	}
}

// One cluster goes through several failures: the choice of the source at each step.
func TestChoiceOfTheMember(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a cluster of processes")
	}
	c := testenv.StartCluster(t, 3)
	client := c.Client(t)
	for i := range 200 {
		if _, err := client.Put(t.Context(), fmt.Sprintf("/registry/things/%d", i), strings.Repeat("x", 1000)); err != nil {
			t.Fatal(err)
		}
	}
	endpoint := func(i int) string { return c.Endpoints()[i] }
	leader := c.Leader(t, nil)

	// A follower, in any order of the endpoints; and all facts that the domain needs about it.
	for _, order := range [][]string{c.Endpoints(), {endpoint(leader), endpoint((leader + 1) % 3)}} {
		stream := mustRead(t, newSource(t, order...))
		i := slices.Index(c.Endpoints(), stream.Member.Endpoint)
		if i == leader || stream.Member.Leader {
			t.Errorf("the leader %s was read although there are followers", stream.Member.Endpoint)
		}
		st := c.Status(t, i)
		want := cluster.Member{
			ClusterID: fmt.Sprintf("%016x", st.Header.ClusterId), MemberID: fmt.Sprintf("%016x", st.Header.MemberId),
			Endpoint: endpoint(i), Version: st.Version, StorageVersion: st.StorageVersion,
		}
		if stream.Member != want || want.StorageVersion == "" {
			t.Errorf("member %+v, want %+v", stream.Member, want)
		}
		if stream.Size == 0 || stream.Size > st.DbSize { // it grows behind the back of the test
			t.Errorf("size %d, want one of up to %d", stream.Size, st.DbSize)
		}
	}
	if stream := mustRead(t, newSource(t, endpoint(leader))); !stream.Member.Leader {
		t.Error("the leader is not known as such")
	}

	// A frozen member accepts connections and answers nothing.
	frozen, other := (leader+1)%3, (leader+2)%3
	c.Stop(t, frozen)
	stream := mustRead(t, briefSource(t, endpoint(frozen), endpoint(leader), endpoint(other)))
	if stream.Member.Endpoint != endpoint(other) {
		t.Errorf("%s was read, want the follower %s that answers", stream.Member.Endpoint, endpoint(other))
	}
	_, err := briefSource(t, endpoint(frozen)).Snapshot(t.Context())
	wantUnavailable(t, err, endpoint(frozen)+": it did not answer in time")
	c.Cont(t, frozen)

	// The leader dies.
	c.Kill(leader)
	alive := func(i int) bool { return i != leader }
	next := c.Leader(t, alive)
	stream = mustRead(t, newSource(t, c.Endpoints()...))
	if i := slices.Index(c.Endpoints(), stream.Member.Endpoint); !alive(i) || i == next {
		t.Errorf("%s was read, want the last follower", stream.Member.Endpoint)
	}

	// The quorum is lost: the member that is left has all there is.
	c.Kill(next)
	last := 3 - leader - next
	c.Eventually(t, "the last member has lost its leader", func(context.Context) error {
		if st := c.Status(t, last); st.Leader != 0 {
			return fmt.Errorf("it follows %x", st.Leader)
		}
		return nil
	})
	stream = mustRead(t, newSource(t, c.Endpoints()...))
	if stream.Member.Endpoint != endpoint(last) || stream.Member.Leader {
		t.Errorf("%+v was read, want %s", stream.Member, endpoint(last))
	}

	// Nobody is left.
	c.Kill(last)
	_, err = newSource(t, c.Endpoints()...).Snapshot(t.Context())
	wantUnavailable(t, err)
	for _, ep := range c.Endpoints() {
		wantUnavailable(t, err, ep+": dial tcp "+strings.TrimPrefix(ep, "http://")+": connect: connection refused")
	}
}

// A learner is not asked, even when it is all there is.
func TestALearnerIsNotAsked(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a cluster of processes")
	}
	c := testenv.StartCluster(t, 1)
	learner := c.AddLearner(t)
	leader, endpoint := c.Endpoints()[0], c.Endpoints()[learner]
	_, err := newSource(t, endpoint).Snapshot(t.Context())
	wantUnavailable(t, err, endpoint+": it is a learner")
	if stream := mustRead(t, newSource(t, endpoint, leader)); stream.Member.Endpoint != leader {
		t.Errorf("%s was read, want the leader rather than the learner", stream.Member.Endpoint)
	}
}

func TestSnapshotOfOlderReleases(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts processes")
	}
	for _, release := range testenv.OlderReleases {
		c := testenv.StartCluster(t, 1, testenv.Release(release))
		stream := mustRead(t, newSource(t, c.Endpoints()...))
		want := map[string]string{"3.6": "3.6.0"}[release] // 3.5 does not know its storage version
		if !strings.HasPrefix(stream.Member.Version, release+".") || stream.Member.StorageVersion != want {
			t.Errorf("member %+v, want one of etcd %s", stream.Member, release)
		}
	}
}

func TestEndpointsOfTwoClustersAreRefused(t *testing.T) {
	t.Parallel()
	one, two := embedded.StartEtcd(t), embedded.StartEtcd(t)
	_, err := newSource(t, one.Endpoints()[0], two.Endpoints()[0]).Snapshot(t.Context())
	e, ok := errors.AsType[*snapshot.Error](err)
	if !ok || e.Reason != snapshot.ReasonEtcdUnavailable || !strings.Contains(err.Error(), "not of one cluster") {
		t.Errorf("error %v, want one that says that there are two clusters", err)
	}
}

func TestCloseEndsARead(t *testing.T) {
	t.Parallel()
	server := embedded.StartEtcd(t)
	fill(t, server, 16)
	stream, err := newSource(t, server.Endpoints()...).Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(stream, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := stream.Close(); err != nil {
		t.Fatal(err)
	}
	if err := stream.Close(); err != nil {
		t.Errorf("closing it again: %v", err)
	}
	_, err = io.Copy(io.Discard, stream)
	wantUnavailable(t, err, server.Endpoints()[0], "closed")
}

func TestCancelEndsAStream(t *testing.T) {
	t.Parallel()
	server := embedded.StartEtcd(t)
	fill(t, server, 16)
	ctx, cancel := context.WithCancelCause(t.Context())
	stream, err := newSource(t, server.Endpoints()...).Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	cancel(errors.New("the dog barked"))
	_, err = io.Copy(io.Discard, stream)
	wantUnavailable(t, err, server.Endpoints()[0], "bytes", "the dog barked")
}

func TestAnEtcdThatGoesAwayEndsAStream(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a process")
	}
	c := testenv.StartCluster(t, 1)
	client := c.Client(t)
	for i := range 16 {
		if _, err := client.Put(t.Context(), fmt.Sprint(i), strings.Repeat("x", 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := newSource(t, c.Endpoints()...).Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	if _, err := io.ReadFull(stream, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	c.Kill(0)
	n, err := io.Copy(io.Discard, stream)
	wantUnavailable(t, err, c.Endpoints()[0], fmt.Sprintf("%d bytes", n+1<<20))
}

// fill puts as many values of 1 MiB.
func fill(t *testing.T, server *embedded.Etcd, n int) {
	t.Helper()
	client := server.Client(t)
	for i := range n {
		if _, err := client.Put(t.Context(), fmt.Sprint(i), strings.Repeat("x", 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
}

// While a stream is open, etcd holds a read transaction, and a defragmentation that waits for it blocks the member.
// This is why a member is asked, and not only for its status.
func TestAMemberDoesNotAnswerWhileADefragmentationWaitsForTheStream(t *testing.T) {
	t.Parallel()
	server := embedded.StartEtcd(t)
	fill(t, server, 16)
	stream, err := newSource(t, server.Endpoints()...).Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	if err := stream.Answers(t.Context()); err != nil {
		t.Fatalf("before the defragmentation: %v", err)
	}
	client, defragmented := server.Client(t), make(chan error, 1)
	go func() {
		_, err := client.Defragment(t.Context(), server.Endpoints()[0])
		defragmented <- err
	}()
	for answers := true; answers; { // until the defragmentation has begun
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		answers = stream.Answers(ctx) == nil
		cancel()
	}
	select {
	case err := <-defragmented:
		t.Fatalf("the defragmentation did not wait: %v", err)
	default:
	}
	verify(t, stream)
	if err := <-defragmented; err != nil {
		t.Fatal(err)
	}
	if err := stream.Answers(t.Context()); err != nil {
		t.Errorf("after the defragmentation: %v", err)
	}
}
