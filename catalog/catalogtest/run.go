package catalogtest

import (
	"testing"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Run runs the tests. open returns an empty catalog; the same one when it is called again within a test.
func Run(t *testing.T, open func(t *testing.T) snapshot.Catalog) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, c snapshot.Catalog)
	}{
		{"a record is read back as it was created", testCreate},
		{"a name is created once", testCreateOnce},
		{"an update needs the version that was read", testUpdate},
		{"a removal needs the version that was read", testRemove},
		{"of two writers one wins", testRace},
		{"a scan is in the order of the backends' listings", testScan},
		{"a list is newest first", testList},
		{"pages show one state of the catalog", testPages},
		{"filters choose", testFilters},
		{"a page token belongs to its query", testPageToken},
		{"a request id leads to the newest save", testRequestID},
		{"one of fifty gets the lock", testLock},
		{"a store is remembered", testStore},
		{"changes come in order, also after a break", testChanges},
		{"who reads changes slowly misses none", testSlowFollower},
		{"changes can be left", testFollowerLeaves},
		{"changes after a revision that is still to come are refused", testFutureRevision},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}
