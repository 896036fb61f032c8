package etcd

import (
	"encoding/binary"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/snapshotd/snapshotd/journal/segment"
)

// recordOf returns the record that an event was made of, byte for byte as etcd has stored it. The place of an event
// within its revision is the record's sub-revision.
func recordOf(ev *mvccpb.Event, sub int64) segment.Record {
	kv := ev.GetKv()
	if ev.GetType() == mvccpb.Event_DELETE {
		// The revision in the event was added when it was sent; what is stored has the key alone.
		return segment.Record{Sub: sub, Tombstone: true, Value: appendBytes(nil, 1, kv.GetKey())}
	}
	value := make([]byte, 0, len(kv.GetKey())+len(kv.GetValue())+6*(1+binary.MaxVarintLen64))
	value = appendBytes(value, 1, kv.GetKey())
	value = appendVarint(value, 2, kv.GetCreateRevision())
	value = appendVarint(value, 3, kv.GetModRevision())
	value = appendVarint(value, 4, kv.GetVersion())
	value = appendBytes(value, 5, kv.GetValue())
	value = appendVarint(value, 6, kv.GetLease())
	return segment.Record{Sub: sub, Value: value}
}

// Fields with the zero value are left out, as etcd's encoder does.

func appendBytes(b []byte, field protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
}

func appendVarint(b []byte, field protowire.Number, v int64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), uint64(v))
}
