// Package console is the page for the person on call: what it is made of, and what it says of each cluster at a glance.
//
// The page changes nothing and has no data in it. It asks for what it shows: the API under /v1/ for the list and the events,
// and [Overview] for the verdicts, which are made here and not in the browser, where no test would hold them.
package console
