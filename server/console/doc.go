// Package console is the page for the person on call: its parts, and the little that it needs beside the API.
//
// The page has no data in it. It asks the API under /v1/ for the clusters, the snapshots and the events, changes them
// through it with the role of its caller, and judges nothing: the verdicts are those of ClusterService.
package console
