// Package console is the page for the person on call: its parts, and the verdict on each cluster.
//
// The page changes nothing and has no data in it. It asks the API under /v1/ for the list and the events, and the
// service for the [Overview] with the verdicts, which are computed here and not in the browser so that tests hold them.
package console
