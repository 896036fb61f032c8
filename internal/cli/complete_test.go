package cli_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// complete returns the completions of the last argument, without the descriptions, and the directive.
func complete(t *testing.T, env map[string]string, args ...string) (offered []string, directive string) {
	t.Helper()
	r := run(t.Context(), env, append([]string{"__complete"}, args...)...)
	if r.code != 0 || strings.Contains(r.stderr, "error") {
		t.Fatalf("%q: exit code %d, standard error %q", args, r.code, r.stderr)
	}
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	for _, l := range lines[:len(lines)-1] {
		name, _, _ := strings.Cut(l, "\t")
		offered = append(offered, name)
	}
	return offered, lines[len(lines)-1]
}

// many is a service with 250 snapshots on pages of 60.
func many(clusters *[]string) *fake {
	return &fake{list: func(_ context.Context, r *snapshotdv1.ListRequest) (*snapshotdv1.ListResponse, error) {
		*clusters = append(*clusters, r.GetCluster())
		first := 0
		if r.GetPageToken() != "" {
			if _, err := fmt.Sscan(r.GetPageToken(), &first); err != nil {
				return nil, status.Error(codes.InvalidArgument, err.Error())
			}
		}
		resp := &snapshotdv1.ListResponse{}
		for i := first; i < min(250, first+60); i++ {
			resp.Snapshots = append(resp.Snapshots, &snapshotdv1.Snapshot{
				Name: fmt.Sprintf("s%d-%03d", i%2, 250-i), Cluster: "prod", State: snapshotdv1.Snapshot_STATE_READY,
				CreateTime: timestamppb.New(now.Add(-time.Duration(i) * time.Minute)),
				Locations:  []*snapshotdv1.Location{{Backend: "local"}, {Backend: "s3"}},
			})
			resp.NextPageToken = fmt.Sprint(i + 1)
		}
		if first+60 >= 250 {
			resp.NextPageToken = ""
		}
		return resp, nil
	}}
}

const (
	namesInOrder = ":36" // no files, keep the order
	noFiles      = ":4"
)

func TestCompletionOffersNamesNewestFirst(t *testing.T) {
	var clusters []string
	env := serve(t, many(&clusters))
	for _, verb := range []string{"get", "update", "delete", "verify"} {
		got, directive := complete(t, env, verb, "--cluster", "prod", "")
		if verb != "delete" {
			if got[0] != "latest" {
				t.Errorf("%s: %q comes first", verb, got[0])
			}
			got = got[1:]
		}
		if len(got) != 100 || got[0] != "s0-250" || got[1] != "s1-249" || directive != namesInOrder {
			t.Errorf("%s: %d names, %q, %s", verb, len(got), got, directive)
		}
		if got, _ := complete(t, env, verb, "s1-00"); strings.Join(got, " ") != "s1-009 s1-007 s1-005 s1-003 s1-001" {
			t.Errorf("%s s1-00: %q", verb, got)
		}
		if got, directive := complete(t, env, verb, "a-name", ""); len(got) > 0 || directive != namesInOrder {
			t.Errorf("%s: a second name: %q, %s", verb, got, directive)
		}
	}
	if clusters[0] != "prod" || clusters[len(clusters)-1] != "" {
		t.Errorf("asked for the clusters %q", clusters)
	}
	r := run(t.Context(), env, "__complete", "get", "s0-250")
	if want := "s0-250\t" + now.Local().Format("2006-01-02 15:04:05") + "  READY\n"; !strings.HasPrefix(r.stdout, want) {
		t.Errorf("the description: %q, want %q", r.stdout, want)
	}
}

