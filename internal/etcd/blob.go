package etcd

import (
	"encoding/binary"
	"errors"
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// blobField is the number of SnapshotResponse.blob, the only field that is used.
const blobField = 3

// blob is the part of the database in a message of etcd's stream, still in the buffers in which it arrived. protobuf's
// decoding would copy every byte twice, into memory that is garbage right after.
type blob struct {
	buffers mem.Reader
	left    int // bytes of the blob that are not read yet
}

// read reads available bytes; 0 when there are none.
func (b *blob) read(p []byte) int {
	n, _ := b.buffers.Read(p[:min(len(p), b.left)]) // its only error is io.EOF
	if b.left -= n; b.left == 0 {
		_ = b.buffers.Close()
	}
	return n
}

// unmarshal finds the blob in a message and keeps the buffers until it is read. The rest of an earlier blob is dropped.
func (b *blob) unmarshal(message mem.BufferSlice) error {
	fields := message.Reader()
	defer func() { _ = fields.Close() }()
	at, size := 0, 0
	for fields.Remaining() > 0 {
		field, n, err := next(fields)
		if err == nil && n > uint64(fields.Remaining()) {
			err = errors.New("it is cut off")
		}
		if err != nil {
			return fmt.Errorf("a message of the snapshot stream is malformed: %w", err)
		}
		if field == blobField {
			at, size = message.Len()-fields.Remaining(), int(n)
		}
		_, _ = fields.Discard(int(n)) // the size was checked
	}
	b.buffers.Reset(message)
	_, _ = b.buffers.Discard(at) // the size was checked
	b.left = size
	return nil
}

// next reads the tag of a field, and returns how many bytes of it follow.
func next(r *mem.Reader) (field protowire.Number, n uint64, err error) {
	tag, err := binary.ReadUvarint(r)
	if err != nil {
		return 0, 0, err
	}
	field, kind := protowire.DecodeTag(tag)
	switch kind {
	case protowire.VarintType:
		_, err = binary.ReadUvarint(r)
	case protowire.BytesType:
		n, err = binary.ReadUvarint(r)
	case protowire.Fixed32Type:
		n = 4
	case protowire.Fixed64Type:
		n = 8
	default:
		err = fmt.Errorf("field %d has the type %d", field, kind)
	}
	if field == blobField && kind != protowire.BytesType {
		err = errors.New("the blob is not made of bytes")
	}
	return field, n, err
}

// codec is protobuf's codec, except for blobs.
type codec struct{ encoding.CodecV2 }

var blobs = codec{encoding.GetCodecV2(proto.Name)}

// Unmarshal implements [encoding.CodecV2].
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if b, ok := v.(*blob); ok {
		return b.unmarshal(data)
	}
	return c.CodecV2.Unmarshal(data, v)
}
