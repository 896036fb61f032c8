package etcd

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// split cuts a message into buffers, as it arrives in frames of any size.
func split(message []byte, r *rand.Rand) mem.BufferSlice {
	var s mem.BufferSlice
	for len(message) > 0 {
		n := 1 + r.IntN(len(message))
		s = append(s, mem.Copy(message[:n], mem.DefaultBufferPool()))
		message = message[n:]
	}
	return s
}

// readAll reads a blob in pieces of any size.
func readAll(b *blob, r *rand.Rand) []byte {
	var all []byte
	for b.left > 0 {
		p := make([]byte, 1+r.IntN(5000))
		all = append(all, p[:b.read(p)]...)
	}
	return all
}

func TestBlobIsWhatProtobufSees(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var b blob
	for range 1000 {
		want := make([]byte, r.IntN(3)*r.IntN(20_000))
		for i := range want {
			want[i] = byte(r.Uint32())
		}
		message, err := proto.Marshal(&etcdserverpb.SnapshotResponse{
			Header:         &etcdserverpb.ResponseHeader{ClusterId: r.Uint64(), Revision: r.Int64N(100)},
			RemainingBytes: r.Uint64() >> r.IntN(64), Blob: want, Version: "3.7.3"[:r.IntN(6)],
		})
		if err != nil {
			t.Fatal(err)
		}
		s := split(message, r)
		if err := blobs.Unmarshal(s, &b); err != nil {
			t.Fatalf("%d bytes: %v", len(want), err)
		}
		s.Free()
		if r.IntN(10) == 0 {
			continue // the rest of it is dropped
		}
		if got := readAll(&b, r); !bytes.Equal(got, want) {
			t.Fatalf("it has %d bytes, want %d", len(got), len(want))
		}
		if n := b.read(make([]byte, 1)); n != 0 {
			t.Fatalf("%d bytes after the end", n)
		}
	}
}

// FuzzBlob: every message that protobuf accepts is read as protobuf reads it, and no message makes it crash.
func FuzzBlob(f *testing.F) {
	message, err := proto.Marshal(&etcdserverpb.SnapshotResponse{
		Header: &etcdserverpb.ResponseHeader{Revision: 7}, Blob: []byte("blob"), Version: "3.7.3",
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(message, uint64(1))
	f.Add(message[:len(message)-8], uint64(2))
	f.Add([]byte{0x1a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, uint64(3))
	f.Add([]byte{0x1a, 2, 'a', 'b', 0x1a, 1, 'c'}, uint64(4)) // the last one holds
	f.Fuzz(func(t *testing.T, message []byte, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		s := split(message, r)
		defer s.Free()
		var b blob
		err := blobs.Unmarshal(s, &b)
		var want etcdserverpb.SnapshotResponse
		if proto.Unmarshal(message, &want) != nil {
			return // protobuf is stricter with fields that are not used here
		}
		if err != nil {
			t.Skip(err) // groups, which etcd does not send
		}
		if got := readAll(&b, r); !bytes.Equal(got, want.GetBlob()) {
			t.Errorf("%q, want %q", got, want.GetBlob())
		}
	})
}
