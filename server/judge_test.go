package server_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server"
	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

// An etcd without a quorum does not answer. Forty of them keep no cluster that answers from being judged.
func TestClustersThatDoNotAnswerHoldUpNoOther(t *testing.T) {
	t.Parallel()
	var all []*fakeCluster
	var judged sync.WaitGroup
	for i := range 40 {
		c := holding(fmt.Sprintf("down-%d", i), nil)
		c.silent = true
		c.list = func(ctx context.Context, _ snapshot.Query) (snapshot.Page, error) {
			others := make(chan struct{})
			go func() { judged.Wait(); close(others) }()
			select {
			case <-others: // this one was waited for until then
				return snapshot.Page{}, errors.New("etcd has no leader")
			case <-ctx.Done():
				return snapshot.Page{}, ctx.Err()
			}
		}
		all = append(all, c)
	}
	for i := range 40 {
		c, once := holding(fmt.Sprintf("up-%d", i), nil), sync.OnceFunc(judged.Done)
		judged.Add(1)
		c.list = func(context.Context, snapshot.Query) (snapshot.Page, error) {
			once()
			return snapshot.Page{Records: []*snapshot.Record{onS3("a")}}, nil
		}
		all = append(all, c)
	}
	client := snapshotdv1.NewClusterServiceClient(run(t, server.Config{}, all...).dial(t))
	resp, err := client.ListClusters(t.Context(), &snapshotdv1.ListClustersRequest{})
	if err != nil || len(resp.GetClusters()) != 80 {
		t.Fatalf("%d clusters, %v", len(resp.GetClusters()), err)
	}
	for i, c := range resp.GetClusters() {
		if up := strings.HasPrefix(c.GetName(), "up-"); c.GetName() != all[i].name ||
			up != (c.GetVerdict() == snapshotdv1.Cluster_VERDICT_SAFE) {
			t.Errorf("%s is %v: %v", c.GetName(), c.GetVerdict(), c.GetFindings())
		}
	}
}

