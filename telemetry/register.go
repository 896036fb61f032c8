package telemetry

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/metric"
)

// register collects the errors of making instruments, which only a wrong name can cause.
type register struct {
	meter metric.Meter
	kept  *kept // of the gauges and counters that it makes itself
	errs  []error
}

func (r *register) err() error { return errors.Join(r.errs...) }

func made[T any](r *register, instrument T, err error) T {
	r.errs = append(r.errs, err)
	return instrument
}

func (r *register) seconds(name, help string) *kind[float64] {
	k := kindOf[float64](r.kept)
	_, err := r.meter.Float64ObservableGauge(name, metric.WithUnit("s"), metric.WithDescription(help),
		metric.WithFloat64Callback(func(_ context.Context, to metric.Float64Observer) error {
			k.observe(to.Observe)
			return nil
		}))
	return made(r, k, err)
}

func (r *register) gauge(name, unit, help string) *kind[int64] {
	k := kindOf[int64](r.kept)
	_, err := r.meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(help), observed(k))
	return made(r, k, err)
}

func (r *register) counter(name, help string) *kind[int64] {
	k := kindOf[int64](r.kept)
	_, err := r.meter.Int64ObservableCounter(name, metric.WithDescription(help), observed(k))
	return made(r, k, err)
}

func observed(k *kind[int64]) metric.Int64ObservableOption {
	return metric.WithInt64Callback(func(_ context.Context, to metric.Int64Observer) error {
		k.observe(to.Observe)
		return nil
	})
}
