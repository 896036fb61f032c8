package cli_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

func TestVerifyProvesWhatIsStored(t *testing.T) {
	dir, temp := t.TempDir(), t.TempDir()
	s := stored(t, "v1", dir)
	from := "file://" + dir
	verify := func(level string) result {
		t.Helper()
		return run(t.Context(), nil, "verify", s.Name, "--from", from, "--level", level, "--temp-dir", temp)
	}
	for level, want := range map[string]string{"checksum": "checksums are right",
		"structure": "every page and key was read", "drill": "HashKV"} {
		if r := verify(level); r.code != 0 || !strings.Contains(r.stdout, want) {
			t.Errorf("%s: exit code %d: %s%s", level, r.code, r.stdout, r.stderr)
		}
	}
	if r := run(t.Context(), nil, "verify", "latest", "--from", from, "-o", "json"); r.code != 0 ||
		!strings.Contains(r.stdout, s.SHA256) {
		t.Errorf("latest: exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	if r := run(t.Context(), nil, "verify", "x", "--from", from); r.code != 6 {
		t.Errorf("no such name: exit code %d: %s", r.code, r.stderr)
	}
	if r := verify("deeply"); r.code != 2 || !strings.Contains(r.stderr, "--level") {
		t.Errorf("no such level: exit code %d: %s", r.code, r.stderr)
	}

	// The bytes are right, and the manifest says something else of them.
	manifest := filepath.Join(dir, "default", s.Name+".json")
	doc, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(manifest, []byte(strings.Replace(string(doc), `"revision": "`, `"revision": "1`, 1)),
		0o600); err != nil {
		t.Fatal(err)
	}
	if r := verify("checksum"); r.code != 0 {
		t.Errorf("checksum of what only the manifest lies about: exit code %d: %s", r.code, r.stderr)
	}
	for _, level := range []string{"structure", "drill"} {
		if r := verify(level); r.code != 4 || !strings.Contains(r.stderr, "its manifest says") {
			t.Errorf("%s of what only the manifest lies about: exit code %d: %s", level, r.code, r.stderr)
		}
	}
	damage(t, dir, s.Name)
	for _, level := range []string{"checksum", "structure", "drill"} {
		if r := verify(level); r.code != 4 || !strings.Contains(r.stderr, "damaged") {
			t.Errorf("%s of a damaged one: exit code %d: %s", level, r.code, r.stderr)
		}
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestVerdictOfTheService(t *testing.T) {
	s := ready()
	s.Verification = &snapshot.Verification{
		Level: snapshot.LevelChecksum, Passed: true, Time: now.Add(-3 * time.Minute), Duration: time.Second,
		Backends: []string{"local", "s3"}, StoredOnly: true,
	}
	failed := func(r snapshot.Reason) error {
		return r.New("read it").Because(errors.New("no"))
	}
	for _, tc := range []struct {
		err            error
		code           int
		stdout, stderr string
	}{
		{stdout: "the database in it was not verified, for want of an identity"},
		{err: failed(snapshot.ReasonChecksumMismatch), code: 4, stderr: "error: read it: no\n"},
		{err: failed(snapshot.ReasonSnapshotUnreadable), code: 4, stderr: "error: read it: no\n"},
		{err: failed(snapshot.ReasonManifestUntrusted), code: 4, stderr: "error: read it: no\n"},
		{err: failed(snapshot.ReasonBackendUnavailable), code: 1, stderr: "error: read it: no\n"},
		{err: failed(snapshot.ReasonSnapshotNotFound), code: 6, stderr: "error: read it: no\n"},
	} {
		var got *snapshotdv1.VerifyRequest
		env := serve(t, &fake{
			list: func(context.Context, *snapshotdv1.ListRequest) (*snapshotdv1.ListResponse, error) {
				return &snapshotdv1.ListResponse{Snapshots: []*snapshotdv1.Snapshot{wire.SnapshotToProto(s)}}, nil
			},
			get: func(context.Context, *snapshotdv1.GetRequest) (*snapshotdv1.GetResponse, error) {
				return &snapshotdv1.GetResponse{Snapshot: wire.SnapshotToProto(s)}, nil
			},
			verify: func(r *snapshotdv1.VerifyRequest, stream grpc.ServerStreamingServer[snapshotdv1.VerifyResponse]) error {
				got = r
				_ = stream.Send(&snapshotdv1.VerifyResponse{Backend: "local", DoneBytes: 1, TotalBytes: 2})
				if tc.err != nil {
					return wire.Status(tc.err, "default", s).Err()
				}
				return stream.Send(&snapshotdv1.VerifyResponse{Snapshot: wire.SnapshotToProto(s)})
			},
		})
		r := run(t.Context(), env, "verify", "latest", "--backend", "s3")
		if r.code != tc.code || r.stderr != tc.stderr || !strings.Contains(r.stdout, tc.stdout) {
			t.Errorf("%v: exit code %d, %q, %q", tc.err, r.code, r.stdout, r.stderr)
		}
		if got.GetName() != s.Name || got.GetBackend() != "s3" || got.GetLevel() != snapshotdv1.Verification_LEVEL_CHECKSUM {
			t.Errorf("sent %v", got)
		}
		if r := run(t.Context(), env, "get", s.Name); !strings.Contains(r.stdout,
			"PASSED, CHECKSUM on local, s3, 3m ago, as it is stored") {
			t.Errorf("get: %s", r.stdout)
		}
	}
}

// A snapshot that a backend should hold and does not is not the latest there.
func TestLatestOnABackendIsWholeThere(t *testing.T) {
	var sizes []int32
	verified := ""
	env := serve(t, &fake{
		list: func(_ context.Context, r *snapshotdv1.ListRequest) (*snapshotdv1.ListResponse, error) {
			sizes = append(sizes, r.GetPageSize())
			s := ready()
			if r.GetPageToken() == "" {
				s = without(snapshot.StatePartial, "s3")
				s.Name = "newest"
				return &snapshotdv1.ListResponse{
					Snapshots: []*snapshotdv1.Snapshot{wire.SnapshotToProto(s)}, NextPageToken: "more",
				}, nil
			}
			return &snapshotdv1.ListResponse{Snapshots: []*snapshotdv1.Snapshot{wire.SnapshotToProto(s)}}, nil
		},
		verify: func(r *snapshotdv1.VerifyRequest, stream grpc.ServerStreamingServer[snapshotdv1.VerifyResponse]) error {
			verified = r.GetName()
			return stream.Send(&snapshotdv1.VerifyResponse{Snapshot: wire.SnapshotToProto(ready())})
		},
	})
	for backend, want := range map[string]string{"s3": ready().Name, "local": "newest"} {
		if r := run(t.Context(), env, "verify", "latest", "--backend", backend); r.code != 0 || verified != want {
			t.Errorf("%s: exit code %d, verified %q, want %q; %s", backend, r.code, verified, want, r.stderr)
		}
	}
	if r := run(t.Context(), env, "verify", "latest", "--backend", "tape"); r.code != 6 ||
		!strings.Contains(r.stderr, "whole on tape") {
		t.Errorf("exit code %d, want 6; %s", r.code, r.stderr)
	}
	if sizes[0] != 1 {
		t.Errorf("asked for %v: the newest is the one, as a rule", sizes)
	}
}
