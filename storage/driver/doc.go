// Package driver is the contract between package storage and a kind of storage. A kind is one package beside this one:
// it has a [Kind] that describes its URLs and makes its [Store], and one line in storage's table of schemes.
//
// Package storage checks keys, opens spans, bounds calls that hang, and turns errors into the domain's. A kind stores
// and reads, and says of its own errors how they are to be understood.
//
// A kind that is neither a directory nor speaks the protocol of S3 also needs a value of [snapshot.BackendKind], which
// is a part of the API. The histograms that are named as K3s' are exist for these two kinds alone; the other metrics
// have the backend's name, and count any kind.
package driver
