// Package restore makes a data directory of etcd from a snapshot on a backend, with nothing but the backend: no service, no
// catalog, no etcd that runs.
package restore
