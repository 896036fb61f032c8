package etcd_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/snapshotd/snapshotd/internal/etcd"
)

// TestDeadlinesStayHere: a call ends at its deadline, and its headers, which HTTP/2 remembers, are the same each time.
func TestDeadlinesStayHere(t *testing.T) {
	t.Parallel()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	called, ended := make(chan bool, 2), make(chan error, 2)
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		_, told := stream.Context().Deadline()
		called <- told
		<-stream.Context().Done()
		ended <- context.Cause(stream.Context())
		return nil
	}))
	go func() { _ = server.Serve(lis) }()
	defer server.Stop()
	conn, err := etcd.New(etcd.Config{Endpoints: []string{"http://" + lis.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	client, err := conn.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func(context.Context) error{
		"a question": func(ctx context.Context) error {
			_, err := client.Get(ctx, "key")
			return err
		},
		"a stream": func(ctx context.Context) error {
			stream, err := etcdserverpb.NewLeaseClient(client.ActiveConnection()).LeaseKeepAlive(ctx)
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		err := call(ctx)
		cancel()
		if status.Code(err) != codes.DeadlineExceeded && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s ends with %v, want that its deadline is over", name, err)
		}
		if <-called {
			t.Errorf("etcd was told the deadline of %s", name)
		}
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("etcd is told of the end of %s by %v, want that it was cancelled", name, err)
		}
	}
}

// A member whose disk hangs answers its status, and its HashKV never.
func TestAHashThatDoesNotComeIsAnError(t *testing.T) {
	t.Parallel()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		if method, _ := grpc.MethodFromServerStream(stream); method != etcdserverpb.Maintenance_Status_FullMethodName {
			<-stream.Context().Done()
			return context.Cause(stream.Context())
		}
		if err := stream.RecvMsg(&etcdserverpb.StatusRequest{}); err != nil {
			return err
		}
		return stream.SendMsg(&etcdserverpb.StatusResponse{
			Header: &etcdserverpb.ResponseHeader{ClusterId: 1, MemberId: 1}, Version: "3.7.0", Leader: 1,
		})
	}))
	go func() { _ = server.Serve(lis) }()
	defer server.Stop()
	conn := connect(t, etcd.Config{Endpoints: []string{"http://" + lis.Addr().String()}})
	_, err = etcd.NewSource(conn, etcd.SourceConfig{HashTimeout: 200 * time.Millisecond}).HashKV(t.Context(), 1)
	if err == nil || !strings.Contains(err.Error(), "no answer within 200ms") {
		t.Errorf("the error is %v", err)
	}
}

// An etcd that is slow is not asked for nothing but logins: after one that is late, the call is made with the token at hand.
func TestALoginThatIsLateKeepsNoCallFromEtcd(t *testing.T) {
	t.Parallel()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var logins, reads atomic.Int32
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(stream)
		switch {
		case method == etcdserverpb.Auth_Authenticate_FullMethodName && logins.Add(1) == 1:
			return stream.SendMsg(&etcdserverpb.AuthenticateResponse{Token: "one"})
		case method == etcdserverpb.KV_Range_FullMethodName && reads.Add(1) > 1:
			return stream.SendMsg(&etcdserverpb.RangeResponse{Header: &etcdserverpb.ResponseHeader{}})
		}
		<-stream.Context().Done()
		return context.Cause(stream.Context())
	}))
	go func() { _ = server.Serve(lis) }()
	defer server.Stop()
	conn := connect(t, etcd.Config{Endpoints: []string{"http://" + lis.Addr().String()}, User: "root", Password: "secret"})
	client, err := conn.Client(t.Context())
	must(t, err)
	for i, answered := range []bool{false, false, true} { // the first read and the second login are late
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if answered {
			cancel()
			ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		}
		_, err := client.Get(ctx, "a")
		cancel()
		if (err == nil) != answered {
			t.Errorf("read %d: %v", i+1, err)
		}
	}
	if logins.Load() != 2 || reads.Load() != 2 {
		t.Errorf("etcd saw %d logins and %d reads", logins.Load(), reads.Load())
	}
}
