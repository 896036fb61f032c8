// Package upkeep keeps a journal small on its backends: it merges segments into those of higher levels, and removes those
// that no snapshot needs.
//
// Nothing is removed before its replacement was read back from the backend and compared.
package upkeep
