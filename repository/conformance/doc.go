// Package conformance holds the promises of the port [repository.Backend] against an implementation.
package conformance
