// Package s3 keeps snapshots in a bucket of S3, or of a server that speaks its protocol.
//
// Servers and proxies differ from S3. Answers that break the protocol are refused before the SDK reads them, and an
// upload counts only when its object was seen. docs/stores.md lists the differences and the parameters that help.
//
// Objects are uploaded by the SDK's transfer manager. They are read by code of this package: the manager's own reader
// (v0.4.3) was tried with the same tests and failed. It gives up where a connection broke. Where a server does not know
// If-Match, it gives the bytes of another object, or too few bytes, without an error. It allocated 20 times the memory
// at a fifth of the speed.
package s3
