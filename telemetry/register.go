package telemetry

import (
	"errors"

	"go.opentelemetry.io/otel/metric"
)

// register collects the errors of making instruments, which only a wrong name can cause.
type register struct {
	meter metric.Meter
	errs  []error
}

func (r *register) err() error { return errors.Join(r.errs...) }

func made[T any](r *register, instrument T, err error) T {
	r.errs = append(r.errs, err)
	return instrument
}

func (r *register) seconds(name, help string) metric.Float64Gauge {
	g, err := r.meter.Float64Gauge(name, metric.WithUnit("s"), metric.WithDescription(help))
	return made(r, g, err)
}

func (r *register) gauge(name, unit, help string) metric.Int64Gauge {
	g, err := r.meter.Int64Gauge(name, metric.WithUnit(unit), metric.WithDescription(help))
	return made(r, g, err)
}

func (r *register) counter(name, help string) metric.Int64Counter {
	c, err := r.meter.Int64Counter(name, metric.WithDescription(help))
	return made(r, c, err)
}
