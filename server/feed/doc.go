// Package feed hands the events of one cluster's catalog to any number of watchers, and watches the catalog once for
// all of them.
package feed
