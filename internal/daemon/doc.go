// Package daemon is the composition root: it builds everything that a configuration asks for, runs it, and brings it down
// in order.
package daemon
