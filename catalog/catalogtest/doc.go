// Package catalogtest is what the domain relies on in a catalog, as tests for any implementation of [snapshot.Catalog].
package catalogtest
