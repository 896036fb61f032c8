// Package conformance tests that an implementation of the catalog keeps the promises of its ports: [cluster.Records],
// [cluster.Saves], [cluster.History] and [repository.Stores].
package conformance
