// Package fault marks the steps of the save path, so that a test can kill the service at each of them. In a normal
// build a point does nothing; with the build tag faultpoints the process kills itself (SIGKILL) at the point that the
// variable SNAPSHOTD_FAULT_POINT names.
package fault
