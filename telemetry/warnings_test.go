package telemetry_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/telemetry"
)

// At level debug, the log is about snapshots, and not about the insides of the library; its warnings are seen at any
// level.
func TestTheLogHasTheWarningsOfOpenTelemetryAlone(t *testing.T) {
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo} {
		var log bytes.Buffer
		start(t, telemetry.Config{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level}))})
		if strings.Contains(log.String(), "created") {
			t.Errorf("%s: the log says\n%s", level, &log)
		}
		meter := otel.Meter("test", metric.WithInstrumentationAttributes(attribute.String("level", level.String())))
		for _, description := range []string{"one thing", "another"} { // two instruments of one name
			if _, err := meter.Int64Counter("twice", metric.WithDescription(description)); err != nil {
				t.Fatal(err)
			}
		}
		if !strings.Contains(log.String(), "level=WARN") {
			t.Errorf("%s: the log lacks the warning:\n%s", level, &log)
		}
	}
}

// The library repeats what it cannot read of its variables.
func TestTheLogHasNoSecretsOfTheVariables(t *testing.T) {
	for name, variables := range map[string]map[string]string{
		"a header as in HTTP": {"OTEL_EXPORTER_OTLP_HEADERS": "Authorization: Bearer hunter2"},
		"a key with a token":  {"OTEL_EXPORTER_OTLP_HEADERS": "Authorization: Bearer hunter2=="},
		"a value with a sign": {"OTEL_EXPORTER_OTLP_HEADERS": "tenant=x,authorization=hunter2%zz"},
		"an endpoint":         {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://u:hunter2%zz@127.0.0.1:1"},
	} {
		t.Run(name, func(t *testing.T) {
			clearEnv(t)
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
			for variable, value := range variables {
				t.Setenv(variable, value)
			}
			var log testenv.Buffer
			tel, err := telemetry.Start(t.Context(), telemetry.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			_ = tel.Shutdown(t.Context()) // there is no collector
			if said := log.String(); strings.Contains(said, "hunter2") || !strings.Contains(said, "<redacted>") {
				t.Errorf("the log:\n%s", said)
			}
		})
	}
}