// A caller that does not wait long is answered in its time, and each cluster with what is true of it.
func TestAClusterThatWasNotAskedIsNotToldAsOneThatDidNotAnswer(t *testing.T) {
	t.Parallel()
	all, asked := make([]*fakeCluster, 400), make([]atomic.Bool, 400)
	for i := range all {
		all[i] = holding(fmt.Sprintf("c%d", i), nil)
		all[i].silent = true
		all[i].list = func(ctx context.Context, _ snapshot.Query) (snapshot.Page, error) {
			asked[i].Store(true)
			<-ctx.Done()
			return snapshot.Page{}, ctx.Err()
		}
	}
	client := snapshotdv1.NewClusterServiceClient(run(t, server.Config{}, all...).dial(t))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	resp, err := client.ListClusters(ctx, &snapshotdv1.ListClustersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	told := map[bool]int{}
	for i, c := range resp.GetClusters() {
		f := c.GetFindings()[0]
		want := "The catalog was not asked, so nothing is known here: its turn did not come within "
		if asked[i].Load() {
			want = "The catalog cannot be read, so nothing is known here: it did not answer within "
		}
		if told[asked[i].Load()]++; c.GetVerdict() != snapshotdv1.Cluster_VERDICT_UNKNOWN ||
			!strings.HasPrefix(f.GetText(), want) {
			t.Errorf("%s, asked %t, is %v: %s", c.GetName(), asked[i].Load(), c.GetVerdict(), f.GetText())
		}
		if !asked[i].Load() && (!slices.Equal(f.GetCommand(), []string{"status"}) ||
			!strings.Contains(f.GetText(), "before it have not answered yet")) {
			t.Errorf("%s: %s: %q", c.GetName(), f.GetText(), f.GetCommand())
		}
	}
	if told[true] < 32 || told[false] == 0 {
		t.Errorf("%d were asked, %d were not", told[true], told[false])
	}
}

// Catalogs that break off while they are read hold the places of others for as long as a judgement may take, and no
// longer: those that got no place are told as such, to a caller that would wait forever, too.
func TestClustersThatBreakOffAreWaitedForOnce(t *testing.T) {
	t.Parallel()
	all, asked := make([]*fakeCluster, 32), make([]atomic.Bool, 32)
	for i := range all {
		all[i] = holding(fmt.Sprintf("c%d", i), nil)
		all[i].facts = fakeFacts{leader: "node-1"}
		all[i].list = func(ctx context.Context, _ snapshot.Query) (snapshot.Page, error) {
			asked[i].Store(true)
			<-ctx.Done()
			return snapshot.Page{}, ctx.Err()
		}
	}
	client := snapshotdv1.NewClusterServiceClient(run(t, server.Config{}, all...).dial(t))
	resp, err := client.ListClusters(t.Context(), &snapshotdv1.ListClustersRequest{})
	if err != nil || len(resp.GetClusters()) != len(all) {
		t.Fatalf("%d clusters, %v", len(resp.GetClusters()), err)
	}
	told := map[bool]int{}
	for i, c := range resp.GetClusters() {
		want := "The catalog was not asked, so nothing is known here: its turn to be read did not come in time"
		if asked[i].Load() {
			want = "The catalog cannot be read, so nothing is known here: it did not answer within "
		}
		told[asked[i].Load()]++
		if text := c.GetFindings()[0].GetText(); c.GetVerdict() != snapshotdv1.Cluster_VERDICT_UNKNOWN ||
			!strings.HasPrefix(text, want) {
			t.Errorf("%s, asked %t, is %v: %s", c.GetName(), asked[i].Load(), c.GetVerdict(), text)
		}
	}
	if told[true] < 16 || told[false] == 0 {
		t.Errorf("%d were read, %d were not", told[true], told[false])
	}
}

// askedFacts count how often they are asked for the leader.
type askedFacts struct {
	fakeFacts
	asked *atomic.Int64
}

func (f askedFacts) Leader(ctx context.Context) (string, error) {
	f.asked.Add(1)
	return f.fakeFacts.Leader(ctx)
}

// A judgement asks for the leader first, to find out whether the catalog answers at all, and does not ask again.
func TestAJudgementAsksForTheLeaderOnce(t *testing.T) {
	c, asked := holding("prod", nil, onS3("a")), new(atomic.Int64)
	c.facts = askedFacts{fakeFacts{last: time.Now().Truncate(time.Hour), leader: "node-1"}, asked}
	client := snapshotdv1.NewClusterServiceClient(run(t, server.Config{}, c).dial(t))
	resp, err := client.ListClusters(t.Context(), &snapshotdv1.ListClustersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if leader := resp.GetClusters()[0].GetLeader(); leader != "node-1" || asked.Load() != 1 {
		t.Errorf("the leader is %q, after %d questions", leader, asked.Load())
	}
}

// A browser gives an answer up, too: a request over HTTP says how long it waits, as the console does.
func TestARequestOverHTTPIsAnsweredInItsTime(t *testing.T) {
	t.Parallel()
	c, left := holding("silent", nil), make(chan time.Duration, 1)
	c.list = func(ctx context.Context, _ snapshot.Query) (snapshot.Page, error) {
		end, _ := ctx.Deadline()
		left <- time.Until(end)
		<-ctx.Done()
		return snapshot.Page{}, ctx.Err()
	}
	got, body := run(t, server.Config{}, c).ask(t, http.MethodGet, "/v1/clusters", "", "Grpc-Timeout", "3S")
	if got.code != http.StatusOK || !strings.Contains(body, "VERDICT_UNKNOWN") {
		t.Errorf("%d: %s", got.code, body)
	}
	if d := <-left; d > 3*time.Second {
		t.Errorf("for a caller who waits for 3 s, a cluster has %s to answer", d)
	}
}

// defective are facts with a defect.
type defective struct{ fakeFacts }

func (defective) Configured() status.Known { panic("a defect") }

// TestADefectInTheFactsOfAClusterEndsTheCallAlone: the judgement of one among many is in no goroutine of the call.
func TestADefectInTheFactsOfAClusterEndsTheCallAlone(t *testing.T) {
	all := threeClusters()
	all[1].facts = defective{}
	client := snapshotdv1.NewClusterServiceClient(run(t, server.Config{}, all...).dial(t))
	for range 2 {
		_, err := client.ListClusters(t.Context(), &snapshotdv1.ListClustersRequest{})
		checkError(t, err, codes.Internal, snapshot.ReasonInternal)
	}
	if _, err := client.GetCluster(t.Context(), &snapshotdv1.GetClusterRequest{Cluster: all[1].name}); err == nil {
		t.Error("GetCluster has no error")
	}
}
