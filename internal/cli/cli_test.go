package cli_test

import (
	"bytes"
	"context"
	"flag"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/snapshotd/snapshotd/internal/cli"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

var update = flag.Bool("update", false, "write the golden files anew")

// now is the time at which all commands of the tests run.
var now = time.Date(2026, 7, 15, 12, 0, 0, 0, time.UTC)

// result is the result of a command.
type result struct {
	code           int
	stdout, stderr string
}

func run(ctx context.Context, env map[string]string, args ...string) result {
	var stdout, stderr bytes.Buffer
	code := cli.Run(ctx, cli.System{
		Stdout: &stdout, Stderr: &stderr,
		Getenv: func(k string) string { return env[k] },
		Now:    func() time.Time { return now },
	}, args)
	return result{code, stdout.String(), stderr.String()}
}

// fake is a service whose answers the tests choose.
type fake struct {
	snapshotdv1.UnimplementedSnapshotServiceServer
	snapshotdv1.UnimplementedClusterServiceServer
	clusters  []*snapshotdv1.Cluster
	window    *snapshotdv1.RecoveryWindow
	save      func(context.Context, *snapshotdv1.SaveRequest) (*snapshotdv1.SaveResponse, error)
	reconcile func(context.Context, *snapshotdv1.ReconcileRequest) (*snapshotdv1.ReconcileResponse, error)
	list      func(context.Context, *snapshotdv1.ListRequest) (*snapshotdv1.ListResponse, error)
	get       func(context.Context, *snapshotdv1.GetRequest) (*snapshotdv1.GetResponse, error)
	update    func(context.Context, *snapshotdv1.UpdateRequest) (*snapshotdv1.UpdateResponse, error)
	remove    func(context.Context, *snapshotdv1.DeleteRequest) (*snapshotdv1.DeleteResponse, error)
	prune     func(context.Context, *snapshotdv1.PruneRequest) (*snapshotdv1.PruneResponse, error)
	verify    func(*snapshotdv1.VerifyRequest, grpc.ServerStreamingServer[snapshotdv1.VerifyResponse]) error
	download  func(*snapshotdv1.DownloadRequest, grpc.ServerStreamingServer[snapshotdv1.DownloadResponse]) error
	refused   error // of ListClusters
	watch     func(*snapshotdv1.WatchRequest, grpc.ServerStreamingServer[snapshotdv1.WatchResponse]) error
}

func (f *fake) Save(ctx context.Context, r *snapshotdv1.SaveRequest) (*snapshotdv1.SaveResponse, error) {
	return f.save(ctx, r)
}

func (f *fake) Reconcile(ctx context.Context, r *snapshotdv1.ReconcileRequest) (*snapshotdv1.ReconcileResponse, error) {
	return f.reconcile(ctx, r)
}

func (f *fake) List(ctx context.Context, r *snapshotdv1.ListRequest) (*snapshotdv1.ListResponse, error) {
	return f.list(ctx, r)
}

func (f *fake) Get(ctx context.Context, r *snapshotdv1.GetRequest) (*snapshotdv1.GetResponse, error) {
	return f.get(ctx, r)
}

func (f *fake) Update(ctx context.Context, r *snapshotdv1.UpdateRequest) (*snapshotdv1.UpdateResponse, error) {
	return f.update(ctx, r)
}

func (f *fake) Delete(ctx context.Context, r *snapshotdv1.DeleteRequest) (*snapshotdv1.DeleteResponse, error) {
	return f.remove(ctx, r)
}

func (f *fake) Prune(ctx context.Context, r *snapshotdv1.PruneRequest) (*snapshotdv1.PruneResponse, error) {
	return f.prune(ctx, r)
}

func (f *fake) Verify(r *snapshotdv1.VerifyRequest, s grpc.ServerStreamingServer[snapshotdv1.VerifyResponse]) error {
	return f.verify(r, s)
}

func (f *fake) Download(
	r *snapshotdv1.DownloadRequest, s grpc.ServerStreamingServer[snapshotdv1.DownloadResponse],
) error {
	return f.download(r, s)
}

func (f *fake) Watch(r *snapshotdv1.WatchRequest, s grpc.ServerStreamingServer[snapshotdv1.WatchResponse]) error {
	return f.watch(r, s)
}

func (f *fake) ListClusters(
	_ context.Context, r *snapshotdv1.ListClustersRequest,
) (*snapshotdv1.ListClustersResponse, error) {
	if f.refused != nil {
		return nil, wire.Status(f.refused, "", nil).Err()
	}
	from, _ := strconv.Atoi(r.GetPageToken())
	resp := &snapshotdv1.ListClustersResponse{Clusters: f.clusters[from:], Time: timestamppb.New(now)}
	if to := from + int(r.GetPageSize()); r.GetPageSize() > 0 && to < len(f.clusters) {
		resp.Clusters, resp.NextPageToken = f.clusters[from:to], strconv.Itoa(to)
	}
	return resp, nil
}

func (f *fake) GetCluster(_ context.Context, r *snapshotdv1.GetClusterRequest) (*snapshotdv1.GetClusterResponse, error) {
	for _, c := range f.clusters {
		if c.GetName() == r.GetCluster() {
			return &snapshotdv1.GetClusterResponse{Cluster: c, Time: timestamppb.New(now)}, nil
		}
	}
	return nil, wire.Status(snapshot.ReasonClusterNotFound.New("there is no cluster %q", r.GetCluster()), "", nil).Err()
}

func (f *fake) GetRecoveryWindow(
	context.Context, *snapshotdv1.GetRecoveryWindowRequest,
) (*snapshotdv1.GetRecoveryWindowResponse, error) {
	return &snapshotdv1.GetRecoveryWindowResponse{Window: f.window, Time: timestamppb.New(now)}, nil
}

// serve serves f until the test ends and returns an environment in which commands reach it.
func serve(t *testing.T, f snapshotdv1.SnapshotServiceServer, opts ...grpc.ServerOption) map[string]string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(opts...)
	snapshotdv1.RegisterSnapshotServiceServer(srv, f)
	if c, ok := f.(snapshotdv1.ClusterServiceServer); ok {
		snapshotdv1.RegisterClusterServiceServer(srv, c)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(lis) // ends with Stop
	}()
	t.Cleanup(func() {
		srv.Stop()
		<-done
	})
	return map[string]string{"SNAPSHOTD_ADDR": lis.Addr().String()}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; -update writes it anew. got:\n%s", file, got)
	}
}

