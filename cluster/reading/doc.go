// Package reading brings one snapshot from an etcd member to the form in which it is stored: it copies the member's
// stream, inspects the database, compresses and encrypts it.
//
// It knows neither backends nor the catalog. The save that calls it owns the files, and decides in which order these
// steps run beside each other.
package reading
