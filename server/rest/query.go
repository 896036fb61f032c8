package rest

import (
	"net/url"
	"regexp"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// The library has one parser for the whole process, and it ignores unknown keys. The parser is set here, before the API
// is made, because an embedded etcd also uses the library and may read it earlier.
func init() { runtime.SetQueryParameterParser(strictQuery{})(nil) }

// strictQuery refuses keys that the library's parser would ignore: a Delete with misspelled backends must not delete
// from all of them. Messages of other packages are left to the library.
type strictQuery struct{ runtime.DefaultQueryParser }

// Parse implements [runtime.QueryParameterParser].
func (p strictQuery) Parse(m proto.Message, values url.Values, filter *utilities.DoubleArray) error {
	d := m.ProtoReflect().Descriptor()
	if d.ParentFile().Package() == snapshotdv1.File_snapshotd_v1_snapshot_service_proto.Package() {
		for key := range values {
			if err := checkKey(d, key, filter); err != nil {
				return err
			}
		}
	}
	return p.DefaultQueryParser.Parse(m, values, filter)
}

var mapKey = regexp.MustCompile(`^(.*)\[.*\]$`)

// checkKey returns why a key of a query is not a field that the message may have there.
func checkKey(d protoreflect.MessageDescriptor, key string, filter *utilities.DoubleArray) error {
	name, bracketed := key, false
	if match := mapKey.FindStringSubmatch(key); match != nil {
		name, bracketed = match[1], true
	}
	path, field := resolve(d, name)
	switch {
	case field == nil:
		return snapshot.Invalid(key, "the request has no such field")
	case field.IsMap() != bracketed:
		return snapshot.Invalid(key, "write a label as labels[KEY]=VALUE, and other fields without brackets")
	case filter.HasCommonPrefix(path):
		return snapshot.Invalid(key, "the path or the body has it already")
	}
	return nil
}

// resolve returns the field of a dotted name, and the names on the way to it as the .proto files have them; nil when
// there is no such field.
func resolve(d protoreflect.MessageDescriptor, name string) (path []string, field protoreflect.FieldDescriptor) {
	for part := range strings.SplitSeq(name, ".") {
		if d == nil {
			return nil, nil
		}
		if field = d.Fields().ByJSONName(part); field == nil {
			field = d.Fields().ByName(protoreflect.Name(part))
		}
		if field == nil {
			return nil, nil
		}
		path = append(path, string(field.Name()))
		d = field.Message()
	}
	return path, field
}
