package conformance

import (
	"testing"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/repository"
)

// Catalog is a catalog under test by its ports, and the powers of its operator.
type Catalog struct {
	Records cluster.Records
	Saves   cluster.Saves
	History cluster.History
	Stores  repository.Stores

	ExpireLocks func() // ends the locks that are held, as if their holders had not renewed them in time
	Compact     func() // forgets all revisions before the current one

	Spoil func(name string) // puts something else in the place of a record, also of one that does not exist
	Wipe  func(name string) // removes it again
}

// Run runs the tests. open returns an empty catalog.
func Run(t *testing.T, open func(t *testing.T) Catalog) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, c Catalog)
	}{
		{"a record is read back as it was created", testCreate},
		{"a record is copied in and out", testCopies},
		{"a name is created once", testCreateOnce},
		{"an update needs the version that was read", testUpdate},
		{"a removal needs the version that was read", testRemove},
		{"of two writers one wins", testRace},
		{"a scan is in the order of the backends' listings", testScan},
		{"a list is newest first", testList},
		{"pages show one state of the catalog", testPages},
		{"filters choose", testFilters},
		{"a page token belongs to its query", testPageToken},
		{"a page token expires with a compaction", testPageTokenExpires},
		{"a request id leads to the newest save", testRequestID},
		{"one of fifty gets the lock", testLock},
		{"a lock that expires is lost", testLockExpires},
		{"the holder of the lock tells how far the save is", testTold},
		{"a store is remembered", testStore},
		{"changes come in order, also after a break", testChanges},
		{"a slow reader of changes misses none", testSlowFollower},
		{"a reader waits for changes until its context ends", testFollowerWaits},
		{"changes can be left", testFollowerLeaves},
		{"changes after a revision that is still to come are refused", testFutureRevision},
		{"changes before a compaction are refused", testCompactedRevision},
		{"a cancelled call says so", testCancelled},
		{"a record that cannot be read is an error, and stays", testBadRecord},
		{"the others are scanned beside a record that cannot be read", testScanBeside},
		{"the others are listed beside a record that cannot be read", testListBeside},
		{"the others are followed beside a record that cannot be read", testChangesBeside},
		{"a request whose record cannot be read is made again", testRequestOfBadRecord},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}
