// Package status judges clusters: how well their snapshots would serve in a disaster, why, and what helps. It is the
// one source of the verdicts of the API, the console and the command line, and knows only what it is told.
package status
