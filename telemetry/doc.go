// Package telemetry is how snapshotd is seen from outside: metrics for Prometheus, traces and the same metrics over OTLP,
// and trace ids in the log.
//
// Three meter providers feed one scrape, because what they promise about labels differs:
//
//   - the six histograms of K3s, whose only label is status and whose names take the configured prefix;
//   - the metrics under snapshotd_, labelled with the cluster;
//   - those of the libraries, through OpenTelemetry's global provider, with the labels of their instrumentation scope:
//     several of them tell their series apart by nothing else.
//
// What leaves over OTLP is decided by the standard OTEL_* variables alone; without them nothing is dialled.
package telemetry
