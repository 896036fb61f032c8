// Package cli is the command line of snapshotd. Every verb but serve, config and version talks to a service over gRPC and
// knows nothing of how it works inside.
//
// Results go to standard output, all else to standard error. The exit codes are a promise: 0 done, 1 failed, 2 usage,
// 3 partial, 5 busy, 6 not found, 130 interrupted.
package cli
