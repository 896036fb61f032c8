package etcd

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/grpc"

	"github.com/snapshotd/snapshotd/internal/span"
	"github.com/snapshotd/snapshotd/snapshot"
)

// snapshotStream is etcd's stream as the reader uses it; it receives blobs.
type snapshotStream interface {
	RecvMsg(m any) error
}

// reader reads the bytes of etcd's stream. One goroutine reads; any goroutine may close it.
type reader struct {
	ctx      context.Context //nolint:containedctx // the stream's own: its cause says why the stream ended
	cancel   context.CancelCauseFunc
	span     *span.Span
	stream   snapshotStream
	conn     *grpc.ClientConn
	endpoint string
	why      func(error) string

	// authorized makes a call with the token of the configured user.
	authorized func(ctx context.Context, conn *grpc.ClientConn, call func(ctx context.Context) error) error

	blob  blob // of the last message
	bytes atomic.Int64
	end   error // the result of Read from now on
	close sync.Once
}

var errClosed = errors.New("it was closed")

// Read returns after each message of etcd, also after an empty one: etcd may send empty messages for ever when it
// cannot read its database, and only the caller knows how long to wait.
func (r *reader) Read(p []byte) (int, error) {
	if r.blob.left == 0 && r.end == nil {
		r.receive()
	}
	n := r.blob.read(p)
	r.bytes.Add(int64(n))
	if r.blob.left > 0 {
		return n, nil
	}
	return n, r.end
}

func (r *reader) receive() {
	err := r.stream.RecvMsg(&r.blob)
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		r.end = io.EOF
	default:
		why := r.why(err)
		if cause := context.Cause(r.ctx); cause != nil {
			why = cause.Error()
		}
		r.end = snapshot.ReasonEtcdUnavailable.
			New("read the snapshot of %s: the stream ended after %d bytes", r.endpoint, r.bytes.Load()).
			Because(errors.New(why)).Advise("save again: another member may give it")
		r.span.Fail(r.end)
	}
}

// answers returns nil when the member answers, be it with an error. The serializable read goes through the member's
// database: during a defragmentation the status alone may be answered.
func (r *reader) answers(ctx context.Context) error {
	_ = r.authorized(ctx, r.conn, func(ctx context.Context) error {
		_, err := etcdserverpb.NewMaintenanceClient(r.conn).Status(ctx, &etcdserverpb.StatusRequest{})
		if err == nil {
			_, err = etcdserverpb.NewKVClient(r.conn).Range(ctx, &etcdserverpb.RangeRequest{
				Key: []byte{0}, Limit: 1, KeysOnly: true, Serializable: true,
			})
		}
		return err
	})
	return context.Cause(ctx)
}

// Close ends the stream and its connection.
func (r *reader) Close() error {
	r.close.Do(func() {
		r.cancel(errClosed)
		_ = r.conn.Close()
		r.span.SetAttributes(attribute.Int64("bytes", r.bytes.Load()))
		r.span.End(nil)
	})
	return nil
}
