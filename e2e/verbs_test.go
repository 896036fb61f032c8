//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// client speaks gRPC to the service.
func (s *service) client() snapshotdv1.SnapshotServiceClient {
	s.t.Helper()
	conn, err := grpc.NewClient(s.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	return snapshotdv1.NewSnapshotServiceClient(conn)
}

// result is the result of a command.
type result struct {
	stdout, stderr string
	code           int
}

// run runs a client verb against the service.
func (s *service) run(args ...string) result {
	s.t.Helper()
	return s.runContext(context.Background(), args...)
}

func (s *service) runContext(ctx context.Context, args ...string) result {
	s.t.Helper()
	return command(ctx, s.t, s.path, append(args, "--addr", s.grpc)...)
}

// must runs a client verb that has to exit with code 0 and returns its standard output.
func (s *service) must(args ...string) string {
	s.t.Helper()
	r := s.run(args...)
	if r.code != 0 {
		s.t.Fatalf("snapshotd %v: exit code %d\n%s%s", args, r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

func command(ctx context.Context, t *testing.T, path string, args ...string) result {
	t.Helper()
	plantAll(nil, args)
	cmd := exec.CommandContext(ctx, path, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("run %s %v: %v", path, args, err)
	}
	printsNoSecret(t, fmt.Sprint("the command ", args), stdout.String()+stderr.String())
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// snap is a snapshot as JSON output shows it.
type snap struct {
	Name            string
	State           string
	CreateTime      time.Time
	Labels          map[string]string
	Error           string
	Revision        int64 `json:",string"`
	TotalKeys       int64 `json:",string"`
	DbSizeBytes     int64 `json:",string"`
	StoredSizeBytes int64 `json:",string"`
	Sha256          string
	StoredSha256    string
	Hash            uint32

	EncryptionRecipients []string
	Verification         struct {
		Level, State, Error string
		Time                time.Time
	}
	Locations []location
}

type location struct {
	Backend, Kind, Uri, State, Error string
	SizeBytes                        int64 `json:",string"`
}

// list returns all snapshots of the catalog.
func (s *service) list() []snap {
	s.t.Helper()
	var l struct{ Snapshots []snap }
	decode(s.t, s.must("list", "-o", "json"), &l)
	return l.Snapshots
}

type reconciliation struct {
	Backends []struct {
		Backend                                                              string
		Listed, Unchanged, Added, Updated, Removed, Repaired, Swept, Foreign int64 `json:",string"`
		Error                                                                *struct{ Message string }
	}
}

func (s *service) reconcile(args ...string) (reconciliation, result) {
	s.t.Helper()
	r := s.run(append([]string{"reconcile", "-o", "json"}, args...)...)
	var rec reconciliation
	if r.stdout != "" {
		decode(s.t, r.stdout, &rec)
	}
	return rec, r
}

// save takes a snapshot and returns its name.
func (s *service) save(args ...string) string {
	s.t.Helper()
	return decodeSave(s.t, s.must(append([]string{"save", "-o", "json"}, args...)...)).Name
}

// locations returns the location and state of each snapshot, such as "local READY, s3 FAILED", by name.
func (s *service) locations() map[string]string {
	s.t.Helper()
	all := map[string]string{}
	for _, sn := range s.list() {
		var at []string
		for _, l := range sn.Locations {
			at = append(at, l.Backend+" "+strings.TrimPrefix(l.State, "STATE_"))
		}
		slices.Sort(at)
		all[sn.Name] = strings.TrimPrefix(sn.State, "STATE_") + ": " + strings.Join(at, ", ")
	}
	return all
}

// decodeSave reads the output of save -o json.
func decodeSave(t *testing.T, doc string) snap {
	t.Helper()
	var resp struct{ Snapshot snap }
	decode(t, doc, &resp)
	return resp.Snapshot
}
