package server_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/snapshotd/snapshotd/cluster"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server"
	"github.com/snapshotd/snapshotd/snapshot"
)

func TestVerifyStreamsProgressAndTheVerdict(t *testing.T) {
	rec := &snapshot.Record{Snapshot: snapshot.Snapshot{
		Name:         "x",
		Verification: &snapshot.Verification{Level: snapshot.LevelChecksum, Passed: true, Backends: []string{"s3"}},
	}}
	damaged := snapshot.ReasonChecksumMismatch.New("damaged").On("s3")
	var fail error
	r := run(t, server.Config{},
		&fakeCluster{name: "prod", verify: func(_ context.Context, req cluster.VerifyRequest) (*snapshot.Record, error) {
			if req.Name != "x" || req.Level != snapshot.LevelChecksum || req.Backend != "s3" {
				t.Errorf("the request became %+v", req)
			}
			req.Progress("s3", 5, 10)
			return rec, fail
		}})
	ask := func() (last *snapshotdv1.VerifyResponse, n int, err error) {
		stream, err := r.client(t).Verify(t.Context(), &snapshotdv1.VerifyRequest{Name: "x", Backend: "s3"})
		if err != nil {
			t.Fatal(err)
		}
		for {
			m, err := stream.Recv()
			if err != nil {
				return last, n, err
			}
			if n++; n == 1 && (m.GetBackend() != "s3" || m.GetDoneBytes() != 5 || m.GetTotalBytes() != 10) {
				t.Errorf("the progress is %v", m)
			}
			last = m
		}
	}
	last, n, err := ask()
	if v := last.GetSnapshot().GetVerification(); !errors.Is(err, io.EOF) || n != 2 ||
		v.GetState() != snapshotdv1.Verification_STATE_PASSED || v.GetLevel() != snapshotdv1.Verification_LEVEL_CHECKSUM {
		t.Errorf("%d messages, the last one %v, %v", n, last, err)
	}
	fail = damaged
	_, _, err = ask()
	if d := checkError(t, err, codes.DataLoss, snapshot.ReasonChecksumMismatch); d.Snapshot.GetVerification() == nil {
		t.Errorf("the error does not carry the verdict: %v", err)
	}
}

// One snapshot of a cluster is verified at a time: a client that is connected and reads nothing must not delay the next
// one.
func TestACallerThatReadsNothingHoldsNoVerificationUp(t *testing.T) {
	ended := make(chan struct{})
	r := run(t, server.Config{},
		&fakeCluster{name: "prod", verify: func(_ context.Context, req cluster.VerifyRequest) (*snapshot.Record, error) {
			defer close(ended)
			req.Progress(strings.Repeat("x", 1<<20), 1, 2) // more than is sent to a client that does not read
			return &snapshot.Record{Snapshot: snapshot.Snapshot{Name: "x"}}, nil
		}})
	if _, err := r.client(t).Verify(t.Context(), &snapshotdv1.VerifyRequest{Name: "x"}); err != nil {
		t.Fatal(err)
	}
	wait(t, ended, "the end of the verification")
}
