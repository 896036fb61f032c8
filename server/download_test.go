package server_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/cluster/downloading"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server"
	"github.com/snapshotd/snapshotd/snapshot"
)

// brokenAfter reads available bytes, and then fails.
type brokenAfter struct {
	io.Reader
	err error
}

func (b brokenAfter) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF && b.err != nil {
		err = b.err
	}
	return n, err
}

// opened is a download that a test looks at.
type opened struct {
	io.Reader
	closed atomic.Bool
}

func (o *opened) Close() error { o.closed.Store(true); return nil }

func TestDownloadStreamsTheHeaderAndTheBytes(t *testing.T) {
	content := bytes.Repeat([]byte("x"), 1<<20+1)
	damaged := snapshot.ReasonChecksumMismatch.New("damaged").On("s3")
	for _, fail := range []error{nil, damaged, io.ErrUnexpectedEOF} {
		from := &opened{Reader: brokenAfter{bytes.NewReader(content), fail}}
		r := run(t, server.Config{}, &fakeCluster{name: "prod",
			download: func(_ context.Context, req cluster.DownloadRequest) (*downloading.Download, error) {
				if req != (cluster.DownloadRequest{Name: "x", Backend: "s3", Decoded: true, Offset: 7}) {
					t.Errorf("the request became %+v", req)
				}
				return downloading.New(from, downloading.Download{
					Name: "x", Backend: "s3", Size: 9, SHA256: "ab", SHA256Bytes: 8, FileName: "x.db",
				}), nil
			}})
		stream, err := r.client(t).Download(t.Context(), &snapshotdv1.DownloadRequest{
			Name: "x", Backend: "s3", Decoded: true, Offset: 7,
		})
		if err != nil {
			t.Fatal(err)
		}
		m, err := stream.Recv()
		if h := m.GetHeader(); err != nil || h.GetCluster() != "prod" || h.GetTotalBytes() != 9 || h.GetSha256Bytes() != 8 ||
			h.GetFileName() != "x.db" || !h.GetDecoded() {
			t.Errorf("the header is %v, %v", m, err)
		}
		var got []byte
		for err == nil {
			if m, err = stream.Recv(); err == nil {
				got = append(got, m.GetData()...)
			}
		}
		switch {
		case !bytes.Equal(got, content):
			t.Errorf("got %d bytes", len(got))
		case fail == nil && !errors.Is(err, io.EOF), fail != nil && errors.Is(err, io.EOF):
			t.Errorf("after %v: %v", fail, err)
		case errors.Is(fail, damaged):
			checkError(t, err, codes.DataLoss, snapshot.ReasonChecksumMismatch)
		}
		if !from.closed.Load() {
			t.Error("it was not closed")
		}
	}
}

// endless gives bytes for ever, and says when it was closed.
type endless struct{ closed chan struct{} }

func (e endless) Read(p []byte) (int, error) { return len(p), nil }
func (e endless) Close() error               { close(e.closed); return nil }

// Few downloads are read at a time: a client that is connected and takes nothing gives up its place.
func TestADownloadThatNobodyTakesIsClosed(t *testing.T) {
	from := endless{make(chan struct{})}
	r := run(t, server.Config{StallTimeout: 50 * time.Millisecond},
		&fakeCluster{name: "prod", download: func(context.Context, cluster.DownloadRequest) (*downloading.Download, error) {
			return downloading.New(from, downloading.Download{Name: "x", Backend: "s3"}), nil
		}})
	stream, err := r.client(t).Download(t.Context(), &snapshotdv1.DownloadRequest{Name: "x"})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, from.closed, "the end of the reading")
	for err == nil { // the client comes back
		_, err = stream.Recv()
	}
	checkError(t, err, codes.ResourceExhausted, snapshot.ReasonSlowConsumer)
}
