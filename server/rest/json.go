package rest

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/encoding/protojson"
)

// Content types of the API over HTTP.
const (
	jsonType   = "application/json"
	streamType = "application/x-ndjson"
)

// jsonLines writes each message as a line of JSON, in the form of the command line's -o json: fields that are not set
// appear with their zero value. An unknown field of a request is an error.
type jsonLines struct{ runtime.JSONPb }

var (
	_ runtime.Marshaler         = (*jsonLines)(nil)
	_ runtime.Delimited         = (*jsonLines)(nil)
	_ runtime.StreamContentType = (*jsonLines)(nil)
)

func newJSONLines() *jsonLines {
	return &jsonLines{runtime.JSONPb{MarshalOptions: protojson.MarshalOptions{EmitDefaultValues: true}}}
}

// Marshal implements [runtime.Marshaler]. The library's JSON has random spaces.
func (l *jsonLines) Marshal(v any) ([]byte, error) {
	b, err := l.JSONPb.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode the answer: %w", err)
	}
	var out bytes.Buffer
	if err := json.Compact(&out, b); err != nil {
		return nil, fmt.Errorf("encode the answer: %w", err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// Delimiter implements [runtime.Delimited]: a line ends with a newline already.
func (*jsonLines) Delimiter() []byte { return nil }

// ContentType implements [runtime.Marshaler].
func (*jsonLines) ContentType(any) string { return jsonType }

// StreamContentType implements [runtime.StreamContentType].
func (*jsonLines) StreamContentType(any) string { return streamType }
