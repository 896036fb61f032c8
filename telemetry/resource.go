package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/sdk/resource"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// serviceName is the name of the service in traces unless OTEL_SERVICE_NAME is set.
const serviceName = "snapshotd"

// newResource describes the sender of the telemetry. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES have the last word.
// An error may come with a resource that lacks a part.
func newResource(ctx context.Context, cfg Config) (*resource.Resource, error) {
	who := []resource.Option{
		resource.WithTelemetrySDK(),
		resource.WithHost(),
		resource.WithAttributes(semconv.ServiceName(serviceName)),
	}
	if cfg.ServiceVersion != "" {
		who = append(who, resource.WithAttributes(semconv.ServiceVersion(cfg.ServiceVersion)))
	}
	if cfg.Node != "" {
		who = append(who, resource.WithAttributes(semconv.ServiceInstanceID(cfg.Node)))
	}
	return resource.New(ctx, append(who, resource.WithFromEnv())...)
}
