// Package e2e tests the program as its users meet it: the binary, real etcd members, a real S3 server, and the public
// tools that check the outcome (etcdutl, zstd's format, grpcurl, promtool). Its tests need the build tag e2e:
//
//	go test -tags e2e -count=1 ./e2e
//
// SNAPSHOTD_E2E_BYTES sets the size of the database (256 MiB by default), SNAPSHOTD_E2E_OBJECTS the number of snapshots
// in a bucket (2,000 by default), SNAPSHOTD_E2E_KILLS how often the service is killed at each step (2 by default),
// SNAPSHOTD_E2E_ROUNDS how often a save is measured beside its peers (not at all by default). SNAPSHOTD_ORACLE_SECONDS
// is how long clusters are changed at random under faults, one after the other and as many at once as -parallel says
// (120 by default), and SNAPSHOTD_RPO_DEATHS how often a service is killed or its machine is lost (12 by default). With
// SNAPSHOTD_OUTAGES, outages are drilled with the alerts as they are shipped, in 20 minutes (docs/reliability.md). With
// SNAPSHOTD_JAEGER, a trace is sent to a Jaeger, whose first build takes eight minutes of processor time. With
// SNAPSHOTD_APISERVER, manifests and chart are applied to a real API server of Kubernetes, likewise.
// SNAPSHOTD_OLD_BINARY is the program of an older version, for a fleet of both (docs/development.md).
package e2e
