package server_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server"
	"github.com/snapshotd/snapshotd/snapshot"
)

// many are clusters whose messages are large: a snapshot may have labels of some kilobytes.
func many(n int) (all []*fakeCluster) {
	for i := range n {
		rec := onS3("a")
		rec.Labels = map[string]string{}
		for k := range 30 {
			rec.Labels[fmt.Sprintf("label-%d", k)] = strings.Repeat("x", 200)
		}
		all = append(all, holding(fmt.Sprintf("c%d", i), nil, rec))
	}
	return all
}

// pages reads all pages, and returns the names of the clusters on each.
func pages(t *testing.T, client snapshotdv1.ClusterServiceClient, size int32) (all [][]string) {
	t.Helper()
	for req := (&snapshotdv1.ListClustersRequest{PageSize: size}); ; {
		resp, err := client.ListClusters(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, c := range resp.GetClusters() {
			names = append(names, c.GetName())
		}
		if all = append(all, names); proto.Size(resp) > 4<<20 {
			t.Errorf("a page has %d bytes", proto.Size(resp))
		}
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			return all
		}
	}
}

func TestClustersAreListedPageByPage(t *testing.T) {
	client := snapshotdv1.NewClusterServiceClient(run(t, server.Config{}, threeClusters()...).dial(t))
	for size, want := range map[int32]string{0: "[[prod dead lost]]", 1: "[[prod] [dead] [lost]]",
		2: "[[prod dead] [lost]]",
		3: "[[prod dead lost]]", 1000: "[[prod dead lost]]"} {
		if got := fmt.Sprint(pages(t, client, size)); got != want {
			t.Errorf("pages of %d are %s", size, got)
		}
	}
}

// A client of gRPC takes 4 MiB. A page that would be larger is cut, and all clusters at once are refused: that some are
// left out would not be seen.
func TestTheClustersOfAnAnswerAreNotMoreThanClientsTake(t *testing.T) {
	all := many(400)
	r := run(t, server.Config{}, all...)
	client := snapshotdv1.NewClusterServiceClient(r.dial(t))
	got := pages(t, client, 1000)
	if names := slices.Concat(got...); len(got) < 2 || len(names) != 400 || names[0] != "c0" || names[399] != "c399" {
		t.Errorf("%d pages with %d clusters", len(got), len(names))
	}
	_, err := client.ListClusters(t.Context(), &snapshotdv1.ListClustersRequest{})
	if d := checkError(t, err, codes.InvalidArgument, snapshot.ReasonInvalidArgument); d.Field != "page_size" ||
		!strings.Contains(err.Error(), "all 400 clusters") || !strings.Contains(err.Error(), "ask for pages") {
		t.Errorf("without a size: %v", err)
	}
	if answer, body := r.ask(t, "GET", "/v1/clusters", ""); answer.code != 200 ||
		strings.Count(body, `"VERDICT_SAFE"`) < 400 {
		t.Errorf("HTTP knows no such limit, and answers with %d and %d bytes", answer.code, len(body))
	}
}

func TestPagesOfClustersThatCannotBeAreRefused(t *testing.T) {
	r := run(t, server.Config{}, threeClusters()...)
	client := snapshotdv1.NewClusterServiceClient(r.dial(t))
	first, err := client.ListClusters(t.Context(), &snapshotdv1.ListClustersRequest{PageSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	for field, reqs := range map[string][]*snapshotdv1.ListClustersRequest{
		"page_size":  {{PageSize: -1}, {PageSize: 1001}},
		"page_token": {{PageToken: "?"}, {PageToken: "AAAA"}},
	} {
		for _, req := range reqs {
			_, err := client.ListClusters(t.Context(), req)
			if d := checkError(t, err, codes.InvalidArgument, snapshot.ReasonInvalidArgument); d.Field != field {
				t.Errorf("%v: the field is %q", req, d.Field)
			}
		}
	}
	rest, err := client.ListClusters(t.Context(), &snapshotdv1.ListClustersRequest{PageToken: first.GetNextPageToken()})
	if err != nil || len(rest.GetClusters()) != 2 || rest.GetNextPageToken() != "" {
		t.Errorf("the rest: %v, %v", rest, err)
	}
	// A token that was made up goes nowhere.
	madeUp := first.GetNextPageToken()[:12] + "____"
	_, err = client.ListClusters(t.Context(), &snapshotdv1.ListClustersRequest{PageToken: madeUp})
	checkError(t, err, codes.Aborted, snapshot.ReasonPageTokenExpired)
	// Two clusters have changed their places: the first page would be read twice, and another one not at all.
	if err := r.SetClusters(served(slices.Concat(threeClusters()[1:], threeClusters()[:1])...)); err != nil {
		t.Fatal(err)
	}
	next := &snapshotdv1.ListClustersRequest{PageSize: 1, PageToken: first.GetNextPageToken()}
	_, err = client.ListClusters(t.Context(), next)
	checkError(t, err, codes.Aborted, snapshot.ReasonPageTokenExpired)
}
