package conformance

import (
	"testing"

	"github.com/snapshotd/snapshotd/repository"
)

// Subject is a backend without any objects, and the means of a test behind its back. All but the backend may be nil;
// tests that need one of them are then skipped.
type Subject struct {
	Backend repository.Backend

	// Leftovers returns the temporary files and unfinished uploads that writers left.
	Leftovers func(t *testing.T) []string
	// Plant leaves behind the temporary file or unfinished upload of a writer of key that was killed.
	Plant func(t *testing.T, key string)
	// Stock puts many small objects, faster than the backend does it.
	Stock func(t *testing.T, keys []string)
	// Vanish removes the directory or bucket of the backend.
	Vanish func(t *testing.T)
	// Steps returns the files and directories that were made durable since its last call, in order.
	Steps func() []Step
}

// Step is a file or directory that was made durable.
type Step struct {
	Directory bool  // or the file
	Size      int64 // of the file
	Visible   bool  // the object was there under its key at that time
}

// Run runs all tests, at once. newSubject is called once for each.
func Run(t *testing.T, newSubject func(t *testing.T) Subject) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Subject)
	}{
		{"what was put is there", testRoundTrip},
		{"a range of it is there", testRanges},
		{"an object that is replaced while it is read is no mixture", testReplacedWhileRead},
		{"a reader can be cancelled and closed", testGetCancelled},
		{"keys may have any printable characters", testKeys},
		{"put replaces at once", testReplace},
		{"a put tells what was taken", testTaken},
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
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, newSubject(t))
		})
	}
}
