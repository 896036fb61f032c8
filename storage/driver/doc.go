// Package driver is the contract between package storage and a kind of storage. A kind is one package beside this one:
// it has a [Kind] that describes its URLs and makes its [Store], and one line in storage's table of schemes.
//
// Package storage checks keys, opens spans, bounds calls that hang, and turns errors into the domain's. A kind stores
// and reads, and says of its own errors how they are to be understood.
package driver
