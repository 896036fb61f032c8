// Package daemon puts the service together: it builds everything that a configuration asks for, runs it, and stops it
// in order.
package daemon
