// Package check has the small helpers of tests that every package needs. It links no server, unlike the rest of
// testenv.
package check

import (
	"bytes"
	"fmt"
	"os"
	"testing"
	"time"
)

// OK ends the test when there is an error.
func OK(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// limit is how long [Eventually] waits: a test that has to wait that long has failed.
const limit = time.Minute

// Eventually waits until something is done. what says until when, for the test that waits in vain.
func Eventually(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(limit)
	for !done() {
		select {
		case <-tick.C:
		case <-late:
			tb.Fatalf("waiting until %s", what)
		}
	}
}

// RSSAnon returns the resident anonymous memory of this process in bytes. It skips the test where the kernel does not
// tell.
func RSSAnon(tb testing.TB) int64 {
	tb.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		tb.Skip("there is no /proc here")
	}
	var kib int64
	_, after, _ := bytes.Cut(status, []byte("RssAnon:"))
	if _, err := fmt.Sscan(string(after), &kib); err != nil {
		tb.Skip("the kernel does not tell RssAnon")
	}
	return kib << 10
}
