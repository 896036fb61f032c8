package catalog

import (
	"context"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxAnswer bounds the memory of one answer. 500 records with the most labels take 12 MB; whoever can write to etcd can
// make each of them 1.5 MiB, and etcd itself has no limit for a range.
const maxAnswer = 16 << 20

// bounded returns an etcd whose answers are not larger than maxAnswer; a larger one is an error for which tooLarge is
// true.
func (c *Catalog) bounded(client *clientv3.Client) clientv3.KV {
	return clientv3.NewKVFromKVClient(boundedKV{clientv3.RetryKVClient(client), c.maxAnswer}, client)
}

type boundedKV struct {
	pb.KVClient
	most int // bytes of an answer
}

// Range implements [pb.KVClient].
func (b boundedKV) Range(ctx context.Context, in *pb.RangeRequest, opts ...grpc.CallOption) (*pb.RangeResponse, error) {
	return b.KVClient.Range(ctx, in, append(opts, grpc.MaxCallRecvMsgSize(b.most))...)
}

// Txn implements [pb.KVClient].
func (b boundedKV) Txn(ctx context.Context, in *pb.TxnRequest, opts ...grpc.CallOption) (*pb.TxnResponse, error) {
	return b.KVClient.Txn(ctx, in, append(opts, grpc.MaxCallRecvMsgSize(b.most))...)
}

// tooLarge reports whether an answer was larger than it may be.
func tooLarge(err error) bool {
	return status.Code(err) == codes.ResourceExhausted &&
		strings.Contains(status.Convert(err).Message(), "larger than max")
}
