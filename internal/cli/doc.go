// Package cli is the command line of snapshotd, one file for each command. serve runs the service. restore, and verify
// and list with --from, read a directory or a bucket by themselves. Every other command calls a service over gRPC and
// knows nothing of its inside.
//
// Results go to standard output, all else to standard error. The exit codes are a promise: 0 done, 1 failed, 2 usage, 3
// partial, 4 damaged, 5 busy, 6 not found, 130 interrupted.
package cli
