package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel"

	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/telemetry"
)

func TestLogsLeaveWithTheirTrace(t *testing.T) {
	for _, protocol := range []string{"", "grpc"} {
		t.Run("protocol="+protocol, func(t *testing.T) {
			clearEnv(t)
			otlp := testenv.StartOTLP(t)
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp.HTTP)
			if protocol == "grpc" {
				t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp.GRPC)
				t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
			}
			tel := start(t, telemetry.Config{Node: "node-1"})
			var written strings.Builder
			level := &slog.HandlerOptions{Level: slog.LevelInfo}
			log := slog.New(tel.SlogHandler(slog.NewTextHandler(&written, level))).With("cluster", "prod")
			ctx, span := otel.Tracer("test").Start(callerContext(t.Context()), "save")
			log.DebugContext(ctx, "below the level")
			log.WarnContext(ctx, "snapshot is partial", "backend", "s3", "error", errors.New("access denied"))
			span.End()
			log.InfoContext(t.Context(), "no span")
			shutdown(t, tel)

			r := otlp.WaitRecord(t, "snapshot is partial")
			if r.TraceID != remoteTrace || r.SpanID != span.SpanContext().SpanID().String() || r.Severity != "WARN" {
				t.Errorf("the record is %+v", r)
			}
			for key, want := range map[string]string{"cluster": "prod", "backend": "s3", "exception.message": "access denied"} {
				if r.Attributes[key] != want {
					t.Errorf("%s is %q, want %q", key, r.Attributes[key], want)
				}
			}
			if r.Resource["service.name"] != "snapshotd" || r.Resource["service.instance.id"] != "node-1" {
				t.Errorf("the resource is %v", r.Resource)
			}
			if other := otlp.WaitRecord(t, "no span"); other.TraceID != "" {
				t.Errorf("a record without a span has the trace %s", other.TraceID)
			}
			if n := len(otlp.Records()); n != 2 {
				t.Errorf("there are %d records: %+v", n, otlp.Records())
			}
			if lines := strings.Count(written.String(), "\n"); lines != 2 || !strings.Contains(written.String(), remoteTrace) {
				t.Errorf("the log on standard error has\n%s", written.String())
			}
		})
	}
}

// A value that hides itself from the log is hidden from the collector, too.
type hidden string

func (hidden) LogValue() slog.Value { return slog.StringValue("(hidden)") }

func TestWhatIsHiddenInTheLogDoesNotLeave(t *testing.T) {
	clearEnv(t)
	otlp := testenv.StartOTLP(t)
	t.Setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", otlp.HTTP+"/v1/logs")
	tel := start(t, telemetry.Config{})
	log := slog.New(tel.SlogHandler(slog.NewTextHandler(io.Discard, nil)))
	log.Info("connected", "password", hidden("very secret"), slog.Group("user", "token", hidden("very secret")))
	shutdown(t, tel)
	otlp.WaitRecord(t, "connected")
	if all := fmt.Sprintf("%+v", otlp.Records()); strings.Contains(all, "very secret") || !strings.Contains(all, "(hidden)") {
		t.Errorf("what left is %s", all)
	}
	if len(otlp.Spans()) != 0 {
		t.Error("the endpoint of logs takes traces")
	}
}

func TestLogsLeaveOnlyWhenTheyAreOn(t *testing.T) {
	for _, tc := range []struct {
		name, value string
		leave       bool
	}{
		{"OTEL_SERVICE_NAME", "snapshotd", true},
		{"OTEL_LOGS_EXPORTER", "otlp", true},
		{"OTEL_LOGS_EXPORTER", "none", false},
		{"OTEL_LOGS_EXPORTER", "console", false}, // unknown: a warning
		{"OTEL_SDK_DISABLED", "true", false},
	} {
		t.Run(tc.name+"="+tc.value, func(t *testing.T) {
			clearEnv(t)
			otlp := testenv.StartOTLP(t)
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp.HTTP)
			t.Setenv(tc.name, tc.value)
			var said strings.Builder
			warnings := slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelWarn})
			tel := start(t, telemetry.Config{Logger: slog.New(warnings)})
			slog.New(tel.SlogHandler(slog.NewTextHandler(io.Discard, nil))).Info("something")
			shutdown(t, tel)
			if left := len(otlp.Records()) > 0; left != tc.leave {
				t.Errorf("logs left: %v, want %v", left, tc.leave)
			}
			if warned := strings.Contains(said.String(), "logs are not exported"); warned != (tc.value == "console") {
				t.Errorf("warned: %v\n%s", warned, said.String())
			}
		})
	}
	clearEnv(t)
	next := slog.NewTextHandler(io.Discard, nil)
	if tel := start(t, telemetry.Config{}); tel.SlogHandler(next) != telemetry.LogHandler(next) {
		t.Error("without an endpoint, there is more than the log on standard error")
	}
}

// The collector takes connections and requests, and never answers. More records than the queue holds are logged before
// it is let go.
func TestACollectorThatHangsHoldsNoLogUp(t *testing.T) {
	clearEnv(t)
	asked, answer := make(chan struct{}, 1), make(chan struct{})
	collector := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		select {
		case asked <- struct{}{}:
		default:
		}
		<-answer
	}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", collector.URL)
	tel := start(t, telemetry.Config{})
	var lines lineCounter
	log := slog.New(tel.SlogHandler(slog.NewTextHandler(&lines, nil)))
	log.Info("first")
	select {
	case <-asked:
	case <-time.After(time.Minute):
		t.Fatal("the collector was not asked")
	}
	for range 5000 {
		log.Info("further")
	}
	if lines != 5001 {
		t.Errorf("the log on standard error has %d lines", lines)
	}
	close(answer)
	shutdown(t, tel)
}

type lineCounter int

func (n *lineCounter) Write(b []byte) (int, error) {
	*n++
	return len(b), nil
}

// A complaint about a dead collector is not sent to it, and is not repeated within a minute.
func TestADeadCollectorOfLogsIsReportedOnce(t *testing.T) {
	clearEnv(t)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = lis.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://"+lis.Addr().String())
	t.Setenv("OTEL_BLRP_SCHEDULE_DELAY", "1")
	t.Setenv("OTEL_BLRP_EXPORT_TIMEOUT", "50")
	var said testenv.Buffer
	tel, err := telemetry.Start(t.Context(), telemetry.Config{Logger: slog.New(slog.NewTextHandler(&said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(tel.SlogHandler(slog.NewTextHandler(io.Discard, nil)))
	const complaint = "telemetry was not delivered"
	for deadline := time.Now().Add(time.Minute); !strings.Contains(said.String(), complaint); {
		log.Info("something")
		if time.Now().After(deadline) {
			t.Fatal("nobody is told that logs are not delivered")
		}
	}
	for range 3 {
		otel.Handle(errors.New("traces are not delivered"))
		otel.Handle(errors.New("logs are not delivered"))
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tel.Shutdown(ended); err == nil {
		t.Error("Shutdown says that everything was delivered")
	}
	for _, what := range []string{"traces are not delivered", "logs are not delivered"} {
		if n := strings.Count(said.String(), what); n != 1 {
			t.Errorf("%q was said %d times", what, n)
		}
	}
}
