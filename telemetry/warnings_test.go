package telemetry_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

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
