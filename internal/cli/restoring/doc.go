// Package restoring has the command restore, which makes a data directory of etcd from a backend alone. Its name is not
// that of the command: internal/restore, which does the work, has it.
package restoring