func TestCompletionOffersBackendsAndClusters(t *testing.T) {
	var clusters []string
	env := serve(t, many(&clusters))
	for _, verb := range []string{"save", "list", "reconcile", "delete", "prune", "verify"} {
		if got, directive := complete(t, env, verb, "--backend", ""); strings.Join(got, " ") != "local s3" ||
			directive != noFiles {
			t.Errorf("%s: %q, %s", verb, got, directive)
		}
	}
	if got, _ := complete(t, env, "save", "--backend", "local,"); strings.Join(got, " ") != "local,local local,s3" {
		t.Errorf("after a comma: %q", got)
	}
	down := &fake{
		list: func(context.Context, *snapshotdv1.ListRequest) (*snapshotdv1.ListResponse, error) {
			return nil, status.Error(codes.Unavailable, "the catalog is down")
		},
		clusters: []*snapshotdv1.Cluster{{Name: "prod", Backends: []*snapshotdv1.Cluster_Backend{{Name: "local"}, {Name: "s3"}}}},
	}
	for _, given := range [][]string{nil, {"--cluster", "prod"}} {
		got, _ := complete(t, serve(t, down), slices.Concat([]string{"save"}, given, []string{"--backend", ""})...)
		if strings.Join(got, " ") != "local s3" {
			t.Errorf("while the catalog is down, with %q: %q", given, got)
		}
	}
	several := serve(t, &fake{clusters: []*snapshotdv1.Cluster{{Name: "a"}, {Name: "b"}}})
	if got, directive := complete(t, several, "get", "--cluster", ""); strings.Join(got, " ") != "a b" || directive != noFiles {
		t.Errorf("several clusters: %q, %s", got, directive)
	}
}

func TestCompletionIsSilentWhereNobodyServes(t *testing.T) {
	env := map[string]string{"SNAPSHOTD_ADDR": "127.0.0.1:1"}
	for args, want := range map[string]string{
		"get ": "latest", "get --addr a/b ": "latest", "restore --from nope:// ": "latest", "save --backend ": "", "list --cluster ": "",
	} {
		r := run(t.Context(), env, append([]string{"__complete"}, strings.Split(args, " ")...)...)
		got, _ := complete(t, env, strings.Split(args, " ")...)
		if strings.Join(got, " ") != want || strings.Count(r.stderr, "\n") != 1 || !strings.HasPrefix(r.stderr, "Completion ended") {
			t.Errorf("%q: %q, %q", args, got, r.stderr)
		}
	}
}

func TestCompletionOffersTheValuesOfFlags(t *testing.T) {
	for _, tc := range []struct{ args, want string }{
		{"list -o", "table wide json yaml :4"},
		{"verify --level", "checksum structure drill :36"},
		{"list --state", "saving ready partial failed deleting :36"},
		{"serve --log-level", "debug info warn error :36"},
		{"serve --log-format", "text json :36"},
		{"serve --compression", "zstd none :36"},
		{"serve --config", ":0"}, // files
		{"get --cacert", ":0"},
		{"restore --data-dir", ":16"}, // directories
		{"save --name-prefix", noFiles},
	} {
		got, directive := complete(t, nil, append(strings.Fields(tc.args), "")...)
		if all := strings.Join(append(got, directive), " "); all != tc.want {
			t.Errorf("%s: %s, want %s", tc.args, all, tc.want)
		}
	}
}

func TestCompletionOffersWhatAURLHolds(t *testing.T) {
	dir := t.TempDir()
	s := stored(t, "v1", dir)
	for _, verb := range []string{"restore", "verify"} {
		for _, flags := range [][]string{nil, {"--cluster", "default"}, {"--prefix", "default/"}} {
			got, directive := complete(t, nil, append(append([]string{verb, "--from", "file://" + dir}, flags...), "")...)
			if strings.Join(got, " ") != "latest "+s.Name || directive != namesInOrder {
				t.Errorf("%s %q: %q, %s", verb, flags, got, directive)
			}
		}
		if got, _ := complete(t, nil, verb, "--from", "file://"+dir, "--prefix", "other/", "x"); len(got) > 0 {
			t.Errorf("%s, of another prefix: %q", verb, got)
		}
	}
}
