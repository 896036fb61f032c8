package testenv

import (
	"flag"
	"strconv"
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv/tempdir"
)

// waiting is how many tests of a package run at once that wait for servers most of the time.
const waiting = 12

// RunWaiting is for the TestMain of a package whose parallel tests wait for servers, for retries and for leases that
// run out. More of them run at once than there are processors, unless -parallel says otherwise. Servers that tests
// share end with it. Temporary files are in memory where there is room.
func RunWaiting(m *testing.M) {
	remove := tempdir.InMemory()
	RunWaitingOnDisk(m)
	remove()
}

// RunWaitingOnDisk is [RunWaiting] for tests of restores and drills, which make logs of 128 MB: a disk allocates them
// sooner than memory is cleared.
func RunWaitingOnDisk(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		if err := f.Value.Set(strconv.Itoa(waiting)); err != nil {
			panic(err)
		}
	}
	m.Run()
	stopShared()
}
