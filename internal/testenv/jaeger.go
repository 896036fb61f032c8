package testenv

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"testing"
)

// Jaeger is a real Jaeger in a process of its own, which keeps traces in memory.
type Jaeger struct {
	OTLP string // endpoint for the protocol grpc, with its scheme

	tb    testing.TB
	query string // URL of its API
}

// StartJaeger starts a Jaeger, and ends it with the test.
func StartJaeger(tb testing.TB) *Jaeger {
	tb.Helper()
	otlp, query, admin := freeAddr(tb), freeAddr(tb), freeAddr(tb)
	args := []string{
		"--collector.otlp.grpc.host-port", otlp, "--query.http-server.host-port", query,
		"--admin.http.host-port", admin, "--log-level", "error",
	}
	for _, unused := range []string{
		"collector.otlp.http", "collector.grpc-server", "collector.http-server", "query.grpc-server",
	} {
		args = append(args, "--"+unused+".host-port", freeAddr(tb))
	}
	cmd := exec.Command(Tool(tb, "jaeger", "github.com/jaegertracing/jaeger/cmd/all-in-one"), args...)
	runServer(tb, "Jaeger", cmd)
	j := &Jaeger{tb: tb, OTLP: "http://" + otlp, query: "http://" + query}
	eventually(tb, "Jaeger is ready", func(context.Context) error { return j.get("http://"+admin+"/", nil) })
	return j
}

// JaegerTrace is a trace as Jaeger shows it.
type JaegerTrace struct {
	TraceID   string
	Spans     []JaegerSpan
	Processes map[string]struct{ ServiceName string }
}

// JaegerSpan is a span of it.
type JaegerSpan struct {
	SpanID, OperationName, ProcessID string
	References                       []struct{ RefType, TraceID, SpanID string }
	Tags                             []struct {
		Key   string
		Value any
	}
}

// Tag returns the value of a tag; nil when there is none.
func (s *JaegerSpan) Tag(key string) any {
	for _, t := range s.Tags {
		if t.Key == key {
			return t.Value
		}
	}
	return nil
}

// Traces returns the traces with a span of that service and operation that has all of these tags.
func (j *Jaeger) Traces(service, operation string, tags map[string]string) []JaegerTrace {
	j.tb.Helper()
	wanted, err := json.Marshal(tags)
	if err != nil {
		j.tb.Fatal(err)
	}
	var answer struct{ Data []JaegerTrace }
	query := url.Values{"service": {service}, "operation": {operation}, "tags": {string(wanted)}}
	if err := j.get(j.query+"/api/traces?"+query.Encode(), &answer); err != nil {
		j.tb.Fatalf("ask Jaeger for traces: %v", err)
	}
	return answer.Data
}

func (j *Jaeger) get(address string, answer any) error {
	resp, err := http.Get(address)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	if err != nil || answer == nil {
		return err
	}
	return json.Unmarshal(body, answer)
}
