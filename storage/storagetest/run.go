package storagetest

import (
	"testing"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Subject is a backend without any objects, and what a test can do behind its back. Everything but the backend may be nil;
// what needs it is then left out.
type Subject struct {
	Backend snapshot.Backend

	// Leftovers returns what writers left that is no object: temporary files, unfinished uploads.
	Leftovers func(t *testing.T) []string
	// Plant leaves behind what a writer of key leaves that is killed.
	Plant func(t *testing.T, key string)
	// Vanish takes away what the backend is on: the directory, the bucket.
	Vanish func(t *testing.T)
	// Steps returns what was made durable since it was called last, in order.
	Steps func() []Step
}

// Step is that something was made durable.
type Step struct {
	Directory bool  // or the file
	Size      int64 // of the file
	Visible   bool  // the object was there under its key at that time
}

// Run runs all tests. newSubject is called once for each.
func Run(t *testing.T, newSubject func(t *testing.T) Subject) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Subject)
	}{
		{"what was put is there", testRoundTrip},
		{"a range of it is there", testRanges},
		{"a reader can be cancelled and closed", testGetCancelled},
		{"keys may have any printable characters", testKeys},
		{"put replaces at once", testReplace},
		{"a put whose reader breaks off leaves nothing", testBrokenReader},
		{"a put that is cancelled leaves nothing", testCancelled},
		{"a put that replaces and fails leaves the old object", testFailedReplace},
		{"a put at once by many leaves one of them", testConcurrentPuts},
		{"if absent", testIfAbsent},
		{"what does not exist is not found", testNotFound},
		{"delete", testDelete},
		{"list in order, one level", testList},
		{"list many", testListMany},
		{"list can be stopped and cancelled", testListStopped},
		{"sweep", testSweep},
		{"sync, then show, then sync the directory", testDurable},
		{"what vanished is an error and not empty", testVanished},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, newSubject(t)) })
	}
}
