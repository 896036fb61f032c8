// Package storagetest holds what a [snapshot.Backend] promises against one that exists.
package storagetest
