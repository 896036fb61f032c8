// Package server turns requests into calls of the domain and back. One port serves gRPC: the service with health and
// reflection. Another one serves HTTP: metrics, probes, the console, and the same API as JSON, which package rest hands
// on to the gRPC service.
//
// A handler parses, calls and converts. Its error becomes a status in one place, where it is also logged.
package server