func TestHelp(t *testing.T) {
	t.Setenv("TMPDIR", "/tmp") // it is the default of a flag
	for _, verb := range []string{"", "serve", "save", "reconcile", "list", "get", "restore", "verify", "download",
		"watch", "prune", "install", "version", "config", "config check", "token", "token create", "whoami"} {
		t.Run(verb, func(t *testing.T) {
			r := run(t.Context(), nil, append(strings.Fields(verb), "--help")...)
			if r.code != 0 || r.stderr != "" {
				t.Errorf("exit code %d, standard error %q", r.code, r.stderr)
			}
			golden(t, strings.Join(append([]string{"help"}, strings.Fields(verb)...), "-")+".txt", r.stdout)
		})
	}
}

func TestUsage(t *testing.T) {
	env := map[string]string{"SNAPSHOTD_TIMEOUT": "soon"}
	for _, tc := range []struct {
		args []string
		env  map[string]string
		want string
	}{
		{args: []string{"lst"}, want: `error: unknown command "lst"; did you mean "list"?`},
		{args: []string{"config", "chek"}, want: `error: unknown command "chek"; did you mean "check"?`},
		{args: []string{"save", "now"}, want: `error: "now" is not understood`},
		{args: []string{"get"}, want: "error: NAME is missing"},
		{args: []string{"get", "a", "b"}, want: `error: "b" is not understood`},
		{args: []string{"save", "--nope"}, want: "error: unknown flag: --nope\nsnapshotd save --help shows how it is used\n"},
		{args: []string{"save", "--label", "x"}, want: `error: --label: "x" is not key=value`},
		{args: []string{"save", "--label", "x=1", "--label", "x=2"}, want: `error: --label: "x" is given as "1" and as "2"`},
		{args: []string{"list", "-o", "xml"}, want: `error: --output: "xml" is not one of table, wide, json and yaml`},
		{args: []string{"list", "--timeout", "soon"}, want: `error: --timeout: "soon" is no duration`},
		{args: []string{"list", "--timeout", "-1s"}, want: "error: --timeout: -1s is negative; leave it out to wait without"},
		{args: []string{"list", "--limit", "few"}, want: `error: --limit: "few" is no whole number`},
		{args: []string{"prune", "--dry-run=perhaps"}, want: `error: --dry-run: "perhaps" is neither true nor false`},
		{args: []string{"list", "--state", "gone"}, want: `error: --state: "gone" is not one of saving, ready,`},
		{args: []string{"list", "--since", "yesterday"}, want: `error: --since: "yesterday" is no time`},
		{args: []string{"list", "--until", "99999999d"}, want: `error: --until: "99999999d" is no time`},
		{args: []string{"list", "--limit", "-1"}, want: "error: --limit: -1 is negative"},
		{args: []string{"list"}, env: env, want: `error: SNAPSHOTD_TIMEOUT: "soon" is no duration; write it as 30s, 10m, 36h or 7d`},
		{args: []string{"restore", "latest", "--initial-memory-map-size", "much"},
			want: `error: --initial-memory-map-size: "much" is no number of bytes; write it as 20GiB`},
		{args: []string{"list", "--addr", "http://localhost:7379"},
			want: `error: --addr: "http://localhost:7379" is neither HOST:PORT nor a socket`},
		{args: []string{"list", "--addr", ""}, want: `error: --addr: "" is not HOST:PORT`},
		{args: []string{"list", "--cacert", "does-not-exist"}, want: "error: --cacert: open does-not-exist: no such file"},
		{args: []string{"list", "--cert", "c"}, want: "error: --cert, --key: a certificate and its key are needed together"},
		{args: []string{"list", "--tls", "--plaintext"}, want: "error: --plaintext: TLS is asked for, too"},
		{args: []string{"serve"}, want: "error: the configuration is wrong:\n  clusters: none is configured"},
		{args: []string{"serve", "--dev", "--config", "does-not-exist"}, want: "--config: stat does-not-exist"},
		{args: []string{"config", "check", "--log-level=x"},
			want: "error: the configuration is wrong:\n  --log-level: \"x\""},
	} {
		t.Run(strings.Join(tc.args, " "), func(t *testing.T) {
			r := run(t.Context(), tc.env, tc.args...)
			if r.code != 2 || r.stdout != "" || !strings.Contains(r.stderr, tc.want) {
				t.Errorf("exit code %d, want 2\nstdout: %s\nstderr: %s\n  want: %s", r.code, r.stdout, r.stderr, tc.want)
			}
		})
	}
}

func TestNobodyServes(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := lis.Addr().String()
	if err := lis.Close(); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"save", "reconcile", "list", "watch"} {
		r := run(t.Context(), nil, verb, "--addr", addr)
		want := "error: reach the service at " +
			"" + addr + `: connection refused; is "snapshotd serve" running there? (--addr sets another address)` + "\n"
		if r.code != 1 || r.stdout != "" || r.stderr != want {
			t.Errorf("%s: exit code %d, want 1\nstdout: %s\nstderr: %s\n  want: %s", verb, r.code, r.stdout, r.stderr, want)
		}
	}
}
