package service

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/snapshotd/snapshotd/internal/config"
)

func TestLogHasLevelFormatAndTraceID(t *testing.T) {
	var out bytes.Buffer
	log, err := NewLogger(&out, config.Log{Level: "warn", Format: "json"})
	if err != nil {
		t.Fatal(err)
	}
	sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
	ctx := trace.ContextWithSpanContext(t.Context(), sc)
	log.InfoContext(ctx, "not this")
	log.WarnContext(ctx, "this")
	var record map[string]any
	if err := json.Unmarshal(out.Bytes(), &record); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	if record["msg"] != "this" || record["trace_id"] != sc.TraceID().String() {
		t.Errorf("got %v", record)
	}
	out.Reset()
	log, err = NewLogger(&out, config.Log{Level: "debug", Format: "text"})
	if err != nil {
		t.Fatal(err)
	}
	log.Debug("this")
	if !strings.Contains(out.String(), "level=DEBUG msg=this") {
		t.Errorf("got %s", out.String())
	}
}
