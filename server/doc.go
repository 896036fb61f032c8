// Package server turns requests into calls of the domain and back: the gRPC service with health and reflection on one
// port; on another, over HTTP, metrics, probes, the console, and the same API as JSON, which goes on to the gRPC service.
//
// A handler parses, calls and converts; what it returns as an error becomes a status in one place, where it is also
// logged.
package server
