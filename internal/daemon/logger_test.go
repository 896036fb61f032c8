package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"go.opentelemetry.io/otel/trace"

	"github.com/snapshotd/snapshotd/internal/config"
)

func TestLogHasLevelFormatAndTraceID(t *testing.T) {
	var out bytes.Buffer
	var level slog.LevelVar
	level.Set(slog.LevelWarn)
	log := newLogger(newHandler(&out, "json", &level), nil)
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
	level.Set(slog.LevelDebug)
	newLogger(newHandler(&out, "text", &level), nil).Debug("this")
	if !strings.Contains(out.String(), "level=DEBUG msg=this") {
		t.Errorf("got %s", out.String())
	}
}

// The S3 client prints with the log package. The default logger of slog takes that over.
func TestWhatLibrariesPrintIsInTheLog(t *testing.T) {
	before := slog.Default()
	t.Cleanup(func() { slog.SetDefault(before) })
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	settings := config.AddFlags(flags)
	dir := t.TempDir()
	args := []string{
		"--listen-grpc", "127.0.0.1:0", "--listen-http", "127.0.0.1:0", "--data-dir", dir, "--log-format", "json",
		"--etcd-endpoints", "127.0.0.1:1", "--backend", "local=file://" + dir,
	}
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(config.Source{Flags: settings, Getenv: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	svc, err := New(Config{Config: cfg, Log: &out})
	if err != nil {
		t.Fatal(err)
	}
	if err := svc.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	slog.Warn("printed by a library")
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if err := svc.Run(stopped); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), `"level":"WARN","msg":"printed by a library"`) {
		t.Errorf("the log says\n%s", &out)
	}
}
