// Package telemetry shows snapshotd to the outside: metrics for Prometheus; traces, the log and the same metrics over
// OTLP; and trace ids in the log.
//
// Three meter providers feed one scrape, because they promise different labels:
//
//   - the six histograms of K3s, whose only label is status and whose names take the configured prefix;
//   - the metrics under snapshotd_, labelled with the cluster;
//   - those of the libraries, through OpenTelemetry's global provider, with the labels of their instrumentation scope:
//     several of them tell their series apart by nothing else.
//
// The standard OTEL_* variables alone decide which signals leave over OTLP; without them nothing is dialled.
package telemetry
