// Package keep merges the segments of a journal into those of higher levels, and removes those that no snapshot needs.
//
// Nothing is removed before what makes up for it was read back from the backend and compared.
package keep
