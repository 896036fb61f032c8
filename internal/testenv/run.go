package testenv

import (
	"flag"
	"strconv"
	"testing"
)

// waiting is how many tests of a package run at once that wait for servers most of the time.
const waiting = 6

// RunWaiting is for the TestMain of a package whose parallel tests wait for servers, for retries and for leases that
// run out. More of them run at once than there are processors, unless -parallel says otherwise. Servers that tests
// share end with it.
func RunWaiting(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		if err := f.Value.Set(strconv.Itoa(waiting)); err != nil {
			panic(err)
		}
	}
	m.Run()
	stopShared()
}
