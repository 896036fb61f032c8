// Package server turns requests into calls of the domain and back: the gRPC service with health and reflection on one
// port, metrics and probes over HTTP on another.
//
// A handler parses, calls and converts; what it returns as an error becomes a status in one place, where it is also
// logged.
package server
