// Package proving checks the journal of a cluster while it is not needed yet: before each snapshot, the journal must
// make it of a snapshot before, and a random revision of the recovery window must be one that an etcd starts with.
package proving
