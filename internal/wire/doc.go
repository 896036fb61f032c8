// Package wire translates between the domain's types and the messages of the API: snapshots, events, reports, and
// errors as gRPC statuses with their details.
package wire
